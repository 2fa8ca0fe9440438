"""Random fields, textures and shapes that anomalies are made of.

Thresholded Perlin noise, the shuffled product and its augmentation follow MemSeg (Yang et al., 2023), as the paper
does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Unit = NDArray[np.floating[Any]]  # an image or a fill in [0, 1], in whatever precision its making left


def spectral_noise(rng: np.random.Generator, side: int, exponent: float) -> Floats:
    """Return noise with power ~ 1/f^exponent: (side, side), scaled to [0, 1]."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
    frequency[0, 0] = 1.0
    spectrum = np.fft.rfft2(rng.standard_normal((side, side))) / frequency ** (exponent / 2)
    field = np.fft.irfft2(spectrum, s=(side, side))
    low, high = field.min(), field.max()
    return np.asarray((field - low) / (high - low + 1e-9), dtype=np.float32)


def _coloured(rng: np.random.Generator, field: Floats) -> Floats:
    """Return a field in [0, 1] as colours between two random ones: (side, side, 3)."""
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
    """Return a random texture: (side, side, 3) in [0, 1]."""
    makers = (_cloud, _grating, _blotches, _dead_leaves)
    return makers[int(rng.integers(len(makers)))](rng, side)


def perlin(rng: np.random.Generator, side: int, cells: tuple[int, int]) -> Floats:
    """Return Perlin gradient noise, about [-1, 1]: (side, side) with `cells` lattice cells per axis."""
    angles = rng.uniform(0, 2 * np.pi, (cells[0] + 1, cells[1] + 1))
    gradients = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    row = np.arange(side) * cells[0] / side
    column = np.arange(side) * cells[1] / side
    i, j = row.astype(int), column.astype(int)
    u, v = (row - i)[:, None], (column - j)[None, :]

    def corner(di: int, dj: int) -> NDArray[np.float64]:
        g = gradients[i + di][:, j + dj]
        return np.asarray(g[..., 0] * (u - di) + g[..., 1] * (v - dj))

    # Perlin's 6t^5 - 15t^4 + 10t^3: first and second derivatives are 0 at the lattice lines, so that none shows.
    fade_u, fade_v = u**3 * (u * (6 * u - 15) + 10), v**3 * (v * (6 * v - 15) + 10)
    top = corner(0, 0) * (1 - fade_v) + corner(0, 1) * fade_v
    bottom = corner(1, 0) * (1 - fade_v) + corner(1, 1) * fade_v
    # Dot products with unit gradients reach at most 1/sqrt(2) in the middle of a cell.
    return np.asarray(np.sqrt(2) * (top * (1 - fade_u) + bottom * fade_u), dtype=np.float32)


def perlin_shape(rng: np.random.Generator, side: int) -> Mask:
    """Return MemSeg's anomaly shape: Perlin noise of 2^0 ...

    2^5 cells per axis, rotated by up to 90 degrees, above 0.3.
    """
    cells = (int(2 ** rng.integers(0, 6)), int(2 ** rng.integers(0, 6)))
    noise = perlin(rng, side, cells)
    rotated = ndimage.rotate(noise, rng.uniform(-90, 90), reshape=False, order=1, mode="reflect")
    return np.asarray(rotated > 0.3)


def shuffled(rng: np.random.Generator, image: Unit, grid: int = 8) -> Unit:
    """Return the image cut into grid x grid tiles in random order (MemSeg)."""
    side = image.shape[0] // grid * grid
    tile = side // grid
    tiles = image[:side, :side].reshape(grid, tile, grid, tile, 3).swapaxes(1, 2).reshape(grid * grid, tile, tile, 3)
    tiles = tiles[rng.permutation(grid * grid)]
    whole = image.copy()
    whole[:side, :side] = tiles.reshape(grid, grid, tile, tile, 3).swapaxes(1, 2).reshape(side, side, 3)
    return whole


def augmented(rng: np.random.Generator, image: Unit) -> Unit:
    """Return the image after three of ten colour and geometry changes, in random order (MemSeg)."""
    changes: tuple[Callable[[Unit], Unit], ...] = (
        lambda x: x * rng.uniform(0.5, 1.5),
        lambda x: (x - x.mean()) * rng.uniform(0.4, 1.8) + x.mean(),
        lambda x: np.clip(x, 0, 1) ** rng.uniform(0.5, 2.0),
        lambda x: x[..., rng.permutation(3)],
        lambda x: 1 - x,
        lambda x: x[:, ::-1],
        lambda x: x[::-1],
        lambda x: np.rot90(x, int(rng.integers(1, 4))),
        lambda x: np.round(x * 4) / 4,
        lambda x: x + rng.uniform(-0.2, 0.2, 3),
    )
    for index in rng.choice(len(changes), 3, replace=False):
        image = np.clip(changes[index](image), 0, 1).astype(np.float32)
    return image
