"""What my-product proposes follows from the images: tiles, stretch, foreground, and the reasons with their numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glad.image_codec import Pixels
from glad.settings.framing import Letterbox, Stretch, Tiles
from glad.settings.method import Foreground
from training.data.image_checks import ImageChecks
from training.data.image_survey import survey_images
from training.product_views import measure_alignment, measure_ground, sample_of
from training.proposed_recipe import Proposal, propose_recipe

DRAW = np.random.Generator(np.random.Philox(8))


def _plate(width: int, height: int, *, shift: int = 0) -> Pixels:
    """A grey plate with two drilled holes and a slot, at places that are shares of its size."""
    pixels = np.full((height, width), 150.0)
    y, x = np.mgrid[:height, :width]
    for row, column in ((0.3, 0.25), (0.7, 0.6)):
        near = ((y - row * height) / (0.12 * height)) ** 2 + ((x - column * width - shift) / (0.12 * width)) ** 2 < 1
        pixels[near] = 60
    pixels[round(0.45 * height) : round(0.52 * height), round(0.1 * width) : round(0.8 * width)] = 220
    return _photograph(pixels)


def _photograph(pixels: np.ndarray, noise: float = 3.0) -> Pixels:
    noisy = pixels + DRAW.normal(0, noise, pixels.shape)
    return np.repeat(np.clip(noisy, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def _on_ground(*, clutter: float, hole: bool) -> Pixels:
    """A dark disc on a bright ground, with or without a hole through which the ground is seen."""
    y, x = np.mgrid[:128, :128]
    radius = np.hypot(y - 64, x - 64)
    part = (radius < 40) & ~((radius < 14) if hole else np.zeros_like(radius, dtype=bool))
    ground = 190 + DRAW.normal(0, clutter, (128, 128))
    return _photograph(np.where(part, 40 + DRAW.normal(0, 8, (128, 128)), ground), noise=1.0)


def _proposed(
    folder: Path, images: list[Pixels], smallest: int | None = None, changes: tuple[str, ...] = ()
) -> Proposal:
    folder.mkdir(exist_ok=True)
    for number, pixels in enumerate(images):
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
    surveyed = survey_images(sorted(folder.iterdir()), workers=1)
    return propose_recipe(ImageChecks(surveyed, 0, (), None), smallest, changes)


def test_tiles_are_cut_where_the_smallest_defect_is_less_than_a_32nd_of_the_image(tmp_path: Path) -> None:
    images = [_plate(640, 480) for _ in range(3)]
    whole = _proposed(tmp_path, images, smallest=20)  # 640 / 32 = 20
    assert (whole.recipe.settings.framing, whole.changed) == (Letterbox(), ())
    tiled = _proposed(tmp_path, images, smallest=10)  # a 32nd of 320 is 10; an overlap holds two such defects
    assert tiled.recipe.settings.framing == Tiles(side=320, overlap=24)
    (changed,) = tiled.changed
    assert (changed.key, changed.value) == ("settings.framing", '{kind = "tiles", side = 320, overlap = 24}')
    # Steps of at most 320 - 24 = 296: three across 640 (0, 160, 320), two across 480.
    assert "in tiles of 320 pixels it is about 10; an image has 6 tiles then" in changed.why
    assert any("a tile may lie within the part" in why for why in tiled.observed)
    tiny = _proposed(tmp_path, images, smallest=2)  # no tile is enlarged: that shows nothing new
    assert tiny.recipe.settings.framing == Tiles(side=256, overlap=8)
    assert "about 8; for smaller ones take closer photographs" in tiny.changed[0].why
    assert _proposed(tmp_path, images, 10, ("settings.framing={kind='letterbox'}",)).changed == ()  # --set counts more


def test_an_image_three_times_as_long_as_high_is_cut_without_being_asked(tmp_path: Path) -> None:
    proposal = _proposed(tmp_path, [_plate(1200, 300) for _ in range(3)])
    assert isinstance(proposal.recipe.settings.framing, Tiles)
    assert "1200×300 is 4.0 to 1, and would leave most of the square empty" in proposal.changed[0].why


def test_parts_of_mixed_shapes_are_stretched_where_that_brings_them_into_one_place(tmp_path: Path) -> None:
    shapes = [(160, 80), (80, 160), (120, 120), (160, 110), (110, 160)]
    proposal = _proposed(tmp_path, [_plate(*shape) for shape in shapes])
    assert proposal.recipe.settings.framing == Stretch()
    assert "lie on each other when they are stretched" in proposal.changed[0].why


def test_registered_parts_are_told_from_parts_that_lie_anywhere() -> None:
    held = measure_alignment([_plate(160, 120, shift=int(shift)) for shift in (0, 0, 1, 2)])
    assert held.agreement > 0.6
    assert held.shift <= 2 / 128 * np.sqrt(2)  # 2 of 160 pixels are 1.6 of 128
    loose = measure_alignment([_photograph(DRAW.normal(128, 40, (120, 160))) for _ in range(4)])
    assert loose.agreement < 0.3


@pytest.mark.parametrize(
    ("clutter", "hole", "chosen", "why"),
    [
        (20, False, Foreground.DARK, "on a cluttered ground"),
        (1, False, Foreground.WHOLE, "because the ground is plain"),
        (20, True, Foreground.WHOLE, "of the part is as bright as its ground, and would not be inspected"),
    ],
)
def test_a_foreground_is_proposed_only_where_it_gains_something_and_hides_nothing(
    tmp_path: Path, clutter: float, hole: bool, chosen: Foreground, why: str
) -> None:
    proposal = _proposed(tmp_path, [_on_ground(clutter=clutter, hole=hole) for _ in range(4)])
    assert proposal.recipe.settings.score.foreground is chosen
    assert why in " ".join((*(one.why for one in proposal.changed), *proposal.observed))


def test_no_ground_is_seen_in_a_surface_that_fills_the_picture() -> None:
    assert measure_ground([_photograph(DRAW.normal(128, 20, (96, 96))) for _ in range(3)]).seen == 0
    assert measure_ground([_plate(160, 120) for _ in range(3)]).seen == 0  # its holes are no parts on it


def test_two_dozen_images_are_looked_at_evenly_taken() -> None:
    paths = [Path(f"{number}.png") for number in range(100)]
    chosen = sample_of(paths)
    assert (len(chosen), chosen[0], chosen[-1]) == (24, paths[0], paths[-1])
    assert sample_of(paths[:3]) == tuple(paths[:3])
