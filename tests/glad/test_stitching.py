"""One map of many tiles: no seams, the same as of one image where that can be had, and blind to what does not count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from glad.images.tiling import TileLayout, lay_out
from glad.scoring import Evidence, ImageScore, anomaly_map, at_side, gather_evidence, image_scores, score_image
from glad.settings.method import Direction, Foreground, Length, MethodSettings, Resize, ScoreSettings
from glad.smoothing import BAND, blur_bands, smooth, smooth_inspected
from glad.stitching import Stitching
from tests.glad.toys import PixelFeatures, random_images

SCORE = ScoreSettings(layers=(1, 2), window=0, pixel_weight=2.0, smoothing=Length(value=2), taps=Length(value=7))


def laid_out(width: int, height: int, score: ScoreSettings = SCORE) -> TileLayout:
    fields: dict[str, Any] = {"resolution": 32, "trigger": {"delta": 0.3}, "score": score}
    fields["framing"] = {"kind": "tiles", "side": 32, "overlap": 8}
    return lay_out(width, height, MethodSettings.model_validate(fields))


def judged(layout: TileLayout, inputs: Tensor, outputs: Tensor, score: ScoreSettings = SCORE) -> ImageScore:
    """The verdict on a whole picture (3, H, W) and its counterpart, tile by tile."""
    stitching = Stitching(layout, score.resolution or 32)
    valid = torch.from_numpy(layout.placement.valid_pixels())
    for tile in layout.tiles:
        place = ..., slice(tile.y, tile.y + 32), slice(tile.x, tile.x + 32)
        (evidence,) = gather_evidence(
            inputs[place][None], outputs[place][None], PixelFeatures(), score, valid[place][None]
        )
        stitching.add(tile, evidence)
    return score_image(stitching.evidence, valid, valid, score, 32)


@settings(max_examples=30, deadline=None)
@given(width=st.integers(32, 150), height=st.integers(32, 150))
def test_an_image_that_differs_alike_everywhere_has_a_map_without_seams(width: int, height: int) -> None:
    layout = laid_out(width, height)
    found = judged(layout, torch.full((3, height, width), 0.4), torch.full((3, height, width), -0.3)).map
    assert found.max() > 0.1
    assert found.max() - found.min() <= 1e-6 * found.max()


def test_where_patches_are_pixels_many_tiles_give_the_map_and_score_of_one_image() -> None:
    # matched in place and by single pixels, a tile knows all that there is to know; maxima of the pixel term, blur and
    # the largest pixels are the whole image's
    inputs, outputs = random_images(1, 90)[0], random_images(1, 90, seed=5)[0]
    stitched = judged(laid_out(90, 90), inputs, outputs)
    whole = anomaly_map(inputs[None], outputs[None], PixelFeatures(), SCORE)
    torch.testing.assert_close(stitched.map, whole[0], atol=1e-5, rtol=0)
    assert stitched.score.item() == pytest.approx(image_scores(whole, SCORE).item(), rel=1e-5)


def test_tiles_may_come_in_any_order() -> None:
    layout = laid_out(100, 70)
    evidence = [Evidence(torch.rand(32, 32), torch.rand(32, 32), None) for _ in layout.tiles]
    one, other = Stitching(layout, 32), Stitching(layout, 32)
    for tile in layout.tiles:
        one.add(tile, evidence[tile.index])
    for tile in reversed(layout.tiles):
        other.add(tile, evidence[tile.index])
    torch.testing.assert_close(one.evidence.layers_map, other.evidence.layers_map, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="no tile was added"):
        _ = Stitching(layout, 32).evidence


def test_a_scratch_weighs_on_many_tiles_as_on_one() -> None:
    score = SCORE.model_validate({**SCORE.model_dump(), "top": {"value": 0.02, "unit": "area"}, "pixel_weight": 0})
    scores = []
    for width in (32, 32 * 12):
        inputs = torch.zeros(3, 32, width)
        outputs = inputs.clone()
        outputs[0, 10:14, 10:20] = 0.8
        scores.append(judged(laid_out(width, 32, score), inputs, outputs, score).score.item())
    assert scores[1] == pytest.approx(scores[0], rel=1e-5)


@pytest.mark.parametrize("foreground", list(Foreground))
@pytest.mark.parametrize("direction", list(Direction))
def test_what_does_not_count_takes_no_part_in_map_and_score(direction: Direction, foreground: Foreground) -> None:
    inputs, outputs = random_images(1, 32).clamp(-1, 1), random_images(1, 32, seed=5).clamp(-1, 1)
    inspected_mask = torch.from_numpy(np.hypot(*np.mgrid[-8:24, -20:12]) > 7.5)[None]
    everywhere = torch.ones(32, 32, dtype=torch.bool)
    score = SCORE.model_copy(update={"direction": direction, "window": None, "foreground": foreground})

    def verdict() -> ImageScore:
        (evidence,) = gather_evidence(inputs, outputs, PixelFeatures(), score, inspected_mask)
        return score_image(evidence, everywhere, inspected_mask[0], score, 32)

    before = verdict()
    for images in (inputs, outputs):
        images.masked_fill_(~inspected_mask[:, None], float("nan"))
    inputs[:, :, 8, 20] = 1.0
    after = verdict()
    assert torch.equal(before.map, after.map)
    assert torch.equal(before.score, after.score)
    assert (after.map[~inspected_mask[0]] == 0).all()


def test_smoothing_darkens_nothing_beside_what_does_not_count_and_takes_nothing_from_it() -> None:
    inspected_mask = torch.ones(30, 40, dtype=torch.bool)
    inspected_mask[10:20, 15:25] = False
    values = torch.where(inspected_mask, 3.0, 1000.0)
    blur = Length(value=3), Length(value=13), 40
    found = smooth_inspected(values, inspected_mask, *blur)
    torch.testing.assert_close(found[inspected_mask], torch.full((1100,), 3.0))
    assert (found[~inspected_mask] == 0).all()
    everything = torch.rand(30, 40)
    assert torch.equal(smooth_inspected(everything, torch.ones_like(inspected_mask), *blur), smooth(everything, *blur))


def test_a_large_map_is_smoothed_in_bands_as_in_one_product() -> None:
    length = 2 * BAND + 300
    bands = blur_bands(length, 6.0, 24)
    assert [band.matrix.shape for band in bands] == [(1024, 1048), (1024, 1072), (300, 324)]
    values = torch.rand(length, 5, generator=torch.Generator().manual_seed(0))
    found = smooth(values, Length(value=6), Length(value=49), length)
    weights = np.exp(-0.5 * (np.arange(-24, 25) / 6) ** 2)
    weights /= weights.sum()
    wide = np.pad(values.numpy().astype(np.float64), ((24, 24), (24, 24)), mode="reflect")
    down = np.stack([np.convolve(column, weights, mode="valid") for column in wide.T]).T
    expected = np.stack([np.convolve(row, weights, mode="valid") for row in down])
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("resize", list(Resize))
def test_a_map_scored_at_another_side_comes_back_to_its_place(resize: Resize) -> None:
    # a ramp is a straight line at every scale, so the way back must give it again, but for its very ends
    ramp = torch.arange(32.0).expand(32, 32).contiguous() / 31
    plain = {"smoothing": Length(value=1), "taps": Length(value=1), "pixel_weight": 0.0}
    score = SCORE.model_copy(update={"resolution": 16, "resize": resize, **plain})
    small = at_side(ramp.expand(1, 3, 32, 32), 16, resize)[0, 0]
    everywhere = torch.ones(32, 32, dtype=torch.bool)
    found = score_image(Evidence(small, None, None), everywhere, everywhere, score, 32).map
    torch.testing.assert_close(found[:, 1:-1], ramp[:, 1:-1], atol=1e-5, rtol=0)


def test_scored_at_half_the_side_the_images_are_the_means_of_two_by_two_pixels() -> None:
    inputs, outputs = random_images(1, 32), random_images(1, 32, seed=5)
    half = SCORE.model_copy(update={"resolution": 16})
    (evidence,) = gather_evidence(inputs, outputs, PixelFeatures(), half)
    ours, theirs = (torch.nn.functional.avg_pool2d(images, 2) for images in (inputs, outputs))
    (expected,) = gather_evidence(ours, theirs, PixelFeatures(), SCORE)
    torch.testing.assert_close(evidence.layers_map, expected.layers_map)
    everywhere = torch.ones(32, 32, dtype=torch.bool)
    verdict = score_image(evidence, everywhere, everywhere, half, 32)
    maps = anomaly_map(ours, theirs, PixelFeatures(), SCORE)
    torch.testing.assert_close(verdict.score, image_scores(maps, SCORE)[0])
    assert verdict.map.shape == (32, 32)
    assert verdict.map.mean().item() == pytest.approx(maps.mean().item(), rel=1e-3)
