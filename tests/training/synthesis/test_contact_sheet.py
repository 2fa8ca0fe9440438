"""A contact sheet shows what the models would see, and says what it cannot show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glad.images.tiling import lay_out
from glad.settings.method import MethodSettings
from tests.support.tiny_recipe import TINY_RECIPE
from training.data.image_files import read_pixels
from training.synthesis.anomalies import KINDS
from training.synthesis.contact_sheet import GAP, LABEL, contact_sheet, draw_sheet_of_run
from training.synthesis_recipe import SynthesisRecipe

SIDE = 64
SETTINGS = MethodSettings.model_validate({"resolution": SIDE, "trigger": {"delta": 0.5}})


def photograph(path: Path, width: int) -> Path:
    """A grey ramp with a little noise, half as high as it is wide."""
    rng = np.random.Generator(np.random.Philox(1))
    pixels = np.linspace(60, 180, width)[None, :, None] + rng.normal(0, 4, (width // 2, width, 1))
    Image.fromarray(np.broadcast_to(pixels, (width // 2, width, 3)).astype(np.uint8)).save(path)
    return path


def cell(sheet: Image.Image, line: int) -> np.ndarray:
    top = LABEL + line * (SIDE + GAP)
    return np.asarray(sheet)[top : top + SIDE, GAP : GAP + SIDE]


def test_a_sheet_shows_the_anomaly_and_below_it_an_outline_that_hides_none_of_it(tmp_path: Path) -> None:
    path = photograph(tmp_path / "1.png", 64)
    sheet = contact_sheet([path], SETTINGS, ["pores"], columns=2, seed=0)
    assert sheet.size == (2 * (SIDE + GAP) + GAP, LABEL + 2 * (SIDE + GAP) + GAP)
    original = lay_out(64, 32, SETTINGS)
    good = original.tile_pixels(read_pixels(path), original.tiles[0]).astype(int)
    changed = np.abs(cell(sheet, 0) - good).mean(axis=-1) > 0.03 * 255
    red = (cell(sheet, 1) == (255, 40, 40)).all(axis=-1)
    assert changed.any()
    assert red.any()
    assert not (changed & red).any()
    assert np.array_equal(cell(sheet, 1)[~red], cell(sheet, 0)[~red])


def test_the_same_seed_draws_the_same_sheet_and_another_seed_another_one(tmp_path: Path) -> None:
    path = photograph(tmp_path / "1.png", 64)
    one, same, other = (
        contact_sheet([path], SETTINGS, ["crack"], columns=2, seed=seed, outlined=False) for seed in (0, 0, 1)
    )
    assert one.tobytes() == same.tobytes()
    assert one.tobytes() != other.tobytes()


def test_what_is_too_small_to_be_seen_leaves_the_good_image_there(tmp_path: Path) -> None:
    # 6400 pixels become 64: a crack of 2.5 pixels is a fortieth of one.
    path = photograph(tmp_path / "large.png", 6400)
    sheet = contact_sheet([path], SETTINGS, ["crack"], columns=1, seed=0)
    layout = lay_out(6400, 3200, SETTINGS)
    good = layout.tile_pixels(read_pixels(path), layout.tiles[0])
    assert np.array_equal(cell(sheet, 0), good)
    assert np.array_equal(cell(sheet, 1), good)


@pytest.mark.parametrize(
    ("kinds", "told"),
    [((), "no kind of anomaly to draw: choose of texture"), (("crack", "scratch"), "is called 'scratch': choose of")],
)
def test_a_sheet_of_no_kind_or_an_unknown_one_is_refused(tmp_path: Path, kinds: tuple[str, ...], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        contact_sheet([photograph(tmp_path / "1.png", 64)], SETTINGS, kinds, columns=1, seed=0)


def test_a_run_keeps_a_sheet_of_the_kinds_that_it_learns_from(tmp_path: Path) -> None:
    path, run = photograph(tmp_path / "1.png", 64), tmp_path / "run"
    weights = dict.fromkeys(KINDS, 0.0) | {"spot": 1.0, "crack": 0.5}
    synthesis = SynthesisRecipe.model_validate({"pairs": 8, **weights})
    recipe = TINY_RECIPE.model_copy(update={"synthesis": synthesis, "settings": SETTINGS})
    target = draw_sheet_of_run(recipe, [path], run)
    assert target == run / "pictures" / "synthetic-anomalies.png"
    with Image.open(target) as sheet:
        assert sheet.size == (6 * (SIDE + GAP) + GAP, 2 * (LABEL + 2 * (SIDE + GAP)) + GAP)  # two kinds, six of each
    target.write_bytes(b"as it was")
    assert draw_sheet_of_run(recipe, [path], run) == target  # a run that goes on keeps its own
    assert target.read_bytes() == b"as it was"


def test_a_run_without_anomalies_has_no_sheet(tmp_path: Path) -> None:
    recipe = TINY_RECIPE.model_copy(update={"synthesis": SynthesisRecipe(pairs=8, none=1.0)})
    assert draw_sheet_of_run(recipe, [photograph(tmp_path / "1.png", 64)], tmp_path / "run") is None


def test_large_pictures_are_made_smaller_where_that_is_asked_for(tmp_path: Path) -> None:
    path = photograph(tmp_path / "1.png", 64)
    sheet = contact_sheet([path], SETTINGS, ["spot"], columns=1, seed=0, largest=16)
    assert sheet.size == (16 + 2 * GAP, LABEL + 2 * (16 + GAP) + GAP)
