"""One training at a time in a run's folder: another is refused, until the process that holds it ends or is killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.processes import entered_by_another_thread
from tests.support.tiny_recipe import TINY_RECIPE, draw_parts
from training.package import Naming
from training.pipeline import train
from training.run_lock import RunInUse, locked_run, refuse_run_in_use

ROOT = Path(__file__).parents[2]
TRAINING = """
import sys
from pathlib import Path
from tests.support.tiny_recipe import TINY_RECIPE
from training.package import Naming
from training.pipeline import train


def say(line):
    print(line, flush=True)
    if line.startswith("stage 2"):
        sys.stdin.read()  # a stage that takes long


train(TINY_RECIPE, Path("parts"), Path("run"), Path("first"), Naming("part", "1"), command="", say=say, workers=1)
"""
Start = Callable[[Path], "subprocess.Popen[str]"]


@pytest.fixture
def start_training() -> Iterator[Start]:
    """Starts a training in a folder, and returns when it is in its second stage, where it stays."""
    begun: list[subprocess.Popen[str]] = []

    def start(folder: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", TRAINING],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        begun.append(process)
        assert process.stdout is not None
        assert any(line.startswith("stage 2") for line in process.stdout)
        return process

    yield start
    for process in begun:
        process.kill()
        process.communicate()


def _train(folder: Path, version: str) -> None:
    train(
        TINY_RECIPE, folder / "parts", folder / "run", folder / version, Naming("part", version),
        command="", say=lambda _: None, workers=1,
    )  # fmt: skip


def test_a_second_training_in_one_run_is_refused_until_the_first_is_killed(
    tmp_path: Path, start_training: Start
) -> None:
    draw_parts(tmp_path / "parts")
    first = start_training(tmp_path)
    written = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(RunInUse) as refused:
        _train(tmp_path, "second")
    assert f"(process {first.pid} on {socket.gethostname()}, since 20" in str(refused.value)
    assert "give --run another folder" in str(refused.value)
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == written
    first.send_signal(signal.SIGKILL)
    first.wait()
    _train(tmp_path, "second")  # it goes on with what the first one left
    assert (tmp_path / "second/manifest.json").is_file()
    assert not (tmp_path / "run/in-use.json").exists()


def test_a_run_is_free_after_its_block_also_where_that_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked_run(tmp_path / "run"), locked_run(tmp_path / "run"):
        raise ZeroDivisionError
    refuse_run_in_use(tmp_path / "run")
    refuse_run_in_use(tmp_path / "none")
    assert not (tmp_path / "none").exists()  # to ask makes no folder


def test_another_thread_is_another_training(tmp_path: Path) -> None:
    refusals = []

    def ask() -> None:
        try:
            refuse_run_in_use(tmp_path)
        except RunInUse as refused:
            refusals.append(str(refused))

    with locked_run(tmp_path):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    assert len(refusals) == 1
    assert f"process {os.getpid()} on" in refusals[0]


def test_a_holder_that_has_not_said_who_it_is_is_refused_all_the_same(tmp_path: Path) -> None:
    with entered_by_another_thread(locked_run(tmp_path)):
        (tmp_path / "in-use.json").write_text("{", encoding="utf-8")
        with pytest.raises(RunInUse, match="its process is not known"), locked_run(tmp_path):
            pass
