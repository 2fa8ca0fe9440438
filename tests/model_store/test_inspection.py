"""Whole images under every framing: small defects kept, ignored ones ignored, memory bounded, no seams."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from glad.image_codec import Pixels
from glad.images.placement import Box
from glad.images.rendering import LONGEST_PX
from glad.lane import Lane, Trigger, TriggerReason, merge_lanes
from glad.models import Models, PixelModels
from glad.noise_schedule import noise_schedule
from glad.settings.method import MethodSettings, ScheduleSettings
from model_store.inspection import InspectedImage, inspect
from tests.glad.toys import PixelFeatures, PlainAutoencoder, ToyDenoiser

SCORE = {"layers": (1,), "window": 0, "smoothing": {"value": 1}, "taps": {"value": 3}, "top": {"value": 8}}
TILES = {"kind": "tiles", "side": 64, "overlap": 16}
IGNORE_CORNER = {"ignore": [{"points": [(0.5, 0.5), (1, 0.5), (1, 1), (0.5, 1)]}]}
INCLUDE_REST = {"include": [{"points": [(0, 0), (1, 0), (1, 0.5), (0.5, 0.5), (0.5, 1), (0, 1)]}]}


def plain(latent: Tensor, timestep: int) -> Tensor:
    """The prediction of a model that believes every good part to be of one colour: the picture's mean."""
    schedule = noise_schedule(ScheduleSettings(), latent.device)
    alpha_bar = schedule.alpha_bar(torch.tensor([timestep]))[0]
    normal = latent.mean((1, 2), keepdim=True) / alpha_bar.sqrt()
    return (latent - alpha_bar.sqrt() * normal) / (1 - alpha_bar).sqrt()


def toys(patch: int = 1) -> Models:
    return PixelModels(PlainAutoencoder(), ToyDenoiser(plain), PixelFeatures(patch)).assemble()


def method(side: int = 64, **fields: Any) -> MethodSettings:
    quick = {
        "resolution": side,
        "start_level": "first_step",
        "start": 400,
        "steps": 2,
        "t_min": 0,
        "trigger": {"delta": 0},
        "score": SCORE,
    }
    return MethodSettings.model_validate({**quick, **fields})


def part(height: int, width: int, seed: int = 0) -> Pixels:
    """Plain grey with a little noise."""
    noise = np.random.default_rng(seed).normal(110, 3, (height, width, 1))
    return np.repeat(noise, 3, axis=2).round().astype(np.uint8)


def marked(pixels: Pixels, box: Box, level: int = 230) -> Pixels:
    x, y, width, height = box
    changed = pixels.copy()
    changed[y : y + height, x : x + width] = level
    return changed


def found(pixels: Pixels, settings: MethodSettings, **options: Any) -> InspectedImage:
    return inspect([pixels], toys(), settings, **options)[0]


def test_a_photograph_of_12_megapixels_keeps_its_three_pixel_scratch_in_tiles_only() -> None:
    good = part(3000, 4000)
    scratched = marked(good, (2100, 1000, 3, 120), level=150)
    tiles = method(256, framing={"kind": "tiles", "side": 512, "overlap": 64})
    models = toys(patch=2)
    tracemalloc.start()
    (seen,) = inspect([scratched], models, tiles)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(models.denoiser, ToyDenoiser)
    assert models.denoiser.batches == [1] * 126  # 63 tiles at two steps; on a CPU each has calls of its own
    assert peak < 80e6  # all 63 squares with their noise at once would be 110 MB besides maps and pictures
    assert _box_of_peak(seen) == pytest.approx((2100, 1000, 3, 120), abs=8)  # two patches of two pixels at scale 1/2
    assert seen.map.shape == (1500, 2000)
    assert max(seen.reconstruction.shape) <= LONGEST_PX

    boxed = method(256)
    lost, clean = inspect([scratched, good], toys(patch=2), boxed)
    assert lost.score < 1.5 * clean.score
    assert seen.score > 5 * float(np.sort(seen.map[:, :1000], axis=None)[-8:].mean())


def _box_of_peak(seen: InspectedImage) -> Box:
    rows, columns = np.nonzero(seen.map > seen.map.max() / 2)
    box = columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1
    return seen.placement.to_original((int(box[0]), int(box[1]), int(box[2]), int(box[3])))


def test_one_tile_gives_what_the_letterbox_gives() -> None:
    pixels = marked(part(100, 100), (30, 40, 12, 9))
    score = {**SCORE, "pixel_weight": 2.0}
    boxed = found(pixels, method(score=score))
    tiled = found(pixels, method(framing={**TILES, "side": 100}, score=score))
    assert tiled.score == boxed.score
    assert tiled.lane.trigger == boxed.lane.trigger
    np.testing.assert_array_equal(tiled.map, boxed.map)
    np.testing.assert_array_equal(tiled.reconstruction, boxed.reconstruction)


@pytest.mark.parametrize("resolution", [None, 32])
def test_how_tiles_are_grouped_changes_nothing(resolution: int | None) -> None:
    settings = method(framing=TILES, score={**SCORE, "pixel_weight": 1.0, "resolution": resolution})
    images = [marked(part(130, 170), (60, 50, 9, 30)), part(40, 50, seed=1), part(64, 64, seed=2)]
    one_by_one = inspect(images, toys(), settings, tiles_at_once=1)
    for at_once in (5, 8):
        for one, other in zip(one_by_one, inspect(images, toys(), settings, tiles_at_once=at_once), strict=True):
            assert one.score == other.score
            np.testing.assert_array_equal(one.map, other.map)
            np.testing.assert_array_equal(one.reconstruction, other.reconstruction)
    assert [one.lane.unet_evaluations for one in one_by_one] == [24, 2, 2]  # 4 by 3 tiles, one, one


@pytest.mark.parametrize("framing", [{"kind": "letterbox"}, {"kind": "stretch"}, TILES])
@pytest.mark.parametrize("zones", [IGNORE_CORNER, INCLUDE_REST])
def test_a_defect_where_nothing_counts_leaves_the_score_of_the_part_without_it(
    framing: dict[str, Any], zones: dict[str, Any]
) -> None:
    good = part(120, 160)
    bad = marked(good, (120, 90, 20, 15))
    blind, seeing = method(framing=framing, zones=zones), method(framing=framing)
    clean = found(good, blind)
    assert found(bad, blind).score == pytest.approx(clean.score, rel=0.5)  # other pixels, other noise
    assert found(bad, seeing).score > 10 * clean.score
    assert (found(bad, blind).map[clean.placement.rows // 2 + 8 :, clean.placement.columns // 2 + 8 :] == 0).all()


def test_an_ignored_area_does_not_trigger() -> None:
    adapting: dict[str, Any] = {"start": 400, "steps": 4, "t_min": 150, "trigger": {"delta": 0.02, "window": 0}}
    bad = marked(part(64, 64), (40, 40, 16, 16))
    seen, blind = (found(bad, method(zones=zones, **adapting)).lane.trigger for zones in ({}, IGNORE_CORNER))
    assert seen is not None
    assert blind is not None
    assert (seen.reason, blind.reason) == (TriggerReason.SCORE, TriggerReason.T_MIN)


def test_tiles_of_which_nothing_counts_take_no_lane_and_show_the_input() -> None:
    pixels = part(64, 160)
    right = {"include": [{"points": [(0.8, 0), (1, 0), (1, 1), (0.8, 1)]}]}
    seen = found(pixels, method(framing=TILES, zones=right))
    assert seen.lane.unet_evaluations == 2  # of three tiles only the last shows anything from column 128 on
    np.testing.assert_array_equal(seen.input, pixels)
    np.testing.assert_array_equal(seen.reconstruction[:, :80], pixels[:, :80])


def test_a_dark_foreground_hides_the_bright_ground_and_keeps_the_object() -> None:
    pixels = part(64, 64)
    pixels[20:44, 20:44] //= 3
    pixels[30:34, 30:34], pixels[2:6, 2:6] = 60, 255  # one on the object, one far from it
    whole = found(pixels, method()).map
    masked = found(pixels, method(score={**SCORE, "foreground": "dark"})).map
    assert whole[3, 3] > 0.1
    assert masked[3, 3] == 0
    assert masked[32, 32] == whole[32, 32]


def test_scored_at_half_the_side_the_map_still_has_the_models_scale() -> None:
    pixels = marked(part(64, 48), (20, 30, 8, 8))
    full, half = (found(pixels, method(score={**SCORE, "resolution": side})) for side in (None, 32))
    assert half.map.shape == full.map.shape == (64, 64)
    assert half.map[34, 32] == pytest.approx(full.map[34, 32], rel=0.2)
    assert (half.map[:, :8] == 0).all()


def test_the_ways_of_tiles_are_told_as_the_longest_and_the_sum() -> None:
    settings = method(start=100, steps=10)
    late = Lane(settings, 10, Trigger(31, TriggerReason.T_MIN, 0.1), 7, 10)
    early = Lane(settings, 10, Trigger(71, TriggerReason.SCORE, 0.6), 3, 10)
    whole = merge_lanes([late, early, Lane(settings, 10, None, 10, 10)])
    assert whole.trigger == early.trigger
    assert (whole.denoising_step, whole.comparisons, whole.unet_evaluations) == (71, 20, 30)
    assert merge_lanes([late]) == late
    with pytest.raises(ValueError, match="no lanes to merge"):
        merge_lanes([])


def test_the_result_of_one_image_is_the_same_beside_others() -> None:
    torch.manual_seed(0)
    images = [marked(part(100, 140, seed=seed), (20 * seed, 30, 6, 6)) for seed in range(3)]
    beside = inspect(images, toys(), method(framing=TILES))
    for image, one in zip(images, beside, strict=True):
        assert found(image, method(framing=TILES)).score == one.score
