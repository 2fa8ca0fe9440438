"""Work on several processes: in order, and nothing left behind by Ctrl-C or a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from training.process_pool import parallel_map, process_count

ROOT = Path(__file__).parents[2]
SLOW_WORK = """
import signal, time
from training.process_pool import parallel_map
if __name__ == "__main__":
    # As at a terminal: the jobs that a shell starts with & ignore Ctrl-C, and so would what they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for _ in parallel_map(time.sleep, [0.05] * 2000, workers=2, chunk=16):
        print("one", flush=True)
"""
LARGE_RESULTS = SLOW_WORK.replace("time.sleep, [0.05] * 2000", "bytes, [2_000_000] * 20_000")
"""Its workers are nearly always in the middle of sending a result."""


def test_one_worker_is_this_process() -> None:
    assert set(parallel_map(_process_of, range(3), workers=1)) == {os.getpid()}


def _process_of(item: int) -> int:
    return os.getpid()


def test_results_come_in_order_from_other_processes() -> None:
    found = list(parallel_map(partial(pow, 2), range(10), workers=2, chunk=2))
    assert found == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]


def test_little_work_starts_no_process() -> None:
    assert list(parallel_map(_process_of, range(3), workers=8, chunk=4)) == [os.getpid()] * 3
    assert list(parallel_map(_process_of, [], workers=8)) == []


def test_fewer_than_one_process_is_refused() -> None:
    assert process_count(None) == os.cpu_count()
    with pytest.raises(ValueError, match="0 worker processes: give 1"):
        process_count(0)


@pytest.fixture
def at_work(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """A program with two worker processes in the middle of long work, in a process group of its own."""
    script = tmp_path / "work.py"
    script.write_text(getattr(request, "param", SLOW_WORK), encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "one\n"
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def test_ctrl_c_ends_all_processes_without_a_word_from_the_workers(at_work: subprocess.Popen[str]) -> None:
    os.killpg(at_work.pid, signal.SIGINT)  # as a terminal does: to the whole group
    _, told = at_work.communicate(timeout=120)  # ends when the last process has closed its output
    assert at_work.returncode == -signal.SIGINT
    assert told.count("Traceback") == 1  # the program's own KeyboardInterrupt
    assert "SpawnProcess" not in told
    _assert_group_is_gone(at_work.pid)


@pytest.mark.parametrize("at_work", [LARGE_RESULTS], indirect=True)
def test_ctrl_c_while_results_are_on_their_way_leaves_nobody_waiting_for_the_rest(
    at_work: subprocess.Popen[str],
) -> None:
    os.killpg(at_work.pid, signal.SIGINT)
    at_work.communicate(timeout=60)
    assert at_work.returncode == -signal.SIGINT
    _assert_group_is_gone(at_work.pid)


@pytest.mark.parametrize("pause_s", [0.0, 0.3])
def test_a_second_ctrl_c_ends_all_processes_too(at_work: subprocess.Popen[str], pause_s: float) -> None:
    os.killpg(at_work.pid, signal.SIGINT)
    time.sleep(pause_s)
    os.killpg(at_work.pid, signal.SIGINT)
    at_work.communicate(timeout=60)
    assert at_work.returncode == -signal.SIGINT
    _assert_group_is_gone(at_work.pid)


def test_what_a_worker_raises_ends_the_others_and_is_told() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        list(parallel_map(int, ["1", "x"] * 8, workers=2, chunk=2))


def test_workers_end_when_their_parent_is_killed(at_work: subprocess.Popen[str]) -> None:
    at_work.kill()
    at_work.communicate(timeout=120)
    assert at_work.returncode == -signal.SIGKILL
    _assert_group_is_gone(at_work.pid)


def _assert_group_is_gone(group: int) -> None:
    """The last process closes its output a moment before it is gone."""
    deadline = time.monotonic() + 30
    while (members := _members(group)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert members == []


def _members(group: int) -> list[list[str]]:
    stats = (_stat(path) for path in Path("/proc").glob("[0-9]*/stat"))
    return [stat for stat in stats if stat[2:3] == [str(group)] and stat[0] != "Z"]


def _stat(path: Path) -> list[str]:
    """State, parent, group, ... of a process; nothing if it ended meanwhile."""
    try:
        return path.read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return []
