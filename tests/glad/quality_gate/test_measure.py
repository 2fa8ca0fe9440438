"""What the quality gate measures: light, sharpness and likeness, whatever the camera's resolution."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from glad.quality_gate.limits import VIEW_SIDE
from glad.quality_gate.measure import (
    MOST_SHIFT,
    QualityMeasures,
    View,
    grey_of,
    likeness,
    measure_light,
    measure_quality,
    sharpness,
)
from glad.settings.framing import Polygon, Zones
from glad.settings.method import MethodSettings
from tests.support.gates import a_part


def settings(**fields: object) -> MethodSettings:
    return MethodSettings.model_validate({"resolution": 96, "trigger": {"delta": 0.3}, **fields})


def measured(pixels: NDArray[np.uint8], **fields: object) -> QualityMeasures:
    return measure_quality(pixels, settings(**fields))


def waves(x_period: float, y_period: float, side: int = 96) -> NDArray[np.float32]:
    y, x = np.mgrid[:side, :side]
    waved = 128 + 60 * np.cos(2 * np.pi * x / x_period) * np.cos(2 * np.pi * y / y_period)
    return np.asarray(waved, dtype=np.float32)


def everywhere(grey: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.ones(grey.shape, dtype=np.bool_)


def test_light_is_the_mean_grey_and_the_shares_of_black_and_white() -> None:
    grey = np.array([[0, 8, 100], [247, 255, 200]], dtype=np.float32)
    found = measure_light(grey, everywhere(grey))
    assert found.brightness == pytest.approx(810 / 6)
    assert (found.black_share, found.white_share) == (2 / 6, 2 / 6)
    assert measure_light(grey, grey < 50).brightness == 4


def test_grey_weighs_colours_as_eyes_do() -> None:
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], dtype=np.uint8)
    assert grey_of(colours)[0] == pytest.approx([76.245, 149.685, 29.07], abs=1e-3)


def test_the_sharpness_of_a_wave_is_its_frequency() -> None:
    """Differences of a wave are 2 sin(pi f) as large each time: sqrt(second / first) / 2 pi = sin(pi f) / pi."""
    grey = waves(x_period=8, y_period=16, side=164)  # whole periods, but for the smoothing's edge
    expected = np.sin(np.pi / 16) / np.pi  # the slower direction's
    assert sharpness([(grey, everywhere(grey))]) == pytest.approx(expected, rel=0.02)


def test_light_and_contrast_leave_sharpness_as_it_is() -> None:
    grey = waves(8, 16)
    dim = grey * np.float32(0.25) + np.float32(10)
    own, other = (sharpness([(one, everywhere(one))]) for one in (grey, dim))
    assert other == pytest.approx(own, rel=1e-4)


def test_motion_in_one_direction_lowers_sharpness() -> None:
    rng = np.random.Generator(np.random.Philox(1))
    grey = rng.normal(128, 40, (96, 96)).astype(np.float32)
    moved = np.mean([np.roll(grey, k, axis=1) for k in range(12)], axis=0).astype(np.float32)
    assert sharpness([(moved, everywhere(moved))]) < 0.75 * sharpness([(grey, everywhere(grey))])


def test_an_image_of_one_grey_has_no_sharpness() -> None:
    flat = np.full((40, 40), 90, dtype=np.float32)
    assert sharpness([(flat, everywhere(flat))]) == 0
    assert sharpness([]) == 0


def test_what_does_not_count_is_not_sharp() -> None:
    grey = waves(24, 24)
    grey[:, 48:] = waves(4, 4)[:, 48:]
    inspected_mask = everywhere(grey)
    inspected_mask[:, 48:] = False
    left = sharpness([(grey[:, :48], everywhere(grey[:, :48]))])
    assert sharpness([(grey, inspected_mask)]) == pytest.approx(left, rel=1e-4)


def test_measures_hardly_depend_on_the_cameras_resolution() -> None:
    small = a_part()
    large = np.asarray(Image.fromarray(small).resize((384, 384), Image.Resampling.LANCZOS))
    own, other = measured(small), measured(large)
    assert other.light.brightness == pytest.approx(own.light.brightness, abs=1)
    assert other.sharpness == pytest.approx(own.sharpness, rel=0.05)
    assert likeness(other.view, own.view.grey) > 0.99


def test_blur_that_the_models_see_is_seen() -> None:
    blurred = np.asarray(Image.fromarray(a_part()).filter(ImageFilter.GaussianBlur(3)))
    assert measured(blurred).sharpness < 0.6 * measured(a_part()).sharpness


def test_a_tiled_image_is_as_sharp_as_its_tiles() -> None:
    """Twice as many pixels of the same pattern: tiles show it as it is, a letterbox at half its size."""
    large = np.tile(a_part(), (2, 2, 1))
    tiles = {"kind": "tiles", "side": 96, "overlap": 0}
    assert measured(large, framing=tiles).sharpness == pytest.approx(measured(a_part()).sharpness, rel=0.1)
    assert measured(large).sharpness != pytest.approx(measured(a_part()).sharpness, rel=0.1)


def test_what_zones_ignore_is_not_looked_at() -> None:
    pixels = a_part()
    pixels[:, 48:] = 255
    right = Zones(ignore=(Polygon(points=((0.5, 0), (1, 0), (1, 1), (0.5, 1))),))
    found = measured(pixels, zones=right)
    assert found.light.white_share == 0
    assert found.light.brightness == pytest.approx(float(a_part()[:, :47].mean()), abs=2)
    assert likeness(found.view, measured(a_part()).view.grey) > 0.98
    assert likeness(measured(pixels).view, measured(a_part()).view.grey) < 0.8


def test_an_image_of_other_proportions_is_measured_without_its_padding() -> None:
    wide = np.repeat(a_part(), 3, axis=1)
    found = measured(wide)
    assert found.light.brightness == pytest.approx(float(wide.mean()), abs=1)
    assert 0.3 < found.view.inspected_mask.mean() < 0.4


def view_of(grey: NDArray[np.float32]) -> View:
    return View(grey, np.ones((VIEW_SIDE, VIEW_SIDE), dtype=np.bool_))


def test_likeness_is_a_correlation() -> None:
    expected = waves(20, 30, VIEW_SIDE)
    assert likeness(view_of(expected), expected) == pytest.approx(1)
    assert likeness(view_of(expected * np.float32(0.3) + np.float32(9)), expected) == pytest.approx(1)
    noise = np.random.Generator(np.random.Philox(2)).normal(100, 20, (VIEW_SIDE, VIEW_SIDE)).astype(np.float32)
    assert likeness(view_of(noise), expected) < 0.3


def test_likeness_allows_for_the_play_of_a_fixture() -> None:
    expected = measured(a_part()).view.grey
    moved = np.roll(expected, (MOST_SHIFT, -MOST_SHIFT), axis=(0, 1))
    assert likeness(view_of(moved), expected) == pytest.approx(1)
    assert likeness(view_of(np.roll(expected, 12, axis=1)), expected) < 0.8


def test_an_empty_view_is_like_nothing() -> None:
    expected = waves(20, 30, VIEW_SIDE)
    flat = np.full((VIEW_SIDE, VIEW_SIDE), 90, dtype=np.float32)
    assert likeness(view_of(flat), expected) == 0
    assert likeness(view_of(expected), flat) == 0
    assert likeness(View(expected, np.zeros((VIEW_SIDE, VIEW_SIDE), dtype=np.bool_)), expected) == 0
