"""How an original becomes squares, and how what is found comes back to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from glad.images.placement import fit
from glad.images.rendering import defect_regions
from glad.images.tiling import MAX_PLANE_PIXELS, PlaneTooLarge, TileLayout, lay_out
from glad.settings.method import MethodSettings
from glad.stitching import blend_weights

LETTERBOX: dict[str, Any] = {"kind": "letterbox"}
STRETCH: dict[str, Any] = {"kind": "stretch"}
sides = st.integers(16, 700)


def method(framing: dict[str, Any], side: int = 64, **score: Any) -> MethodSettings:
    return MethodSettings.model_validate(
        {"resolution": side, "trigger": {"delta": 0.3}, "framing": framing, "score": {"layers": (1,), **score}}
    )


def tiles(side: int, overlap: int) -> dict[str, Any]:
    return {"kind": "tiles", "side": side, "overlap": overlap}


def random_pixels(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def axis(layout: TileLayout) -> list[tuple[tuple[int, ...], int]]:
    return [(layout.xs, layout.placement.columns), (layout.ys, layout.placement.rows)]


def test_a_large_photograph_becomes_63_tiles() -> None:
    # across (4000 - 64) / (512 - 64) = 8.8, down (3000 - 64) / 448 = 6.6
    layout = lay_out(4000, 3000, method(tiles(512, 64), 512))
    assert (len(layout.xs), len(layout.ys), len(layout.tiles)) == (9, 7, 63)


@settings(max_examples=200, deadline=None)
@given(width=sides, height=sides, side=st.integers(32, 256), share=st.floats(0, 0.5), at=st.sampled_from((None, 32)))
def test_tiles_cover_all_overlap_enough_and_end_at_the_border(
    width: int, height: int, side: int, share: float, at: int | None
) -> None:
    overlap = int(share * side)
    layout = lay_out(width, height, method(tiles(side, overlap), resolution=at))
    unit = 2 if at else 1
    for starts, length in axis(layout):
        assert starts[0] == 0
        assert starts[-1] + 64 == length
        assert all(start % unit == 0 for start in starts)
        steps = np.diff(starts)
        assert (64 - steps >= min(overlap * 64 / side, 64 - unit)).all()
        assert steps.size == 0 or steps.max() - steps.min() <= unit


@given(lengths=st.lists(st.integers(1, 64), max_size=6))
def test_the_weights_of_all_tiles_are_one_at_every_pixel(lengths: list[int]) -> None:
    starts = tuple(np.cumsum([0, *lengths]).tolist())
    weights = blend_weights(starts, 64)
    total = np.zeros(starts[-1] + 64)
    for start, own in zip(starts, weights.numpy(), strict=True):
        total[start : start + 64] += own
    np.testing.assert_allclose(total, 1, atol=1e-6)
    if not lengths:
        assert (weights == 1).all()


def test_a_tiles_weight_falls_linearly_to_its_border() -> None:
    # two tiles of 4 that share two pixels: there the ramps are 2, 1 and 1, 2
    first, second = blend_weights((0, 2), 4).numpy()
    np.testing.assert_allclose(first, [1, 1, 2 / 3, 1 / 3], rtol=1e-6)
    np.testing.assert_allclose(second, [1 / 3, 2 / 3, 1, 1], rtol=1e-6)


def test_at_full_scale_tiles_are_the_pixels_themselves() -> None:
    pixels = random_pixels(150, 200)
    layout = lay_out(200, 150, method(tiles(64, 16)))
    for tile in layout.tiles:
        expected = pixels[tile.y : tile.y + 64, tile.x : tile.x + 64]
        np.testing.assert_array_equal(layout.tile_pixels(pixels, tile), expected)


def test_a_tile_is_what_the_whole_image_resampled_shows_there() -> None:
    pixels = random_pixels(300, 400)
    layout = lay_out(400, 300, method(tiles(128, 32)))  # scale 1/2
    whole = np.array(Image.fromarray(pixels).resize((200, 150), Image.Resampling.LANCZOS, reducing_gap=3.0))
    for tile in layout.tiles:
        expected = whole[tile.y : tile.y + 64, tile.x : tile.x + 64].astype(int)
        assert np.abs(layout.tile_pixels(pixels, tile) - expected).max() <= 1


def test_an_image_of_one_tiles_size_is_letterboxed_as_ever() -> None:
    pixels = random_pixels(100, 100)
    layout = lay_out(100, 100, method(tiles(100, 20)))
    (tile,) = layout.tiles
    np.testing.assert_array_equal(layout.tile_pixels(pixels, tile), fit(pixels, 64).pixels)
    assert layout.placement == fit(pixels, 64).placement


def test_an_image_smaller_than_a_tile_is_padded_and_not_enlarged() -> None:
    pixels = random_pixels(20, 40)
    layout = lay_out(40, 20, method(tiles(64, 16)))
    (tile,) = layout.tiles
    np.testing.assert_array_equal(layout.placement.restore(layout.tile_pixels(pixels, tile)), pixels)


def test_a_narrow_image_is_padded_along_one_axis_only() -> None:
    pixels = random_pixels(20, 200)
    layout = lay_out(200, 20, method(tiles(64, 16)))
    assert len(layout.tiles) == 4
    assert layout.inspected_mask(method(LETTERBOX).zones).sum() == 20 * 200
    for tile in layout.tiles:
        square = layout.tile_pixels(pixels, tile)[layout.placement.content[0]]
        np.testing.assert_array_equal(square, pixels[:, tile.x : tile.x + 64])


def test_a_stretched_image_fills_the_square_and_comes_back_in_its_aspect() -> None:
    pixels = random_pixels(50, 200)
    layout = lay_out(200, 50, method(STRETCH))
    square = layout.tile_pixels(pixels, layout.tiles[0])
    expected = Image.fromarray(pixels).resize((64, 64), Image.Resampling.BILINEAR, reducing_gap=3.0)
    np.testing.assert_array_equal(square, np.array(expected))
    assert layout.placement.restore(square).shape == (16, 64, 3)
    assert layout.placement.restore(np.zeros((64, 64), dtype=np.float16)).dtype == np.float16
    assert layout.placement.restore(np.ones((64, 64), dtype=np.bool_)).all()


def test_stretched_by_way_of_a_smaller_side_it_loses_what_that_side_cannot_hold() -> None:
    pixels = random_pixels(100, 200)
    layout = lay_out(200, 100, method({"kind": "stretch", "via": 16}))
    small = Image.fromarray(pixels).resize((16, 16), Image.Resampling.BILINEAR, reducing_gap=3.0)
    expected = np.array(small.resize((64, 64), Image.Resampling.BILINEAR, reducing_gap=3.0))
    np.testing.assert_array_equal(layout.tile_pixels(pixels, layout.tiles[0]), expected)


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(40, 600),
    height=st.integers(40, 600),
    framing=st.sampled_from((LETTERBOX, STRETCH, tiles(64, 16), tiles(150, 40), tiles(40, 8))),
    data=st.data(),
)
def test_an_area_of_the_original_comes_back_within_one_model_pixel(
    width: int, height: int, framing: dict[str, Any], data: st.DataObject
) -> None:
    layout = lay_out(width, height, method(framing))
    place = layout.placement
    pitch = max(width / place.content_width, height / place.content_height, width / place.width, height / place.height)
    w, h = (data.draw(st.integers(min(length, int(3 * pitch) + 1), length)) for length in (width, height))
    x, y = data.draw(st.integers(0, width - w)), data.draw(st.integers(0, height - h))
    drawn = np.zeros((height, width, 3), dtype=np.uint8)
    drawn[y : y + h, x : x + w] = 255
    plane = np.zeros((place.rows, place.columns), dtype=np.float32)
    for tile in layout.tiles:
        plane[tile.y : tile.y + 64, tile.x : tile.x + 64] = layout.tile_pixels(drawn, tile)[:, :, 0]
    plane[~place.valid_pixels()] = 0
    region = max(defect_regions(place.restore(plane), 127.5, place), key=lambda one: one.area_px)
    found = np.array([region.box[0], region.box[1], region.box[0] + region.box[2], region.box[1] + region.box[3]])
    assert np.abs(found - [x, y, x + w, y + h]).max() <= 2 * pitch + 1  # shrunk, and for the stretched once more
    assert region.area_px == pytest.approx(w * h, abs=(2 * pitch + 1) * 2 * (w + h))


def test_tiles_enlarged_beyond_memory_are_refused() -> None:
    with pytest.raises(PlaneTooLarge, match=r"16000×12000 = 192000000 pixels.*larger side"):
        lay_out(4000, 3000, method(tiles(16, 4)))
    assert MAX_PLANE_PIXELS < 16000 * 12000


def test_tiles_scored_off_the_pixel_grid_are_refused() -> None:
    # 64 pixels scored at 20: only every 16th edge would fall on a whole pixel
    with pytest.raises(ValueError, match=r"score\.resolution is 20, resolution 64.*half or a quarter"):
        method(tiles(64, 16), resolution=20)
