"""Of all that was measured the best is given back, the published weights among it."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from training.finetune.best_weights import BestWeights, Choice


def train(folder: Path, scores: list[float], steps: int | None = None) -> tuple[float, Choice]:
    """A loop whose weight is the number of its steps, and whose n-th measurement finds the n-th score."""
    module = nn.Linear(1, 1, bias=False)
    best = BestWeights(folder, module, lambda figures: figures["score"])
    for step in range(len(scores) if steps is None else steps):
        nn.init.constant_(module.weight, step)
        best.measure(step, lambda: {"score": scores[int(module.weight.item())]})
    choice = best.restore("the highest score", "step")
    return module.weight.item(), choice


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [([0.5, 0.9, 0.7], 1), ([0.5, 0.6, 0.7], 2), ([0.5, 0.4, 0.3], 0), ([0.5, 0.5, 0.5], 0)],
)
def test_the_published_weights_stay_unless_a_later_measurement_is_better(
    tmp_path: Path, scores: list[float], chosen: int
) -> None:
    weight, choice = train(tmp_path, scores)
    assert (weight, choice.chosen) == (chosen, chosen)
    assert choice.as_json()["measured"] == [{"step": place, "score": score} for place, score in enumerate(scores)]


def test_what_was_measured_before_a_stop_is_not_measured_again(tmp_path: Path) -> None:
    train(tmp_path, [0.5, 0.9, 0.7, 0.6], steps=3)
    names = ["best-00000001.safetensors", "choice.json", "measured.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    weight, choice = train(tmp_path, [0.1, 0.2, 0.3, 0.6])  # were they measured again, they would be these
    assert (weight, choice.chosen) == (1, 1)
    assert choice.measured == {0: {"score": 0.5}, 1: {"score": 0.9}, 2: {"score": 0.7}, 3: {"score": 0.6}}


def test_a_module_is_measured_in_evaluation_mode_and_trained_on_in_its_own(tmp_path: Path) -> None:
    module = nn.Linear(1, 1).train()
    best = BestWeights(tmp_path, module, lambda figures: figures["training"])
    best.measure(0, lambda: {"training": float(module.training)})
    assert best.restore("", "step").measured[0] == {"training": 0.0}
    assert module.training
