"""The map, its smoothing, the score and the regions: every quantity by hand, per image, and blind to padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from glad.images.placement import fit
from glad.images.rendering import defect_regions, hottest_place
from glad.scoring import add_pixel_term, anomaly_map, at_side, image_scores, patch_map, valid_rectangle
from glad.settings.method import Area, Direction, Length, Resize, ScoreSettings
from glad.smoothing import smooth
from tests.glad.toys import PixelFeatures, random_images

NO_BLUR = {"smoothing": Length(value=1), "taps": Length(value=1)}
ALL_LAYERS = ScoreSettings(layers=(1, 2), top=Area(value=3), **NO_BLUR)


def test_eq_12_sums_the_layers_after_enlarging_each() -> None:
    # layer 1: one patch row, distances 0 and 1; layer 2: both 1. Four pixels of layer 1: 0, 1/3, 2/3, 1.
    x, y = [1.0, 0.0], [0.0, 1.0]
    first = torch.tensor([[x, y]]), torch.tensor([[x, x]])
    second = torch.tensor([[y, y]]), torch.tensor([[x, x]])
    found = patch_map([first, second], (1, 4), ALL_LAYERS)
    torch.testing.assert_close(found, torch.tensor([[1.0, 4 / 3, 5 / 3, 2.0]]))


def test_the_pixel_term_scales_its_own_maximum_to_the_maps() -> None:
    found, distance = torch.tensor([[0.2, 0.8]]), torch.tensor([[0.5, 0.25]])
    # v * max(M) / max(D) = 2 * 0.8 / 0.5 = 3.2: 0.2 + 3.2 * 0.5 = 1.8 and 0.8 + 3.2 * 0.25 = 1.6
    torch.testing.assert_close(add_pixel_term(found, distance, 2.0), torch.tensor([[1.8, 1.6]]))


def test_two_equal_images_have_no_pixel_term() -> None:
    found = torch.tensor([[0.2, 0.8]])
    assert torch.equal(add_pixel_term(found, torch.zeros(1, 2), 2.0), found)


@pytest.mark.parametrize(("normalise", "share"), [(False, 1.0), (True, 0.224 / 0.229)])
def test_the_pixel_distance_is_taken_on_images_as_the_features_see_them(normalise: bool, share: float) -> None:
    images = torch.zeros(1, 3, 2, 2)
    changed = images.clone()
    changed[0, 0, 0, 0] = changed[0, 1, 1, 1] = 0.2  # red here, green there: equal, or 0.1 / 0.229 against 0.1 / 0.224
    settings = ScoreSettings(layers=(1,), pixel_weight=3.0, window=0, imagenet_normalise=normalise, **NO_BLUR)
    found = anomaly_map(images, changed, PixelFeatures(), settings)[0]
    without = anomaly_map(images, changed, PixelFeatures(), settings.model_copy(update={"pixel_weight": 0.0}))[0]
    most = 3 * without.max()
    torch.testing.assert_close(found - without, torch.stack([most * share, most * 0, most * 0, most]).view(2, 2))


def test_maps_and_scores_are_per_image() -> None:
    inputs, outputs = random_images(4, 16), random_images(4, 16, seed=5)
    outputs[3] *= 5  # a neighbour with far larger distances
    settings = ScoreSettings(layers=(1, 2), pixel_weight=2.0, direction=Direction.SUM, smoothing=Length(value=2))
    side_by_side = anomaly_map(inputs, outputs, PixelFeatures(), settings)
    for i in range(4):
        alone = anomaly_map(inputs[i : i + 1], outputs[i : i + 1], PixelFeatures(), settings)
        assert torch.equal(alone[0], side_by_side[i])
        assert torch.equal(image_scores(alone, settings)[0], image_scores(side_by_side, settings)[i])


def gauss(sigma: float, radius: int) -> list[float]:
    weights = [np.exp(-0.5 * (offset / sigma) ** 2) for offset in range(-radius, radius + 1)]
    return [float(weight / sum(weights)) for weight in weights]


def test_smoothing_spreads_a_point_by_the_gaussian() -> None:
    point = torch.zeros(9, 9)
    point[4, 4] = 1
    w = torch.tensor(gauss(1.5, 2))
    spread = smooth(point, Length(value=1.5), Length(value=5), side=9)
    torch.testing.assert_close(spread[2:7, 2:7], torch.outer(w, w))
    assert spread.sum().item() == pytest.approx(1)


def test_smoothing_reflects_without_repeating_the_edge() -> None:
    # 3 taps on [a, b, c]: the first is w * b + w0 * a + w * b
    w, w0, _ = gauss(1.0, 1)
    row = torch.tensor([[1.0, 10.0, 100.0]])
    spread = smooth(row, Length(value=1), Length(value=3), side=3)
    torch.testing.assert_close(spread, torch.tensor([[w0 + 20 * w, 101 * w + 10 * w0, 100 * w0 + 20 * w]]))


def test_a_kernel_wider_than_the_image_still_reflects() -> None:
    # [1, 3] mirrored is ... 1 3 1 3 ...: with 7 taps the first pixel takes its even offsets from 1, its odd ones from 3
    weights = gauss(2.0, 3)
    odd, even = sum(weights[0::2]), sum(weights[1::2])  # offsets -3, -1, 1, 3 and -2, 0, 2
    spread = smooth(torch.tensor([[1.0, 3.0]]), Length(value=2), Length(value=7), side=2)
    torch.testing.assert_close(spread, torch.tensor([[even + 3 * odd, 3 * even + odd]]))


def test_smoothing_is_as_opencv_and_torchvision_do_it() -> None:
    # their border mode "reflect 101" is NumPy's pad mode "reflect"
    values = torch.rand(20, 30, generator=torch.Generator().manual_seed(0))
    w = np.array(gauss(6.0, 8))
    wide = np.pad(values.numpy().astype(np.float64), 8, mode="reflect")
    rows = np.stack([np.convolve(row, w, mode="valid") for row in wide])
    expected = np.stack([np.convolve(column, w, mode="valid") for column in rows.T]).T
    np.testing.assert_allclose(smooth(values, Length(value=6), Length(value=17), 30).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("length", "side", "pixels"),
    [
        (Length(value=6), 256, 6.0),
        (Length(value=6 / 512, unit="side"), 192, 2.25),
        (Length(value=1 / 512, unit="side"), 192, 1.0),
    ],
)
def test_lengths_are_pixels_or_fractions_of_the_side_never_below_one(length: Length, side: int, pixels: float) -> None:
    assert length.pixels(side) == pixels


def test_the_score_is_the_mean_of_the_largest_pixels() -> None:
    found = torch.tensor([[[0.0, 5.0, 1.0], [4.0, 3.0, 2.0]], [[0.0, 0.0, 0.0], [0.0, 0.0, 9.0]]])
    assert image_scores(found, ALL_LAYERS).tolist() == [4.0, 3.0]  # (5 + 4 + 3) / 3 and 9 / 3


def test_a_fraction_of_the_area_counts_only_what_is_not_padding() -> None:
    found = torch.tensor([[[8.0, 6.0, 4.0, 2.0], [7.0, 7.0, 7.0, 7.0]]])
    valid = torch.tensor([[[True] * 4, [False] * 4]])
    half = ScoreSettings(layers=(1,), top=Area(value=0.5, unit="area"))
    assert image_scores(found, half, valid).tolist() == [7.0]  # half of four pixels: (8 + 6) / 2
    assert image_scores(found, half).tolist() == [7.25]  # half of eight: (8 + 7 + 7 + 7) / 4


def letterboxed(seed: int) -> tuple[Tensor, Tensor]:
    """Two images whose upper and lower quarter are padding, and the mask of what is not."""
    images = random_images(2, 32, seed)
    valid = torch.zeros(2, 32, 32, dtype=torch.bool)
    valid[:, 8:24] = True
    return images, valid


@pytest.mark.parametrize("window", [0, None])
@pytest.mark.parametrize("patch", [1, 4])
def test_padding_takes_no_part_in_map_and_score(window: int | None, patch: int) -> None:
    inputs, valid = letterboxed(0)
    outputs, _ = letterboxed(5)
    settings = ScoreSettings(
        layers=(1, 2),
        window=window,
        pixel_weight=2.0,
        direction=Direction.SUM,
        smoothing=Length(value=2),
        taps=Length(value=13),
    )
    before = anomaly_map(inputs, outputs, PixelFeatures(patch), settings, valid)
    assert (before[~valid] == 0).all()
    spoiled_inputs, spoiled_outputs = inputs.clone(), outputs.clone()
    spoiled_inputs[:, :, :8] = 50.0
    spoiled_outputs[:, :, 24:] = float("nan")
    after = anomaly_map(spoiled_inputs, spoiled_outputs, PixelFeatures(patch), settings, valid)
    assert torch.equal(before, after)
    assert torch.equal(image_scores(before, settings, valid), image_scores(after, settings, valid))


def test_a_letterboxed_map_is_that_of_the_image_without_its_padding() -> None:
    # at one pixel per patch nothing is interpolated, so the whole map must be the same
    inputs, valid = letterboxed(0)
    outputs, _ = letterboxed(5)
    settings = ScoreSettings(layers=(1, 2), pixel_weight=2.0, smoothing=Length(value=2), taps=Length(value=13))
    padded = anomaly_map(inputs, outputs, PixelFeatures(), settings, valid)
    cut = anomaly_map(inputs[:, :, 8:24], outputs[:, :, 8:24], PixelFeatures(), settings)
    torch.testing.assert_close(padded[:, 8:24], cut, atol=1e-6, rtol=0)


def test_a_mask_without_padding_is_as_no_mask() -> None:
    inputs, outputs = random_images(2, 16), random_images(2, 16, seed=5)
    everywhere = torch.ones(2, 16, 16, dtype=torch.bool)
    settings = ScoreSettings(layers=(1,), pixel_weight=1.0)
    plain = anomaly_map(inputs, outputs, PixelFeatures(2), settings)
    assert torch.equal(anomaly_map(inputs, outputs, PixelFeatures(2), settings, everywhere), plain)


def test_a_valid_area_that_is_no_rectangle_is_refused() -> None:
    valid = torch.ones(4, 4, dtype=torch.bool)
    valid[1, 2] = False
    with pytest.raises(ValueError, match="filled rectangle"):
        valid_rectangle(valid)
    with pytest.raises(ValueError, match="filled rectangle"):
        valid_rectangle(torch.zeros(4, 4, dtype=torch.bool))


def test_not_a_number_reaches_the_score() -> None:
    inputs, outputs = random_images(1, 16), random_images(1, 16, seed=5)
    outputs[0, 0, 3, 3] = float("nan")
    settings = ScoreSettings(layers=(1, 2), pixel_weight=1.0)
    assert image_scores(anomaly_map(inputs, outputs, PixelFeatures(), settings), settings).isnan().all()


def test_all_layers_of_input_and_reconstruction_are_read_in_one_pass_each() -> None:
    features = PixelFeatures()
    anomaly_map(random_images(3, 8), random_images(3, 8, seed=1), features, ALL_LAYERS)
    assert features.batches == [1] * 6
    assert set(features.asked) == {(1, 2)}


def test_regions_are_connected_areas_at_or_above_the_threshold() -> None:
    found = np.zeros((6, 8), dtype=np.float32)
    found[1, 1], found[2, 2] = 0.5, 0.7  # touch by a corner: one region
    found[4, 4:7] = 0.9
    found[0, 7] = 0.49
    regions = defect_regions(found, 0.5)
    assert [(region.box, region.area_px) for region in regions] == [((4, 4, 3, 1), 3), ((1, 1, 2, 2), 2)]
    assert [region.peak for region in regions] == pytest.approx([0.9, 0.7])
    assert defect_regions(found, 1.0) == []


def test_regions_are_told_in_pixels_of_the_original() -> None:
    placement = fit(np.zeros((100, 200, 3), dtype=np.uint8), 50).placement  # scale 1/4: content 50 x 25
    found = np.zeros((25, 50), dtype=np.float32)
    found[10:12, 20:23] = 1.0
    (region,) = defect_regions(found, 0.5, placement)
    assert region.box == (80, 40, 12, 8)
    assert region.area_px == 6 * 16


def test_the_hottest_place_is_told_in_pixels_of_the_original_also_below_every_threshold() -> None:
    placement = fit(np.zeros((100, 200, 3), dtype=np.uint8), 50).placement  # scale 1/4: content 50 x 25
    found = np.zeros((25, 50), dtype=np.float32)
    found[10, 20], found[3, 3] = 0.25, 0.125
    assert hottest_place(found, placement) == (80 + 2, 40 + 2, 0.25)  # the middle of 4 x 4 pixels


def test_at_half_the_side_areas_give_means_and_aligned_corners_keep_the_corners() -> None:
    image = torch.arange(16.0).view(1, 1, 4, 4).expand(1, 3, 4, 4)
    # rows 0 1 2 3 | 4 5 6 7 | ...: the mean of 0, 1, 4, 5 is 2.5; aligned, the corner pixels stay what they are
    areas, aligned = (at_side(image, 2, how)[0, 0] for how in (Resize.PIXEL_AREAS, Resize.ALIGNED_CORNERS))
    torch.testing.assert_close(areas, torch.tensor([[2.5, 4.5], [10.5, 12.5]]))
    torch.testing.assert_close(aligned, torch.tensor([[0.0, 3.0], [12.0, 15.0]]))
