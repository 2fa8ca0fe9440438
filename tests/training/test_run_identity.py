"""A run's folder belongs to one recipe and one set of images; a refusal names each setting and image that differs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.tiny_recipe import TINY_FEATURE_RECIPE, TINY_RECIPE, draw_parts
from training.data.dataset import Split, good_split
from training.recipe import Recipe, RecipeBase
from training.run_identity import RunMismatch, claim_run, resumes_run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = draw_parts(tmp_path / "parts")
    spare = root / "train/good/010.png"  # ten are the least that a training takes
    spare.write_bytes((root / "train/good/009.png").read_bytes() + b"spare")
    return root


@pytest.fixture
def run(data: Path, tmp_path: Path) -> Path:
    claim_run(tmp_path / "run", TINY_RECIPE, _split(data))
    return tmp_path / "run"


def _split(data: Path) -> Split:
    return good_split(data, TINY_RECIPE.calibration.holdout, TINY_RECIPE.seed)


def _refusal(run: Path, data: Path, recipe: RecipeBase = TINY_RECIPE) -> list[str]:
    """Return the lines of a refusal."""
    with pytest.raises(RunMismatch) as refused:
        resumes_run(run, recipe, _split(data))
    return [line.strip() for line in str(refused.value).splitlines()]


def _changed(**changes: Any) -> Recipe:
    """Return the tiny recipe with single values of it changed, each of a table."""
    content = TINY_RECIPE.model_dump()
    for table, values in changes.items():
        content[table] |= values
    return Recipe.model_validate(content)


def test_each_setting_that_differs_is_named_with_both_values(run: Path, data: Path) -> None:
    recipe = _changed(unet={"steps": 9}, settings={"t_min": 125}, calibration={"confidence": 0.95})
    assert _refusal(run, data, recipe) == [
        f"{run} holds a run with another recipe:",
        "settings.t_min was 250 and is 125 now",
        "calibration.confidence was not set and is 0.95 now",
        "unet.steps was 4 and is 9 now",
        "to go on with it, give what it was begun with; to train anew, give --run another folder, or remove this one",
    ]


def test_of_quite_another_recipe_the_first_settings_are_named(run: Path, data: Path) -> None:
    lines = _refusal(run, data, TINY_FEATURE_RECIPE)
    assert lines[1] == 'name was "tiny" and is "tiny-feature" now'
    assert len(lines) == 1 + 12 + 1 + 1
    assert lines[-2].startswith("… and ")


def test_images_that_came_went_or_changed_are_counted_and_named(run: Path, data: Path) -> None:
    good = data / "train/good"
    for name in "abcde":
        shutil.copy(good / "000.png", good / f"{name}.png")
        (good / f"{name}.png").write_bytes((good / f"{name}.png").read_bytes() + name.encode())  # behind the image
    (good / "001.png").unlink()
    (good / "002.png").rename(good / "renamed.png")
    shutil.copy(good / "004.png", good / "003.png")
    lines = _refusal(run, data)
    assert lines[0] == f"{run} holds a run with other images:"
    assert lines[1:-1] == [
        "1 image has another content: 003.png",
        "1 image has another name: renamed.png",
        "5 images were added: a.png, b.png, c.png and 2 more",
        "1 image was removed: 001.png",
    ]


def test_an_image_that_trained_and_would_calibrate_now_is_named(run: Path, data: Path) -> None:
    (data / "train/good/009.png").rename(data / "calibration/good/nine.png")
    assert _refusal(run, data)[1:-1] == ["1 image has another name: nine.png"]
    (data / "calibration/good/nine.png").rename(data / "calibration/good/009.png")
    assert _refusal(run, data)[1:-1] == ["1 image moved from train to calibration: 009.png"]


def test_other_pictures_for_textures_are_told(data: Path, tmp_path: Path) -> None:
    textures = tmp_path / "textures"
    shutil.copytree(data / "test/good", textures)
    recipe = _changed(synthesis={"textures": str(textures)})
    claim_run(tmp_path / "textured", recipe, _split(data))
    first = next(textures.glob("*.png"))
    shutil.copy(next(data.glob("test/hole/*.png")), first)
    assert _refusal(tmp_path / "textured", data, recipe)[:2] == [
        f"{tmp_path}/textured holds a run with other textures:",
        "the pictures in the folder synthesis.textures are not those of then",
    ]


def test_a_run_that_an_earlier_version_began_goes_on_and_lists_its_images_from_then_on(run: Path, data: Path) -> None:
    listed = (run / "images.json").read_bytes()
    (run / "images.json").unlink()
    (data / "train/good/000.png").rename(data / "train/good/zero.png")
    assert "an earlier version began the run, and noted no more" in _refusal(run, data)[1]
    (data / "train/good/zero.png").rename(data / "train/good/000.png")
    claim_run(run, TINY_RECIPE, _split(data))
    assert (run / "images.json").read_bytes() == listed


def test_how_the_device_is_used_may_change_within_a_run(run: Path, data: Path) -> None:
    recipe = _changed(training={"accumulate": 2})
    assert resumes_run(run, recipe, _split(data))
    assert json.loads((run / "run.json").read_text(encoding="utf-8"))["recipe"]["training"]["accumulate"] == 1


@pytest.mark.parametrize("left", ['{"recipe": {"name', "[]", "{}"])
def test_a_damaged_mark_is_named_and_nothing_of_the_run_is_touched(run: Path, data: Path, left: str) -> None:
    (run / "run.json").write_text(left, encoding="utf-8")
    assert _refusal(run, data) == [
        f"{run}/run.json, which says to which recipe and images the run belongs, is damaged: bring it back from a "
        "backup, or give --run another folder"
    ]
    assert (run / "run.json").read_text(encoding="utf-8") == left
