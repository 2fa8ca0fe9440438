"""The same pixels give the same noise, today and next year; anything else gives other noise."""

from __future__ import annotations

import hashlib
import struct
from math import cos, log, pi, sin, sqrt

import numpy as np
import pytest

from glad.seeded_noise import _box_muller, digest_noise, fixed_digest, fixed_noise, image_noise, pixel_digest

PIXELS = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


MASK = 2**64 - 1


def test_golden() -> None:
    """Written down with NumPy 2.4 in 2025. A change here changes every score that was ever given."""
    golden = [[[0.3005663, 1.5761269, 1.0437074], [0.43143433, 0.10441629, -2.0218124]]]
    np.testing.assert_allclose(image_noise(PIXELS, 7, (1, 2, 3)), np.array(golden, dtype=np.float32), rtol=2e-7)


def test_it_is_sha_256_then_philox_then_box_muller() -> None:
    digest = hashlib.sha256(b"glad-noise/1 4x2 seed=7 tile=0\n" + bytes(range(24))).digest()
    assert pixel_digest(PIXELS, 7) == digest
    np.testing.assert_allclose(image_noise(PIXELS, 7, (1, 2, 3)).ravel(), transcribed(digest), rtol=1e-6)


def test_a_tile_hashes_the_digest_of_the_pixels_once_more() -> None:
    digest = pixel_digest(PIXELS, 7)
    own = hashlib.sha256(b"glad-noise/1 tile=3\n" + digest).digest()
    np.testing.assert_allclose(digest_noise(digest, (1, 2, 3), 3).ravel(), transcribed(own), rtol=1e-6)
    np.testing.assert_array_equal(digest_noise(digest, (1, 2, 3), 0), image_noise(PIXELS, 7, (1, 2, 3)))


def transcribed(digest: bytes) -> list[float]:
    """Six values from a digest: Philox, then Box-Muller, word by word."""
    key0, key1, high0, high1 = struct.unpack("<4Q", digest)
    words = [word for low in (1, 2) for word in philox((low, 0, high0, high1), (key0, key1))]  # counters from 1
    units = [(word >> 11) / 2**53 for word in words[:6]]
    radii, angles = [sqrt(-2 * log(1 - u)) for u in units[:3]], [2 * pi * u for u in units[3:]]
    expected = [r * cos(a) for r, a in zip(radii, angles, strict=True)]
    return expected + [r * sin(a) for r, a in zip(radii, angles, strict=True)]


def philox(counter: tuple[int, ...], key: tuple[int, int]) -> tuple[int, ...]:
    """One block of Philox 4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011)."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        first, second = 0xD2E7470EE14C6C93 * c0, 0xCA5A826395121157 * c2
        c0, c1, c2, c3 = (second >> 64) ^ c1 ^ k0, second & MASK, (first >> 64) ^ c3 ^ k1, first & MASK
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & MASK, (k1 + 0xBB67AE8584CAA73B) & MASK
    return c0, c1, c2, c3


def test_box_muller_by_hand() -> None:
    # raw words whose upper 53 bits give u = 1/2 and 1/4 for the radii, 1/8 and 3/4 for the angles
    raw = np.array([2**63, 2**62, 2**61, 3 * 2**62], dtype=np.uint64)
    first, second = sqrt(-2 * log(1 / 2)), sqrt(-2 * log(3 / 4))
    expected = [first * cos(pi / 4), second * cos(1.5 * pi), first * sin(pi / 4), second * sin(1.5 * pi)]
    np.testing.assert_allclose(_box_muller(raw), expected, atol=1e-12)


def test_the_extremes_of_the_raw_bits_are_finite() -> None:
    raw = np.array([0, 2**64 - 1, 0, 2**64 - 1], dtype=np.uint64)
    values = _box_muller(raw)
    assert np.isfinite(values).all()
    assert abs(values).max() < 8.6  # sqrt(2 * 53 * ln 2)


def test_it_is_standard_normal() -> None:
    values = image_noise(PIXELS, 0, (4, 128, 128)).astype(np.float64).ravel()
    # 65,536 values: standard errors 0.004 of the mean, 0.0055 of the variance, 0.0096 of the third moment
    assert abs(values.mean()) < 0.02
    assert abs(values.var() - 1) < 0.03
    assert abs((values**3).mean()) < 0.06
    assert abs((abs(values) < 1.96).mean() - 0.95) < 0.005
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.02
    half = len(values) // 2  # the two halves share radii, not values
    assert abs(np.corrcoef(values[:half], values[half:])[0, 1]) < 0.02


def test_pixels_seed_and_tile_each_change_it_and_nothing_else_does() -> None:
    shape = (4, 8, 8)
    base = image_noise(PIXELS, 1, shape)
    changed = PIXELS.copy()
    changed[1, 3, 2] ^= 1
    others = [
        image_noise(changed, 1, shape),
        image_noise(PIXELS, 2, shape),
        digest_noise(pixel_digest(PIXELS, 1), shape, tile=1),
        image_noise(PIXELS.reshape(4, 2, 3), 1, shape),  # the same bytes as another picture
    ]
    for other in others:
        assert abs(np.corrcoef(base.ravel(), other.ravel())[0, 1]) < 0.25
    np.testing.assert_array_equal(image_noise(np.asfortranarray(PIXELS), 1, shape), base)
    assert base.dtype == np.float32


def test_an_odd_count_is_served() -> None:
    assert image_noise(PIXELS, 1, (1, 3, 3)).shape == (1, 3, 3)


@pytest.mark.parametrize("pixels", [PIXELS.astype(np.float32), PIXELS[..., 0], PIXELS[..., :2]])
def test_other_pixels_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="upright RGB"):
        image_noise(pixels, 0, (1, 2, 2))


def test_fixed_noise_is_that_of_its_digest_and_is_made_once() -> None:
    drawn = fixed_noise(3, (2, 4, 4), 1)
    np.testing.assert_array_equal(drawn, digest_noise(fixed_digest(3), (2, 4, 4), 1))
    assert fixed_noise(3, (2, 4, 4), 1) is drawn
    assert not np.array_equal(drawn, fixed_noise(3, (2, 4, 4), 0))
    assert not np.array_equal(drawn, fixed_noise(4, (2, 4, 4), 1))
