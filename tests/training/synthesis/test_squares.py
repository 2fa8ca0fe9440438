"""What is trained on, and tried on, is what inference shows the models: under every framing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glad.images.tiling import lay_out
from glad.settings.framing import Framing, Letterbox, Polygon, Stretch, Tiles, Zones
from glad.settings.method import MethodSettings
from training.data.image_files import read_pixels
from training.synthesis.pairs import read_squares, single_square_settings

IGNORED = Zones(ignore=(Polygon(points=((0, 0), (0.5, 0), (0, 0.5))),))


def settings(framing: Framing) -> MethodSettings:
    return MethodSettings.model_validate(
        {"resolution": 32, "trigger": {"delta": 0.5}, "framing": framing, "zones": IGNORED}
    )


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    rng = np.random.Generator(np.random.Philox(0))
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for file in files:
        Image.fromarray(rng.integers(0, 256, (96, 160, 3), dtype=np.uint8)).save(file)
    return files


@pytest.mark.parametrize("framing", [Letterbox(), Stretch(), Stretch(via=16), Tiles(side=64, overlap=16)])
def test_a_squares_content_is_the_same_square_again(framing: Framing, images: list[Path]) -> None:
    for square in read_squares(images, settings(framing), at_least=3, seed=0, workers=1):
        content = np.ascontiguousarray(square.pixels[square.content])
        layout = lay_out(content.shape[1], content.shape[0], single_square_settings(settings(framing)))
        assert np.array_equal(layout.tile_pixels(content, layout.tiles[0]), square.pixels)


@pytest.mark.parametrize(
    ("framing", "scale"),
    # 160 pixels become 32; stretched, the longer side counts; a tile of 64 becomes 32.
    [(Letterbox(), 0.2), (Stretch(), 0.2), (Tiles(side=64, overlap=16), 0.5)],
)
def test_a_square_knows_how_large_a_pixel_of_the_original_is(
    framing: Framing, scale: float, images: list[Path]
) -> None:
    (square, *_) = read_squares(images, settings(framing), at_least=3, seed=0, workers=1)
    assert square.scale == pytest.approx(scale)


def test_a_whole_image_is_read_once_and_its_padding_is_not_valid(images: list[Path]) -> None:
    squares = read_squares(images, settings(Letterbox()), at_least=100, seed=0, workers=1)
    assert len(squares) == 3
    assert all(square.valid.sum() == 32 * 19 for square in squares)  # 160 x 96 becomes 32 x 19.2
    assert squares[0].content == (slice(0, 19), slice(0, 32))


def test_tiles_are_drawn_in_rounds_until_there_are_enough(images: list[Path]) -> None:
    tiled = settings(Tiles(side=64, overlap=16))
    few, more = (read_squares(images, tiled, at_least=n, seed=0, workers=1) for n in (3, 8))
    assert (len(few), len(more)) == (3, 9)
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(few, more, strict=False))
    layout = lay_out(160, 96, tiled)
    for number, path in enumerate(images):
        own = [layout.tile_pixels(read_pixels(path), tile) for tile in layout.tiles]
        drawn = more[number::3]
        assert all(any(np.array_equal(square.pixels, tile) for tile in own) for square in drawn)
    assert len({square.pixels.tobytes() for square in more}) > 3


def test_zones_stay_with_a_whole_image_and_not_with_a_tile() -> None:
    assert single_square_settings(settings(Stretch())).zones == IGNORED
    assert single_square_settings(settings(Tiles(side=64, overlap=16))).zones.everywhere
