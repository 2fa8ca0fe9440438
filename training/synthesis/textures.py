"""Procedural textures: what fills a synthetic anomaly when no texture photographs ship with the project."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def spectral_noise(rng: np.random.Generator, side: int, exponent: float) -> Floats:
    """Noise with power ~ 1/f^exponent: (side, side), scaled to [0, 1]."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
    frequency[0, 0] = 1.0
    spectrum = np.fft.rfft2(rng.standard_normal((side, side))) / frequency ** (exponent / 2)
    field = np.fft.irfft2(spectrum, s=(side, side))
    low, high = field.min(), field.max()
    return np.asarray((field - low) / (high - low + 1e-9), dtype=np.float32)


def _coloured(rng: np.random.Generator, field: Floats) -> Floats:
    """A field in [0, 1] -> colours between two random ones: (side, side, 3)."""
    dark, bright = rng.random(3), rng.random(3)
    return (dark + (bright - dark) * field[..., None]).astype(np.float32)


def _cloud(rng: np.random.Generator, side: int) -> Floats:
    return _coloured(rng, spectral_noise(rng, side, rng.uniform(0.5, 3.0)))


def _grating(rng: np.random.Generator, side: int) -> Floats:
    y, x = np.mgrid[:side, :side] / side
    angle, waves = rng.uniform(0, np.pi), rng.uniform(3, 40)
    bend = spectral_noise(rng, side, 3.0) * rng.uniform(0, 2)
    phase = 2 * np.pi * (waves * (np.cos(angle) * x + np.sin(angle) * y) + bend)
    return _coloured(rng, (0.5 + 0.5 * np.sin(phase)).astype(np.float32))


def _blotches(rng: np.random.Generator, side: int) -> Floats:
    levels = int(rng.integers(2, 6))
    palette = rng.random((levels, 3)).astype(np.float32)
    field = spectral_noise(rng, side, rng.uniform(1.5, 3.5))
    return np.asarray(palette[np.minimum((field * levels).astype(int), levels - 1)])


def _dead_leaves(rng: np.random.Generator, side: int) -> Floats:
    y, x = np.mgrid[:side, :side]
    leaves = np.broadcast_to(rng.random(3), (side, side, 3)).astype(np.float32)
    for _ in range(int(rng.integers(15, 60))):
        radius = side / rng.uniform(6, 40)
        centre = rng.uniform(0, side, 2)
        leaves[(x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2] = rng.random(3)
    return leaves


def procedural_texture(rng: np.random.Generator, side: int) -> Floats:
    """A random texture: (side, side, 3) in [0, 1]."""
    makers = (_cloud, _grating, _blotches, _dead_leaves)
    return makers[int(rng.integers(len(makers)))](rng, side)
