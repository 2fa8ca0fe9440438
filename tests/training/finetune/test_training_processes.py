"""Trainings as processes of their own: killed at any moment, or two that share a batch."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.processes import free_port
from tests.support.toy_training import STEPS, ToyTraining, train_as_one_of_two, train_until_killed
from training.finetune.curves import read_curve

WIDE = 10_000
"""Hidden units: a checkpoint of 1 MB takes longer than a step."""
MANY = 40
CHILDREN = get_context("forkserver")  # imports torch once, for all of them
CHILDREN.set_forkserver_preload(["tests.support.toy_training"])


@pytest.fixture
def start() -> Iterator[Callable[..., ForkServerProcess]]:
    begun: list[ForkServerProcess] = []

    def start(body: Callable[..., None], *given: Any) -> ForkServerProcess:
        begun.append(CHILDREN.Process(target=body, args=given, daemon=True))
        begun[-1].start()
        return begun[-1]

    yield start
    for process in begun:
        process.kill()
        process.join()


def _wait(until: Callable[[], object], process: ForkServerProcess) -> None:
    while not until():
        assert process.is_alive(), "the training ended before it was to be killed"
        time.sleep(0.0005)


def test_killed_again_and_again_also_while_it_writes_a_training_ends_in_the_same_weights(
    tmp_path: Path, start: Callable[..., ForkServerProcess]
) -> None:
    folder = tmp_path / "killed"
    written = folder / "stages/toy"

    def last() -> str:
        return max((path.name for path in written.glob("step-*")), default="")

    def is_writing_after(before: str) -> bool:
        return last() > before and any(written.glob("draft-*"))

    def kill_when(until: Callable[[], object]) -> None:
        process = start(train_until_killed, folder, MANY, WIDE)
        _wait(until, process)
        process.kill()
        process.join()

    kill_when((folder / "curves/toy.csv").exists)  # before the first checkpoint, or about then
    kill_when(lambda: last() >= "step-00000003")
    left: list[Path] = []
    while not left:  # in the middle of writing: the draft is still there
        before = last()
        kill_when(partial(is_writing_after, before))
        left = list(written.glob("draft-*"))
    assert last() < f"step-{MANY:08d}"
    resumed = ToyTraining(folder, steps=MANY, width=WIDE)
    assert resumed.stage.position > 3
    weights, unbroken = resumed.run(), ToyTraining(tmp_path / "unbroken", steps=MANY, width=WIDE).run()
    assert all(torch.equal(weights[name], weight) for name, weight in unbroken.items())
    assert [row[0] for row in read_curve(folder / "curves/toy.csv")] == list(range(MANY))


def _train_in_two(start: Callable[..., ForkServerProcess], folder: Path, stop_at: int = -1) -> list[dict[str, Any]]:
    port = free_port()
    for process in [start(train_as_one_of_two, folder, rank, port, stop_at) for rank in range(2)]:
        process.join(120)
        assert process.exitcode == 0
    return [json.loads((folder / f"end-{rank}.json").read_text()) for rank in range(2)]


def test_two_processes_learn_what_one_learns_with_the_same_batch(
    tmp_path: Path, start: Callable[..., ForkServerProcess]
) -> None:
    alone = ToyTraining(tmp_path / "alone").run()
    first, second = _train_in_two(start, tmp_path / "two")
    assert first == second
    for name, weight in alone.items():
        torch.testing.assert_close(torch.tensor(first["weights"][name]), weight, rtol=1e-4, atol=1e-6)
    curves = [[row[1] for row in read_curve(tmp_path / run / "curves/toy.csv")] for run in ("alone", "two")]
    assert curves[1] == pytest.approx(curves[0], rel=1e-5)  # the same sums in another order


def test_one_that_hears_ctrl_c_ends_with_the_other_after_the_same_step_and_one_process_goes_on(
    tmp_path: Path, start: Callable[..., ForkServerProcess], capfd: pytest.CaptureFixture[str]
) -> None:
    ends = _train_in_two(start, tmp_path / "two", stop_at=4)
    assert [end["taken"] for end in ends] == [list(range(5))] * 2
    (checkpoint,) = (tmp_path / "two/stages/toy").iterdir()
    assert checkpoint.name == "step-00000005"
    rest = ToyTraining(tmp_path / "two")
    rest.run()
    assert rest.taken == list(range(5, STEPS))
    assert capfd.readouterr().out.count("toy: ") <= 1  # the second process shows nothing
