"""Eq. 11: every patch finds its best match, in a window or anywhere, in one direction or both, never in padding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from glad.patch_matching import ROWS_AT_ONCE, imagenet_normalised, match_map, resize_map, resize_valid, top_mean
from glad.settings.method import Area, Direction


def features(height: int, width: int, depth: int = 5, seed: int = 0) -> Tensor:
    return torch.randn(height, width, depth, generator=torch.Generator().manual_seed(seed))


def brute(ours: Tensor, theirs: Tensor, window: int | None, valid: Tensor | None) -> Tensor:
    """Every pair by itself."""
    height, width, _ = ours.shape
    found = torch.zeros(height, width)
    for i in range(height):
        for j in range(width):
            distances = [
                1 - torch.cosine_similarity(ours[i, j], theirs[y, x], dim=0).item()
                for y in range(height)
                for x in range(width)
                if (window is None or max(abs(y - i), abs(x - j)) <= window) and (valid is None or valid[y, x])
            ]
            found[i, j] = min(distances) if valid is None or valid[i, j] else 0.0
    return found


def test_two_patches_by_hand() -> None:
    # (1, 0) against (1, 0) and (3, 4): cosines 1 and 0.6; (0, 1) against the same: 0 and 0.8
    ours = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    theirs = torch.tensor([[[1.0, 0.0], [3.0, 4.0]]])
    torch.testing.assert_close(match_map(ours, theirs, Direction.INPUT), torch.tensor([[0.0, 0.2]]))
    # the other way: the best of (1, 0) is (1, 0), the best of (3, 4) is (0, 1) with 0.8
    torch.testing.assert_close(match_map(ours, theirs, Direction.SUM), torch.tensor([[0.0, 0.4]]))
    torch.testing.assert_close(match_map(ours, theirs, Direction.MEAN), torch.tensor([[0.0, 0.2]]))


def test_only_the_other_direction_sees_what_is_missing() -> None:
    plate, screw = [1.0, 0.0], [0.0, 1.0]
    shows_plate_only = torch.tensor([[plate, plate, plate]])
    should_have_a_screw = torch.tensor([[plate, screw, plate]])
    assert match_map(shows_plate_only, should_have_a_screw, Direction.INPUT).max() == 0
    assert match_map(shows_plate_only, should_have_a_screw, Direction.SUM).tolist() == [[0, 1, 0]]
    # at the same place, one direction is enough
    assert match_map(shows_plate_only, should_have_a_screw, Direction.INPUT, window=0).tolist() == [[0, 1, 0]]


@pytest.mark.parametrize("window", [0, 1, 2, 4, 6, None])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("grid", [(5, 7), (7, 3), (1, 6)])
def test_windows_agree_with_comparing_every_pair(window: int | None, padded: bool, grid: tuple[int, int]) -> None:
    ours, theirs = features(*grid), features(*grid, seed=1)
    valid = None
    if padded:
        valid = torch.zeros(grid, dtype=torch.bool)
        valid[grid[0] // 3 :, grid[1] // 3 : -1] = True
    forward, backward = brute(ours, theirs, window, valid), brute(theirs, ours, window, valid)
    found = match_map(ours, theirs, Direction.INPUT, window, valid)
    torch.testing.assert_close(found, forward, atol=1e-6, rtol=0)
    both = match_map(ours, theirs, Direction.SUM, window, valid)
    torch.testing.assert_close(both, forward + backward, atol=1e-6, rtol=0)
    mean = match_map(ours, theirs, Direction.MEAN, window, valid)
    torch.testing.assert_close(mean, (forward + backward) / 2, atol=1e-6, rtol=0)


def test_more_patches_than_one_chunk_agree_with_one_product() -> None:
    side = 40
    assert side * side > ROWS_AT_ONCE
    ours, theirs = features(side, side), features(side, side, seed=1)
    cosines = (
        torch.nn.functional.normalize(ours.view(-1, 5), dim=1)
        @ torch.nn.functional.normalize(theirs.view(-1, 5), dim=1).T
    )
    expected = (1 - cosines).amin(1) + (1 - cosines).amin(0)
    torch.testing.assert_close(match_map(ours, theirs, Direction.SUM).flatten(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("window", [0, 2, None])
def test_features_of_padding_change_nothing(window: int | None) -> None:
    ours, theirs = features(6, 6), features(6, 6, seed=1)
    valid = torch.ones(6, 6, dtype=torch.bool)
    valid[:2] = False
    before = match_map(ours, theirs, Direction.SUM, window, valid)
    ours[:2], theirs[:2] = float("nan"), ours[2:4]
    assert torch.equal(match_map(ours, theirs, Direction.SUM, window, valid), before)
    assert (before[:2] == 0).all()


def test_equal_features_have_no_distance_and_opposite_ones_two() -> None:
    ours = features(4, 4)
    assert match_map(ours, ours, Direction.INPUT).max() < 1e-6
    assert match_map(ours, ours, Direction.INPUT).min() >= 0
    torch.testing.assert_close(match_map(ours, -ours, Direction.INPUT, window=0), torch.full((4, 4), 2.0))


def test_not_a_number_stays_not_a_number() -> None:
    ours = features(3, 3)
    ours[1, 1] = float("nan")
    for window in (0, None):
        assert match_map(ours, features(3, 3, seed=1), Direction.INPUT, window)[1, 1].isnan()
    assert top_mean(torch.tensor([1.0, float("nan"), 2.0]), 1).isnan()


def test_enlarging_aligns_corners_and_takes_nothing_from_padding() -> None:
    values = torch.tensor([[0.0, 2.0], [4.0, 6.0]])
    # aligned corners: the middle of each edge is the mean of its ends
    assert resize_map(values, (3, 3)).tolist() == [[0, 1, 2], [2, 3, 4], [4, 5, 6]]
    valid = torch.tensor([[True, False], [True, False]])
    assert resize_map(values, (3, 3), valid).tolist() == [[0, 0, 0], [2, 2, 0], [4, 4, 0]]
    spoiled = torch.tensor([[0.0, float("nan")], [4.0, float("nan")]])
    assert torch.equal(resize_map(spoiled, (3, 3), valid), resize_map(values, (3, 3), valid))


def test_every_pixel_of_the_image_gets_its_value_from_a_patch_of_the_image() -> None:
    for left in range(0, 33):
        pixels = torch.zeros(64, 64, dtype=torch.bool)
        pixels[:, left : left + 19] = True
        patches = resize_valid(pixels, (8, 8))
        assert (resize_map(torch.ones(8, 8), (64, 64), patches)[pixels] > 0.999).all()


def test_a_patch_is_valid_when_any_of_its_pixels_is() -> None:
    pixels = torch.zeros(4, 4, dtype=torch.bool)
    pixels[0, 1] = pixels[3, 3] = True
    assert resize_valid(pixels, (2, 2)).tolist() == [[True, False], [False, True]]
    assert resize_valid(torch.tensor([[True, False]]), (2, 4)).tolist() == [[True, True, False, False]] * 2


def test_the_mean_of_the_largest() -> None:
    assert top_mean(torch.tensor([1.0, 9.0, 4.0, 5.0]), 3).item() == 6.0


@pytest.mark.parametrize(
    ("total", "least", "elements"),
    [(4096, 4, 10), (1024, 4, 4), (576, 4, 4), (100_000, 4, 244), (3, 4, 3)],
)
def test_the_triggers_top_ten_of_64_squared_is_a_fraction_and_never_less_than_four(
    total: int, least: int, elements: int
) -> None:
    assert Area(value=10 / 4096, unit="area").elements(total, least) == elements


def test_images_are_fed_as_they_are_or_as_imagenet_has_them() -> None:
    images = torch.zeros(1, 3, 1, 1)
    # 0 in [-1, 1] is 0.5 in [0, 1]: (0.5 - 0.485) / 0.229
    assert imagenet_normalised(images)[0, 0].item() == pytest.approx(0.015 / 0.229, rel=1e-5)
