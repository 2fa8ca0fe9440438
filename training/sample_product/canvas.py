"""The materials' colours and textures, and how layers are laid on a canvas of linear light (SIDE, SIDE, 3)."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import ndimage

from training.sample_product.geometry import SIDE, Field, Grid, length
from training.sample_product.light import SceneLight

TEXTURE_MARGIN = 24
"""Pixels that a texture reaches beyond the picture on each side, because parts are shifted and turned."""

RGB = tuple[float, float, float]

ALUMINIUM: RGB = (0.80, 0.81, 0.82)
GOLD: RGB = (1.0, 0.74, 0.34)
ZINC: RGB = (0.86, 0.88, 0.90)
BLACKENED_STEEL: RGB = (0.30, 0.30, 0.315)
PLASTIC: RGB = (0.040, 0.042, 0.050)
POCKET_FLOOR: RGB = (0.080, 0.083, 0.090)


@dataclass(frozen=True)
class Texture:
    """The plate's brushed face: streaks and slow tone, both of about unit spread, SIDE + 2·TEXTURE_MARGIN a side."""

    streaks: Field
    tone: Field


def brushed_texture(seed: tuple[int, ...]) -> Texture:
    """Return brushing along x: long, middle and short streaks of fresh noise, and a slow change of tone."""
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed)))
    side = SIDE + 2 * TEXTURE_MARGIN
    streaks = np.zeros((side, side), dtype=np.float32)
    for streak, weight in ((181, 0.55), (47, 0.5), (9, 0.42)):
        noise = rng.standard_normal((side, side), dtype=np.float32)
        drawn = ndimage.uniform_filter1d(noise, streak, axis=1, mode="wrap")
        streaks += np.float32(weight * streak**0.5) * drawn
    coarse = rng.standard_normal((side // 8, 7), dtype=np.float32)
    tone = ndimage.zoom(ndimage.gaussian_filter(coarse, (2.5, 0.8), mode="nearest"), (8, side / 7), order=1)
    return Texture(streaks, tone * np.float32(3.0))


@cache
def grain(side: int, blur: float, seed: int) -> Field:
    """Return seed-independent unit noise for moulded, printed and blasted surfaces: (side, side). Read only."""
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([11, seed])))
    noise = ndimage.gaussian_filter(rng.standard_normal((side, side), dtype=np.float32), blur, mode="wrap")
    unit: Field = noise / noise.std()
    unit.setflags(write=False)
    return unit


def tinted(luminance: Field, colour: RGB) -> Field:
    """Return a luminance (h, w) in a colour: (h, w, 3)."""
    coloured: Field = luminance[..., None] * np.asarray(colour, dtype=np.float32)
    return coloured


def cover(canvas: Field, grid: Grid, layer: Field, alpha: Field) -> None:
    """Lay a layer over the canvas's window in place: the canvas is this module's own."""
    under = canvas[grid.rows, grid.columns]
    under += alpha[..., None] * (layer - under)


def darken(canvas: Field, grid: Grid, factor: Field) -> None:
    """Take light from the canvas's window in place; factor: (h, w), 1 leaves all of it."""
    canvas[grid.rows, grid.columns] *= factor[..., None]


def shadow_grid(grid: Grid, light: SceneLight, drop: float) -> Grid:
    """Return the grid as seen from a shadow that falls drop pixels away from the softbox."""
    toward_x, toward_y = light.toward
    return Grid(grid.x + np.float32(drop * toward_x), grid.y + np.float32(drop * toward_y), grid.rows, grid.columns)


def revolved_tilt(profile: Field, from_x: Field, from_y: Field) -> tuple[Field, Field]:
    """Return the tilt of a body of revolution; profile is the tilt outward from its centre."""
    radius = np.maximum(length(from_x, from_y), np.float32(0.5))
    return profile * from_x / radius, profile * from_y / radius
