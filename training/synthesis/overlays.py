"""Anomalies laid over an image: fills, pasted patches, strokes, soft spots and local displacements (Sec. 3.5).

Texture and shuffle follow MemSeg (Yang et al., 2023), as the paper does; pasted patches and thin strokes follow
CutPaste (Li et al., 2021). Soft spots and local displacements are ours: shading and geometry defects look like neither
texture nor paste. Their sizes are shares of the model image, and their colours any.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from training.synthesis.memseg import memseg_changes
from training.synthesis.patterns import Mask, Unit, augmented, perlin, perlin_shape, procedural_texture, shuffled
from training.synthesis.textures import folder_texture


@dataclass(frozen=True)
class FillSource:
    """How `texture` and `shuffle` are drawn: see `SynthesisRecipe.overlays` and `SynthesisRecipe.textures`."""

    as_memseg: bool = False
    textures: str | None = None
    """A folder of pictures; None: textures are computed."""

    def changed(self, rng: np.random.Generator, image: Unit) -> Unit:
        """Return a fill after three of ten changes of colour and geometry."""
        return memseg_changes(rng, image) if self.as_memseg else augmented(rng, image)

    def texture(self, rng: np.random.Generator, side: int) -> Unit:
        """Return a texture (side, side, 3) in [0, 1]."""
        if self.textures is None:
            return procedural_texture(rng, side)
        return folder_texture(rng, side, self.textures)

    def shape(self, rng: np.random.Generator, side: int) -> Mask:
        """Return a Perlin shape (side, side)."""
        return perlin_shape(rng, side) if self.as_memseg else _compact_shape(rng, side)


COMPUTED = FillSource()
"""Computed textures and varied shapes: what a recipe that says nothing else has."""


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


def _filled(rng: np.random.Generator, image: Unit, fill: Unit, source: FillSource) -> Unit:
    """Return a Perlin shape of the fill over the image; beta ~ U(0, 0.8) is the weight that the image keeps."""
    shape = source.shape(rng, image.shape[0])
    beta = rng.uniform(0, 0.8)
    return np.where(shape[..., None], beta * image + (1 - beta) * fill, image)


def texture(rng: np.random.Generator, image: Unit, source: FillSource) -> Unit:
    """Return the image with a Perlin shape filled with a texture, procedural or of a folder."""
    return _filled(rng, image, source.changed(rng, source.texture(rng, image.shape[0])), source)


def shuffle(rng: np.random.Generator, image: Unit, source: FillSource) -> Unit:
    """Return the image with a Perlin shape filled with the product's own shuffled image."""
    return _filled(rng, image, shuffled(rng, source.changed(rng, image)), source)


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
