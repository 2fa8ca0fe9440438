"""The whole road on tiny models: a folder of good images becomes a calibrated bundle, and the bundle is measured."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator

from model_store.bundle import Bundle, open_bundle
from model_store.manifest import calibration_digest
from tests.support.tiny_recipe import TINY_RECIPE, draw_parts
from training.data.dataset import good_split
from training.evaluation.evaluate import evaluate
from training.evaluation.tables import as_markdown
from training.package import Naming
from training.pipeline import train
from training.recipe import FeatureRecipe, Recipe
from training.run_identity import RunMismatch, claim_run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_parts(tmp_path_factory.mktemp("parts"))


def _train(data: Path, folder: Path, recipe: Recipe | FeatureRecipe = TINY_RECIPE) -> Bundle:
    return train(
        recipe, data, folder / "run", folder / "bundle", Naming("part", "1", "A part"),
        command="glad train tiny", say=lambda _: None, workers=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def bundle(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return _train(data, tmp_path_factory.mktemp("unbroken"))


def test_a_folder_of_good_images_becomes_a_calibrated_bundle(bundle: Bundle) -> None:
    found = open_bundle(bundle.path).manifest
    assert (found.product, found.version, found.title) == ("part", "1", "A part")
    assert found.thresholds.good_images == 5
    # 5 good images cannot promise 98 %: fail lies just above the largest score, and the manifest says so.
    assert found.thresholds.fail == pytest.approx(found.thresholds.good_scores[-1], abs=1e-5)
    assert all(found.thresholds.verdict(score - 1e-5) != "fail" for score in found.thresholds.good_scores)
    assert found.thresholds.calibrated_for == calibration_digest(found.settings, found.components)
    assert found.quality["calibration"]["conformal"] is False
    assert "5 good images" in found.quality["calibration"]["warning"]
    assert found.settings.trigger.delta == found.quality["calibration"]["trigger_peaks"]["delta"] != 9.0
    assert {component.dtype for component in found.components.values()} == {"float16"}
    assert found.provenance.command == "glad train tiny"
    sensitivity = found.quality["synthetic_sensitivity"]
    assert sensitivity["images"] == "5 images of calibration/good"
    assert {line["kind"] for line in sensitivity["lines"]} == {"spot"}
    run = bundle.path.parent / "run"
    tried = json.loads((run / "synthetic-sensitivity.json").read_text(encoding="utf-8"))["tried"]
    assert sum(line["all"]["anomalies"] for line in sensitivity["lines"]) == len(tried) > 0
    assert [one["found"] for one in tried] == [one["score"] >= round(found.thresholds.fail, 6) for one in tried]
    assert (run / "synthetic-sensitivity.png").read_bytes().startswith(b"\x89PNG")
    assert (run / "pictures" / "synthetic-anomalies.png").is_file()
    assert found.provenance.recipe["name"] == "tiny"


KEPT = {1: {"pairs"}, 5: {"pairs", "normal", "anomalous"}, 9: {"pairs", "normal", "anomalous", "reconstructions"}}
"""By the step at which a run is interrupted: the folders of what it has made of the images."""


@pytest.mark.parametrize("step", KEPT)  # in the autoencoder's, the UNet's and the features' training
def test_a_run_interrupted_in_any_stage_resumes_to_the_same_weights_and_thresholds(
    step: int, bundle: Bundle, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, backward = 0, Accelerator.backward

    def interrupted(self: Accelerator, loss: Any, **others: Any) -> None:
        nonlocal taken
        taken += 1
        if taken == step:
            signal.raise_signal(signal.SIGINT)
        backward(self, loss, **others)

    monkeypatch.setattr(Accelerator, "backward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _train(data, tmp_path)
    assert taken == step
    assert not (tmp_path / "bundle").exists()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.npz")}
    assert {path.parent.name for path in kept} == KEPT[step]
    resumed = _train(data, tmp_path)
    assert all(path.stat().st_mtime_ns == kept[path] for path in kept if "latents" in path.parts)
    assert taken == 3 + 4 + 3
    assert resumed.manifest.components == bundle.manifest.components
    assert resumed.manifest.calibration == bundle.manifest.thresholds
    assert resumed.manifest.settings == bundle.manifest.settings


def test_a_run_folder_of_another_recipe_is_refused(data: Path, bundle: Bundle) -> None:
    other = TINY_RECIPE.model_copy(update={"seed": TINY_RECIPE.seed + 1})
    with pytest.raises(RunMismatch, match=r"another recipe:\n  seed was 0 and is 1 now\nto go on"):
        _train(data, bundle.path.parent, other)


def test_a_run_that_an_earlier_version_began_goes_on(data: Path, tmp_path: Path) -> None:
    split = good_split(data, TINY_RECIPE.calibration.holdout, TINY_RECIPE.seed)
    claim_run(tmp_path, TINY_RECIPE, split)
    mark = tmp_path / "run.json"
    identity = json.loads(mark.read_text(encoding="utf-8"))
    identity["recipe"]["vae"] = identity["recipe"].pop("autoencoder")  # its name until then
    mark.write_text(json.dumps(identity), encoding="utf-8")
    claim_run(tmp_path, TINY_RECIPE, split)
    identity["recipe"]["vae"]["steps"] += 1
    mark.write_text(json.dumps(identity), encoding="utf-8")
    with pytest.raises(RunMismatch, match="another recipe"):
        claim_run(tmp_path, TINY_RECIPE, split)


def test_a_run_folder_does_not_go_on_with_other_images(data: Path, bundle: Bundle, tmp_path: Path) -> None:
    changed = tmp_path / "parts"
    shutil.copytree(data, changed)
    moved = _train(changed, tmp_path / "again")
    assert moved.manifest.components == bundle.manifest.components  # the same images elsewhere are the same
    (changed / "calibration/good/000.png").rename(changed / "train/good/zzz.png")
    with pytest.raises(RunMismatch, match="other images"):
        _train(changed, tmp_path / "again")


def test_a_bundle_is_measured_by_defect_with_every_image_in_its_row(bundle: Bundle, data: Path) -> None:
    found = evaluate(bundle.path, data, command="glad evaluate", workers=1)
    assert [(row.file, row.defect) for row in found.rows] == [
        ("test/good/000.png", "good"), ("test/good/001.png", "good"), ("test/good/002.png", "good"),
        ("test/hole/000.png", "hole"), ("test/hole/001.png", "hole"),
    ]  # fmt: skip
    by_score = [bundle.manifest.thresholds.verdict(row.score) for row in found.rows]
    assert [row.verdict for row in found.rows] == [
        "review" if row.gated else verdict for row, verdict in zip(found.rows, by_score, strict=True)
    ]
    assert bundle.manifest.gate is not None  # the training learned it; its good images are all fit
    assert [row.gated for row in found.rows if row.is_good] == [""] * 3
    assert found.figures["images"] == {"good": 3, "defect": 2}
    (hole,) = found.figures["by_defect"]
    assert (hole["defect"], hole["images"]) == ("hole", 2)
    wins = sum(a.score > b.score for a in found.rows[3:] for b in found.rows[:3])  # no ties: the definition of AUROC
    assert hole["image_auroc"]["value"] == pytest.approx(wins / 6)
    assert hole["image_auroc"]["low"] <= wins / 6 <= hole["image_auroc"]["high"]
    assert {"pixel", "image"} <= set(found.figures)
    assert "| hole | – | 2 |" in as_markdown(found.figures)


def test_good_images_alone_measure_false_rejects(bundle: Bundle, data: Path, tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "good").symlink_to(data / "test" / "good")
    found = evaluate(bundle.path, tmp_path, workers=1)
    failed = sum(row.verdict == "fail" for row in found.rows)
    assert found.figures["false_reject_rate"]["value"] == pytest.approx(failed / 3)
    assert "image" not in found.figures
    assert "pixel" not in found.figures
    text = as_markdown(found.figures)
    assert f"| false rejects of 3 good | {100 * failed / 3:.1f} |" in text
    assert "AUROC" not in text
