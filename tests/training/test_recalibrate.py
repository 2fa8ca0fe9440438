"""`glad gate`: a quality gate for a bundle, as a new version of it; and what an evaluation says of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model_store.bundle import open_bundle
from tests.support.tiny_bundle import make_tiny_bundle
from tests.support.tiny_recipe import TINY_RECIPE, draw_parts
from training.evaluation.evaluate import evaluate
from training.evaluation.tables import as_markdown
from training.progress import silent
from training.recalibrate import recorded_recipes, relearn_gate


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return draw_parts(tmp_path / "parts")


def test_a_gate_makes_a_new_version_with_the_same_weights_settings_and_thresholds(tmp_path: Path, data: Path) -> None:
    old = open_bundle(make_tiny_bundle(tmp_path / "store"))
    target = tmp_path / "store" / "toy" / "2"
    made = relearn_gate(old.path, data, target, command="glad gate", progress=silent, workers=1)
    assert open_bundle(target).hash == made.hash != old.hash
    assert (made.manifest.settings, made.manifest.calibration) == (old.manifest.settings, old.manifest.calibration)
    assert made.manifest.components == old.manifest.components
    assert made.manifest.gate is not None
    assert made.manifest.gate.good_images == 15
    for name in made.manifest.files:
        assert (target / name).samefile(old.path / name)  # a hard link: the weights lie on disk once
    about = made.manifest.provenance.data
    assert about["before_the_gate"] == {"hash": old.hash, "command": "make_tiny_bundle"}
    assert made.manifest.quality["gate"]["good_images"] == 15


def test_an_evaluation_counts_what_the_gate_stops_and_leaves_nothing_out(tmp_path: Path, data: Path) -> None:
    store = tmp_path / "store"
    old = make_tiny_bundle(store, thresholds=(1e8, 1e9, 1.0))
    made = relearn_gate(old, data, store / "toy" / "2", command="glad gate", progress=silent, workers=1)
    Image.fromarray(np.zeros((24, 32, 3), dtype=np.uint8)).save(data / "test/good/999.png")
    found = evaluate(made.path, data, workers=1)
    by_file = {row.file: row for row in found.rows}
    dark = by_file["test/good/999.png"]
    assert (dark.gated, dark.verdict) == ("too_dark", "review")
    assert by_file["test/good/000.png"].gated == ""
    assert by_file["test/good/000.png"].verdict == "pass"
    assert found.figures["gate"]["good"] == {"images": 4, "gated": 1, "reasons": {"too_dark": 1}}
    assert found.figures["images"]["good"] == 4
    table = as_markdown(found.figures)
    assert "| good | 4 | 1 | too_dark 1 |" in table
    stopped = sum(of["gated"] for of in found.figures["gate"].values())
    assert f"The quality gate stops {stopped} of the images" in table
    without = evaluate(old, data, workers=1)
    assert "gate" not in without.figures
    assert without.figures["image"]["auroc"] == found.figures["image"]["auroc"]


def test_the_confidence_of_the_recipe_stays_unless_another_is_given(tmp_path: Path) -> None:
    origin = open_bundle(make_tiny_bundle(tmp_path / "store")).manifest.provenance
    calibration = TINY_RECIPE.calibration.model_copy(update={"confidence": 0.95})
    recipe = TINY_RECIPE.model_copy(update={"calibration": calibration})
    trained = origin.model_copy(update={"recipe": recipe.model_dump(mode="json")})
    assert recorded_recipes(trained)[0].confidence == 0.95
    assert recorded_recipes(trained, 0.9)[0].confidence == 0.9
    assert recorded_recipes(origin)[0].confidence is None  # not trained from a recipe
