"""Camera noise has the variances that its settings promise, and repeats."""

from __future__ import annotations

import numpy as np
import pytest

from training.data.camera_noise import CameraNoise, add_camera_noise


@pytest.mark.parametrize("value", [20, 100, 200])
def test_shot_and_read_noise_have_the_variance_of_their_settings(value: int) -> None:
    camera = CameraNoise(gain=0.05, read_noise=1.0)
    noisy = add_camera_noise(np.full((200, 200, 3), value, np.uint8), camera, "a.png:0").astype(float)
    # Poisson: value * gain; reading: 1; rounding to whole values: 1/12. 120,000 samples: good to 0.4 %.
    assert noisy.var() == pytest.approx(value * 0.05 + 1 + 1 / 12, rel=0.03)
    assert noisy.mean() == pytest.approx(value, abs=0.05)


def test_a_photograph_repeats_exactly_and_differs_by_its_name() -> None:
    pixels = np.full((8, 8, 3), 120, np.uint8)
    camera = CameraNoise()
    first = add_camera_noise(pixels, camera, "a.png:0")
    assert np.array_equal(first, add_camera_noise(pixels, camera, "a.png:0"))
    assert not np.array_equal(first, add_camera_noise(pixels, camera, "a.png:1"))
    assert not np.array_equal(first, add_camera_noise(pixels, camera, "b.png:0"))
