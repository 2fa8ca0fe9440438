"""Procedural textures: repeatable, in range, different from seed to seed."""

import numpy as np

from training.synthesis.patterns import procedural_texture, spectral_noise


def _rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def test_the_same_seed_gives_the_same_texture_and_another_seed_another_one() -> None:
    assert np.array_equal(procedural_texture(_rng(1), 48), procedural_texture(_rng(1), 48))
    assert not np.array_equal(procedural_texture(_rng(1), 48), procedural_texture(_rng(2), 48))


def test_every_texture_is_an_image_in_the_unit_range() -> None:
    for seed in range(40):
        texture = procedural_texture(_rng(seed), 40)
        assert texture.shape == (40, 40, 3)
        assert texture.dtype == np.float32
        assert texture.min() >= 0
        assert texture.max() <= 1


def test_textures_are_not_plain_colours() -> None:
    assert all(procedural_texture(_rng(seed), 40).std(axis=(0, 1)).max() > 0.003 for seed in range(40))


def test_spectral_noise_fills_the_unit_range_and_a_larger_exponent_makes_it_smoother() -> None:
    rough, smooth = (spectral_noise(_rng(0), 64, exponent) for exponent in (0.0, 3.0))
    for field in (rough, smooth):
        assert field.min() == 0
        assert abs(float(field.max()) - 1) < 1e-6
    assert np.abs(np.diff(smooth)).mean() < 0.5 * np.abs(np.diff(rough)).mean()
