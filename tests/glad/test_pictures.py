"""The heat scale is the same for every picture, and the overlay shows where to look."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from glad.images.rendering import CONTOUR, colour_scale, contact_sheet, heatmap, lightness, mask, overlay


def test_the_scale_rises_evenly_in_lightness_from_black_to_cream() -> None:
    light = lightness(colour_scale().astype(np.float64))
    assert light[0] < 2
    assert light[-1] > 95
    steps = np.diff(light)
    even = (light[-1] - light[0]) / 255
    assert steps.min() > 0
    assert abs(steps - even).max() < 0.35  # colours are whole numbers


def test_lightness_of_known_colours() -> None:
    # CIE L* of white, black and of sRGB red (53.24), green (87.73) and blue (32.30)
    colours = np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=np.float64)
    np.testing.assert_allclose(lightness(colours), [100, 0, 53.24, 87.73, 32.30], atol=0.02)


def test_a_map_value_has_the_same_colour_in_every_picture() -> None:
    quiet, loud = np.full((2, 2), 0.1, np.float32), np.array([[0.1, 5.0]], np.float32)
    assert (heatmap(quiet, 0.4)[0, 0] == heatmap(loud, 0.4)[0, 0]).all()


def test_the_scale_ends_at_top_and_a_bad_number_is_as_hot_as_it_gets() -> None:
    values = np.array([[-1.0, 0.0, 0.4, 9.0, np.nan]], np.float32)
    coldest, hottest = colour_scale()[0].tolist(), colour_scale()[-1].tolist()
    assert heatmap(values, 0.4)[0].tolist() == [coldest, coldest, hottest, hottest, hottest]


@pytest.mark.parametrize("top", [0.0, -1.0, float("nan")])
def test_a_scale_without_a_top_is_refused(top: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        heatmap(np.zeros((2, 2), np.float32), top)


def test_the_mask_is_white_at_and_above_the_threshold() -> None:
    assert mask(np.array([[0.1, 0.2, 0.3, np.nan]], np.float32), 0.2).tolist() == [[0, 255, 255, 255]]


def spot(peak: float = 1.0) -> NDArray[np.float32]:
    found = np.zeros((64, 64), np.float32)
    found[20:30, 20:30] = peak
    return found


def test_the_contour_runs_around_the_region_and_leaves_it_free() -> None:
    pixels = np.full((64, 64, 3), 120, np.uint8)
    drawn = overlay(pixels, spot(), 1.0)
    cyan = (drawn == CONTOUR).all(axis=2)
    expected = np.zeros((64, 64), bool)
    expected[19:31, 19:31] = True
    expected[20:30, 20:30] = False
    np.testing.assert_array_equal(cyan, expected)


def test_a_part_without_a_finding_has_no_contour_and_no_colour() -> None:
    pixels = np.full((64, 64, 3), 120, np.uint8)
    drawn = overlay(pixels, np.zeros((64, 64), np.float32), 1.0)
    assert (drawn == drawn[:, :, :1]).all()
    assert len(np.unique(drawn)) == 1


def test_the_threshold_of_the_contour_is_half_of_top_unless_told() -> None:
    pixels = np.full((64, 64, 3), 120, np.uint8)
    assert not (overlay(pixels, spot(0.49), 1.0) == CONTOUR).all(axis=2).any()
    assert (overlay(pixels, spot(0.5), 1.0) == CONTOUR).all(axis=2).any()
    assert (overlay(pixels, spot(0.2), 1.0, threshold=0.1) == CONTOUR).all(axis=2).any()


def test_a_map_of_another_size_is_laid_over_the_whole_picture() -> None:
    pixels = np.full((256, 192, 3), 120, np.uint8)
    found = np.zeros((64, 48), np.float32)
    found[32:40, 24:32] = 1.0
    drawn = overlay(pixels, found, 1.0)
    assert drawn.shape == pixels.shape
    rows, columns = np.nonzero((drawn == CONTOUR).all(axis=2))
    assert (rows.min() // 4, rows.max() // 4, columns.min() // 4, columns.max() // 4) == (31, 40, 23, 32)


def test_overlaying_changes_no_argument() -> None:
    pixels, found = np.full((64, 64, 3), 120, np.uint8), spot()
    overlay(pixels, found, 1.0)
    assert (pixels == 120).all()
    np.testing.assert_array_equal(found, spot())


def test_a_contact_sheet_keeps_every_pictures_aspect() -> None:
    wide, grey = np.full((10, 40, 3), 200, np.uint8), np.full((30, 30), 60, np.uint8)
    sheet = contact_sheet([[wide, grey], [grey]], cell=40, gap=4, titles=["input", "mask"])
    assert sheet.shape == (20 + 4 + 2 * 44, 4 + 2 * 44, 3)
    assert (sheet[24:64, 4:44] == 200).all(axis=2).sum() == 10 * 40
    assert (sheet[24:64, 48:88] == 60).all()
    with pytest.raises(ValueError, match="at least one row"):
        contact_sheet([])


def test_a_contact_sheets_captions_stand_above_their_pictures() -> None:
    dark = np.zeros((40, 40, 3), np.uint8)
    sheet = contact_sheet([[dark, dark], [dark]], cell=40, gap=4, captions=[["fail", ""], ["pass"]])
    assert sheet.shape == (4 + 2 * (18 + 44), 4 + 2 * 44, 3)
    for top, written in ((4, [True, False]), (4 + 62, [True, False])):
        heads = [sheet[top : top + 18, left : left + 44] for left in (4, 48)]
        assert [(head != 245).any() for head in heads] == written  # 245: the paper's grey
        assert (sheet[top + 18 : top + 58, 4:44] == 0).all()


def test_the_contour_grows_from_every_region_by_the_same_width_on_all_sides_up_to_the_pictures_edge() -> None:
    found = (np.random.default_rng(5).random((300, 520)) > 0.999).astype(np.float32)
    found[0, 0] = found[-1, -1] = found[0, 200] = 1.0
    cyan = (overlay(np.full((300, 520, 3), 120, np.uint8), found, 2.0, threshold=0.5) == CONTOUR).all(axis=2)
    grown = np.asarray(Image.fromarray(mask(found, 0.5)).filter(ImageFilter.MaxFilter(5))) > 0
    np.testing.assert_array_equal(cyan, grown & (found == 0))
