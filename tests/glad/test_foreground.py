"""Which part of an image is the object, and what that does to its map."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from glad.foreground import foreground_mask, grey_of, otsu_threshold
from glad.settings.method import Foreground, Length, ScoreSettings

BLUR = {"smoothing": Length(value=2), "taps": Length(value=5)}


def brute_force(levels: list[int]) -> int | None:
    """Every threshold tried, the variance between its classes computed from their means."""
    best, found = 0.0, None
    for t in range(256):
        low, high = [v for v in levels if v <= t], [v for v in levels if v > t]
        if low and high:
            spread = len(low) * len(high) * (np.mean(low) - np.mean(high)) ** 2
            if spread > best * (1 + 1e-12):
                best, found = float(spread), t
    return found


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 255), min_size=1, max_size=40))
def test_otsus_threshold_parts_the_classes_that_differ_most(levels: list[int]) -> None:
    assert otsu_threshold(torch.tensor(levels, dtype=torch.float32)) == brute_force(levels)


def test_grey_is_the_luma_of_the_eye() -> None:
    red = torch.tensor([1.0, -1.0, -1.0])[None, :, None, None]
    assert grey_of(red).item() == pytest.approx(0.299 * 255)
    assert grey_of(torch.full((1, 3, 1, 1), 1.0)).item() == pytest.approx(255)


@pytest.mark.parametrize(("kind", "object_is"), [(Foreground.DARK, 20.0), (Foreground.BRIGHT, 220.0)])
def test_the_object_is_widened_by_half_the_taps_and_its_edge_is_soft(kind: Foreground, object_is: float) -> None:
    inside = np.zeros((40, 40), dtype=bool)
    inside[15:25, 15:25] = True
    grey = torch.from_numpy(np.where(inside, object_is, 240.0 - object_is)).float()
    everything = torch.ones(40, 40, dtype=torch.bool)
    found = foreground_mask(grey, everything, ScoreSettings(foreground=kind, **BLUR), 40).numpy()
    wide = ndimage.binary_dilation(inside, np.ones((5, 5))).astype(float)
    expected = ndimage.gaussian_filter(wide, 2, mode="mirror", radius=2)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found[15:25, 15:25] == pytest.approx(1)
    assert found[0, 0] == 0


def test_an_image_of_one_grey_is_all_object() -> None:
    everything = torch.ones(8, 8, dtype=torch.bool)
    mask = foreground_mask(torch.full((8, 8), 90.0), everything, ScoreSettings(foreground=Foreground.DARK), 8)
    assert (mask == 1).all()


def test_what_does_not_count_moves_no_threshold_and_darkens_no_neighbour() -> None:
    grey = torch.full((20, 20), 200.0)
    grey[:, 10:] = 30.0  # an ignored fixture of another grey
    grey[5, 3] = 190.0  # the object: the rest that counts is a little brighter
    inspected_mask = torch.ones(20, 20, dtype=torch.bool)
    inspected_mask[:, 10:] = False
    score = ScoreSettings(foreground=Foreground.BRIGHT, **BLUR)
    mask = foreground_mask(grey, inspected_mask, score, 20)
    assert mask[:, 8:10] == pytest.approx(1)  # bright to the fixture's border
    assert torch.equal(
        mask[:, :10], foreground_mask(torch.where(inspected_mask, grey, 255.0), inspected_mask, score, 20)[:, :10]
    )
