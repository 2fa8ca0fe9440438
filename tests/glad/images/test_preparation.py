"""Padding and exposure of a prepared image: what a backbone is given, on numbers that are derived by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from glad.images.placement import fit
from glad.images.preparation import normalise_exposure, prepare_image
from glad.settings.embedding import Exposure, ImagePreparation, Padding

GREY = (0.5, 0.4, 0.3)


def checks(width: int, height: int, low: int, high: int) -> NDArray[np.uint8]:
    """Return a chequerboard of two grey levels, as often the one as the other."""
    odd = np.add.outer(np.arange(height), np.arange(width)) % 2
    return np.repeat(np.where(odd == 1, high, low).astype(np.uint8)[..., None], 3, axis=2)


def test_the_defaults_are_what_the_letterbox_always_gave() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 64, 3), dtype=np.uint8)
    prepared = prepare_image(pixels, 64, ImagePreparation(), GREY)
    np.testing.assert_allclose(prepared.values, fit(pixels, 64).pixels / 127.5 - 1, atol=1e-6)


def test_mean_grey_padding_is_the_backbones_mean_and_leaves_the_image_as_it_is() -> None:
    pixels = checks(64, 32, 40, 60)
    prepared = prepare_image(pixels, 64, ImagePreparation(padding=Padding.MEAN_GREY), GREY)
    # In [-1, 1] a mean of 0.5, 0.4, 0.3 is 0, -0.2, -0.4; 40 is 40 / 127.5 - 1.
    np.testing.assert_allclose(prepared.values[~prepared.valid], np.tile([0, -0.2, -0.4], (32 * 64, 1)), atol=1e-6)
    assert prepared.values[prepared.valid].min() == pytest.approx(40 / 127.5 - 1)


@pytest.mark.parametrize("padding", Padding)
def test_a_normalised_exposure_counts_the_image_alone_whatever_the_padding(padding: Padding) -> None:
    pixels = checks(64, 32, 40, 80)  # mean 60, deviation 20: so 40 becomes 127 - 50, 80 becomes 127 + 50
    preparation = ImagePreparation(padding=padding, exposure=Exposure.NORMALISED)
    inside = prepare_image(pixels, 64, preparation, GREY).values[16:48]
    assert np.unique(np.rint((inside + 1) * 127.5)).tolist() == [77, 177]


def test_a_normalised_exposure_undoes_gain_and_offset() -> None:
    values = np.random.default_rng(1).uniform(50, 100, (8, 8, 3)).astype(np.float32)
    whole = slice(0, 8), slice(0, 8)
    np.testing.assert_allclose(normalise_exposure(values * 2 + 10, whole), normalise_exposure(values, whole), atol=1e-3)


def test_an_image_of_little_contrast_is_not_stretched_without_limit() -> None:
    # The deviation is 1, and 8 is the least that is divided by: 1 grey level becomes 50 / 8.
    values = checks(8, 8, 99, 101).astype(np.float32)
    found = normalise_exposure(values, (slice(0, 8), slice(0, 8)))
    assert np.unique(found).tolist() == [127 - 6.25, 127 + 6.25]


def test_a_bright_speck_is_not_clipped() -> None:
    pixels = checks(64, 64, 100, 110)
    pixels[3, 3] = 255
    prepared = prepare_image(pixels, 64, ImagePreparation(exposure=Exposure.NORMALISED), GREY)
    assert prepared.values[3, 3].min() > 3
