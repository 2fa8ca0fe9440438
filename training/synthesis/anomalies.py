"""Synthetic anomalies on good images: shapes and fills (Sec. 3.5).

Shapes and texture fills follow MemSeg (Yang et al., 2023), as the paper does: thresholded Perlin noise, filled with a
texture or with the product's own image cut into a grid and shuffled. Pasted patches and thin strokes follow CutPaste
(Li et al., 2021). Soft spots and local displacements are ours: shading and geometry defects look like neither texture
nor paste. Images are float (S, S, 3) in [0, 1], float32 in a finished pair; masks are bool (S, S) and hold only pixels
that changed visibly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.recipe import SynthesisRecipe

Floats = NDArray[np.float32]


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


Mask = NDArray[np.bool_]
Unit = NDArray[np.floating[Any]]  # an image or a fill in [0, 1], in whatever precision its making left
VISIBLE = 0.025  # mean absolute change over the channels from which a pixel counts as anomalous


@dataclass(frozen=True)
class Pair:
    """A good image and an anomaly of it: both (S, S, 3) in [0, 1]; mask (S, S), empty if nothing was done."""

    normal: Floats
    anomalous: Floats
    mask: Mask
    kind: str


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


def _compact_shape(rng: np.random.Generator, side: int) -> Mask:
    """Return a Perlin shape, half the time cut to a random window.

    So small defects are as common as large ones.
    """
    shape = perlin_shape(rng, side)
    if rng.random() < 0.5:
        window = np.zeros_like(shape)
        height, width = rng.integers(side // 16, side // 3, 2)
        top, left = rng.integers(0, side - height), rng.integers(0, side - width)
        window[top : top + height, left : left + width] = True
        shape = shape & window
    return shape


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


def _filled(rng: np.random.Generator, image: Unit, fill: Unit) -> Unit:
    """Return a Perlin shape of the fill over the image; beta ~ U(0, 0.8) is the weight that the image keeps."""
    shape = _compact_shape(rng, image.shape[0])
    beta = rng.uniform(0, 0.8)
    return np.where(shape[..., None], beta * image + (1 - beta) * fill, image)


def texture(rng: np.random.Generator, image: Unit) -> Unit:
    """Return the image with a Perlin shape filled with a procedural texture."""
    return _filled(rng, image, augmented(rng, procedural_texture(rng, image.shape[0])))


def shuffle(rng: np.random.Generator, image: Unit) -> Unit:
    """Return the image with a Perlin shape filled with the product's own shuffled image."""
    return _filled(rng, image, shuffled(rng, augmented(rng, image)))


def paste(rng: np.random.Generator, image: Unit) -> Unit:
    """Return the image with a soft-edged ellipse or box of the product copied over another place of it."""
    side = image.shape[0]
    half = rng.uniform(side / 40, side / 8, 2)
    target, source = rng.uniform(half, side - half), rng.uniform(half, side - half)
    offset = np.round(source - target).astype(int)
    moved = np.roll(image, (-offset[0], -offset[1]), axis=(0, 1))
    y, x = np.mgrid[:side, :side]
    u, v = (y - target[0]) / half[0], (x - target[1]) / half[1]
    distance = np.hypot(u, v) if rng.random() < 0.6 else np.maximum(abs(u), abs(v))
    alpha = np.clip((1 - distance) * half.min() / rng.uniform(0.7, 3.0), 0, 1)[..., None]
    return np.asarray(alpha * moved + (1 - alpha) * image)


def stroke(rng: np.random.Generator, image: Unit) -> Unit:
    """Return the image with a thin, slightly curved line, brighter or darker than what lies under it.

    Some lines have a rim of the other sign.
    """
    side = image.shape[0]
    length, angle = rng.uniform(side / 16, side / 2), rng.uniform(0, np.pi)
    along = np.array([np.sin(angle), np.cos(angle)])
    across = np.array([along[1], -along[0]])
    centre = rng.uniform(0.08 * side, 0.92 * side, 2)
    y, x = np.mgrid[:side, :side]
    s = (y - centre[0]) * along[0] + (x - centre[1]) * along[1]
    bow = rng.uniform(-0.15, 0.15) * length * (1 - (2 * s / length) ** 2)
    d = (y - centre[0]) * across[0] + (x - centre[1]) * across[1] - bow
    width = rng.uniform(0.4, 1.5)
    ends = np.clip((length / 2 - abs(s)) / 2 + 0.5, 0, 1)
    core = np.exp(-((d / width) ** 2)) * ends
    rim = np.exp(-(((d - 1.6 * width) / width) ** 2)) * ends * rng.uniform(0, 0.8)
    strength = rng.uniform(0.08, 0.45) * rng.choice([-1, 1])
    tint = 1 + rng.uniform(-0.15, 0.15, 3)
    return np.asarray(image + (strength * (core - rim))[..., None] * tint)


def spot(rng: np.random.Generator, image: Unit) -> Unit:
    """Return the image with a soft irregular spot.

    It is a darker, brighter or tinted film, or an embossed shading (one side lit, one dark).
    """
    side = image.shape[0]
    radius = side * np.exp(rng.uniform(np.log(0.018), np.log(0.1)))
    centre = rng.uniform(radius, side - radius, 2)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    dy, dx = (y - centre[0]) / radius, (x - centre[1]) / (radius * rng.uniform(0.7, 1.4))
    if rng.random() < 0.4:
        angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.5)
        slope = (np.cos(angle) * dx + np.sin(angle) * dy) * np.exp(-(dx**2 + dy**2) * 1.2) * 1.5
        return np.asarray(image * (1 + strength * slope[..., None]))
    wobble = 1 + 0.5 * (perlin(rng, side, (8, 8)) + 0.5 * perlin(rng, side, (16, 16)))
    softness = rng.uniform(0.08, 0.6)
    alpha = np.clip((wobble - np.hypot(dx, dy)) / softness + 0.5, 0, 1) * rng.uniform(0.15, 0.7)
    if rng.random() < 0.5:
        film = image * rng.uniform(0.2, 0.8) * (1 + rng.uniform(-0.25, 0.25, 3))
    else:
        film = np.broadcast_to(rng.random(3), image.shape)
    return np.asarray(alpha[..., None] * film + (1 - alpha[..., None]) * image)


def warp(rng: np.random.Generator, image: Unit) -> Unit:
    """Return the image locally displaced: inside a soft disc everything is pushed one way, or twisted."""
    side = image.shape[0]
    radius = rng.uniform(side / 24, side / 7)
    centre = rng.uniform(radius, side - radius, 2)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    dy, dx = y - centre[0], x - centre[1]
    inside = np.clip(1 - (dy**2 + dx**2) / radius**2, 0, 1) ** 0.7
    if rng.random() < 0.7:
        angle, amount = rng.uniform(0, 2 * np.pi), rng.uniform(0.15, 0.5) * radius
        move_y, move_x = np.sin(angle) * amount * inside, np.cos(angle) * amount * inside
    else:
        twist = rng.uniform(0.4, 1.2) * rng.choice([-1, 1]) * inside
        move_y = dy * np.cos(twist) - dx * np.sin(twist) - dy
        move_x = dy * np.sin(twist) + dx * np.cos(twist) - dx
    coordinates = np.stack([y + move_y, x + move_x])
    return np.stack(
        [ndimage.map_coordinates(image[..., c], coordinates, order=1, mode="nearest") for c in range(3)], -1
    )


KINDS: dict[str, Callable[[np.random.Generator, Unit], Unit]] = {
    "texture": texture,
    "shuffle": shuffle,
    "paste": paste,
    "stroke": stroke,
    "spot": spot,
    "warp": warp,
}


def synthesise(
    rng: np.random.Generator, image: Unit, valid: Mask, recipe: SynthesisRecipe, where: Mask | None = None
) -> Pair:
    """Return a pair from one good image: shifted and scaled together, one of them damaged inside the valid area.

    Args:
        image: (S, S, 3) in [0, 1].
        valid: (S, S); letterbox padding is False and stays untouched.
        where: (S, S); only there it is damaged, such as on the object; None: all that is valid.
    """
    # Both images move and brighten alike: what a line varies from part to part must not look like an anomaly.
    shift = rng.integers(-recipe.shift_px, recipe.shift_px + 1, 2)
    moved = ndimage.shift(image, (*shift, 0), order=0, mode="nearest") if shift.any() else image
    inside = ndimage.shift(valid, shift, order=0, mode="constant", cval=False) & valid if shift.any() else valid
    normal = np.clip(moved * rng.uniform(1 - recipe.gain, 1 + recipe.gain), 0, 1).astype(np.float32)
    normal = np.where(valid[..., None], normal, image).astype(np.float32)
    if rng.random() < recipe.none:
        return Pair(normal, normal, np.zeros_like(valid), "none")
    kinds, weights = zip(*recipe.weights.items(), strict=True)
    kind = str(rng.choice(kinds, p=np.array(weights) / sum(weights)))
    damaged = np.clip(KINDS[kind](rng, normal), 0, 1).astype(np.float32)
    reached = inside if where is None else inside & where
    anomalous = np.where(reached[..., None], damaged, normal)
    # Not the drawn shape: where a fill happens to equal the product nothing is wrong, and nothing may be learnt there.
    mask = np.asarray(np.abs(anomalous - normal).mean(-1) > VISIBLE)
    return Pair(normal, anomalous, mask, kind)
