"""Training loops: interrupted and resumed, they end with the very weights of an unbroken one."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from torch import nn

from training.finetune.stage import Stage

STEPS = 12


def _ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


def _nothing() -> None:
    pass


class _Loop:
    """A small training whose numbers depend on the stage's generators, the learning rate's course and Adam's memory."""

    def __init__(self, folder: Path, every_s: float = 1e9) -> None:
        torch.manual_seed(0)
        self.model = nn.Linear(3, 2)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.1)
        self.stage = Stage(
            folder, "toy", STEPS, {"model": self.model, "optimizer": self.optimizer}, seed=7, every_s=every_s
        )
        self.taken: list[int] = []

    def run(self, at: int = -1, happens: Callable[[], None] = _nothing) -> torch.Tensor:
        for step in self.stage:
            self.stage.set_learning_rate(self.optimizer, step, 0.1)
            inputs = torch.randn(4, 3, generator=self.stage.generator(step))
            loss = (self.model(inputs) ** 2).mean() + float(self.stage.rng(step).random())
            loss.backward()
            if step == at:
                happens()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.stage.log(float(loss.detach()))
            self.taken.append(step)
        return self.model.weight.detach().clone()


@pytest.fixture
def unbroken(tmp_path: Path) -> torch.Tensor:
    return _Loop(tmp_path / "unbroken").run()


@pytest.mark.parametrize("at", [0, 5, STEPS - 1])
def test_ctrl_c_ends_after_the_step_under_way_and_the_next_run_takes_the_others(
    tmp_path: Path, unbroken: torch.Tensor, at: int
) -> None:
    first, second = _Loop(tmp_path), None
    with pytest.raises(KeyboardInterrupt):
        first.run(at, _ctrl_c)
    second = _Loop(tmp_path)
    assert torch.equal(second.run(), unbroken)
    assert first.taken + second.taken == list(range(STEPS))


def test_a_second_ctrl_c_ends_at_once_and_the_last_checkpoint_stands(tmp_path: Path, unbroken: torch.Tensor) -> None:
    def twice() -> None:
        _ctrl_c()
        _ctrl_c()

    first = _Loop(tmp_path, every_s=0)  # a checkpoint after every step
    with pytest.raises(KeyboardInterrupt):
        first.run(6, twice)
    assert first.taken == [0, 1, 2, 3, 4, 5]
    second = _Loop(tmp_path)
    assert torch.equal(second.run(), unbroken)
    assert second.taken == list(range(6, STEPS))


def test_a_step_that_fails_is_taken_again_from_the_last_checkpoint(tmp_path: Path, unbroken: torch.Tensor) -> None:
    def fail() -> None:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        _Loop(tmp_path, every_s=0).run(6, fail)
    assert torch.equal(_Loop(tmp_path).run(), unbroken)


def test_ctrl_c_means_what_it_meant_before_once_a_loop_has_ended(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    _Loop(tmp_path / "whole").run()
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt):
        _Loop(tmp_path / "broken").run(3, _ctrl_c)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_loop_runs_outside_the_main_thread_too(tmp_path: Path, unbroken: torch.Tensor) -> None:
    found: list[torch.Tensor] = []
    thread = Thread(target=lambda: found.append(_Loop(tmp_path).run()))
    thread.start()
    thread.join()
    assert torch.equal(found[0], unbroken)


def test_a_finished_loop_takes_no_step_again(tmp_path: Path, unbroken: torch.Tensor) -> None:
    _Loop(tmp_path).run()
    again = _Loop(tmp_path)
    assert torch.equal(again.run(), unbroken)
    assert again.taken == []


class _FailsHalfway:
    """State whose writing fails in the middle of the checkpoint."""

    broken = False

    def __reduce__(self) -> Any:
        raise OSError("no space left on device")

    def state_dict(self) -> dict[str, Any]:
        return {"before": torch.zeros(1000), "bad": self} if self.broken else {"before": torch.zeros(1000)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        assert not state_dict["before"].any()


def test_a_crash_while_saving_keeps_the_previous_checkpoint(tmp_path: Path) -> None:
    state = _FailsHalfway()
    stage = Stage(tmp_path, "toy", STEPS, {"state": state}, seed=0)
    stage.position = 4
    stage.save()
    before = stage.path.read_bytes()
    state.broken, stage.position = True, 5
    with pytest.raises(OSError, match="no space left"):
        stage.save()
    assert stage.path.read_bytes() == before
    assert Stage(tmp_path, "toy", STEPS, {"state": _FailsHalfway()}, seed=0).position == 4


def test_a_steps_draws_depend_on_seed_stage_and_step_alone(tmp_path: Path) -> None:
    def draw(name: str, seed: int, step: int) -> float:
        return float(Stage(tmp_path, name, STEPS, {}, seed=seed).rng(step).random())

    assert draw("one", 0, 3) == draw("one", 0, 3)
    assert len({draw("one", 0, 3), draw("one", 0, 4), draw("one", 1, 3), draw("two", 0, 3)}) == 4


def test_the_learning_rate_rises_to_its_peak_and_falls_to_a_fiftieth_of_it(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "toy", 1000, {}, seed=0)
    rates = [stage.learning_rate(step, peak=1.0) for step in range(1000)]
    top = max(range(1000), key=rates.__getitem__)
    assert rates[0] == pytest.approx(0.01)  # a hundredth of the peak in the first of 100 warm-up steps
    assert 90 <= top <= 110
    assert 0.95 < rates[top] <= 1.0
    assert rates[-1] == pytest.approx(0.02, abs=1e-4)
