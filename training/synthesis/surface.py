"""The surface that a flaw lies on: where it may lie, how large an original pixel is, and how fine things are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from glad.foreground import LUMA, otsu_threshold
from training.synthesis.patterns import Floats, Mask, Unit

WHOLE_SHARE = 0.97  # a foreground that leaves out less than this is the whole picture: its edge is the picture's
BORDER_SHARE = 0.85  # of the border's pixels, from which one side of Otsu's threshold is the background
LEAST_PART, LARGEST_PART = 0.08, 0.92  # shares of the picture that a part between background may have


@dataclass(frozen=True, eq=False)
class Surface:
    """Where a flaw may lie, and at which scale it is seen."""

    valid: Mask
    """(S, S): false on padding."""
    reach: Mask
    """(S, S): where it may lie, such as on the object; inside `valid`."""
    scale: float
    """Model pixels per pixel of the original."""

    @property
    def side(self) -> int:
        """Return the side of the model image in pixels."""
        return int(self.valid.shape[0])

    def length(self, rng: np.random.Generator, low: float, high: float, most: float = 0.8) -> float:
        """Return a random length in model pixels: log-uniform in original ones, at most a share of the side."""
        return min(log_uniform(rng, low, high) * self.scale, most * self.side)

    def place(self, rng: np.random.Generator, likelihood: Unit | Mask | None = None) -> NDArray[np.int_]:
        """Return a random pixel (row, column) of the reach; likelihood: (S, S), not negative."""
        places = np.argwhere(self.reach)
        if likelihood is None:
            return np.asarray(places[rng.integers(len(places))])
        weights = np.cumsum(likelihood[self.reach].astype(np.float64) + 1e-9)
        return np.asarray(places[np.searchsorted(weights, rng.random() * weights[-1], side="right")])


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Return a number from low to high whose logarithm is uniform: small ones as common as large ones."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def grey(image: Unit) -> Unit:
    """Return the grey levels (S, S) in [0, 1] of an image (S, S, 3)."""
    return np.asarray(image @ np.array(LUMA, dtype=np.float32))


def grain(rng: np.random.Generator, side: int, radius: float) -> Floats:
    """Return noise of mean 0 and standard deviation 1 whose spots have about this radius in pixels: (side, side)."""
    return grain_of(rng.standard_normal((side, side)), radius)


def grain_of(white: Unit, radius: float) -> Floats:
    """Return white noise (side, side) as grain: see `grain`. A wide one costs more than all else of an anomaly."""
    field = ndimage.gaussian_filter(white, max(radius, 0.3), mode="wrap")
    return np.asarray((field - field.mean()) / (field.std() + 1e-9), dtype=np.float32)


def coverage(distance: Unit, half_width: Unit | float, dimensions: int = 1) -> Unit:
    """Return how much of each pixel is covered: 0 ... 1.

    What is narrower than a pixel is drawn one pixel wide and as much fainter, as a camera's resampling shows it.

    Args:
        distance: of the pixel's centre from the middle of the thing, in pixels.
        half_width: of the thing, in pixels.
        dimensions: 1 for a line, 2 for a dot, whose area shrinks with the square.
    """
    share = np.minimum(1.0, 2 * np.asarray(half_width)) ** dimensions
    return np.asarray(share * np.clip(np.maximum(half_width, 0.5) - distance + 0.5, 0, 1))


def blob(
    rng: np.random.Generator, y: Unit, x: Unit, radius: float, *, roughness: float = 0.25, waves: int = 12
) -> Floats:
    """Return the distance outside an irregular closed outline around (0, 0), negative inside it, in about pixels.

    Args:
        y: rows from the centre, in pixels; `x` likewise.
        radius: of the outline, on average.
        roughness: size of its bumps as a share of the radius.
        waves: 3: a smooth outline; 20: a jagged one.
    """
    aspect, turn = rng.uniform(0.6, 1.0), rng.uniform(0, np.pi)
    u, v = np.cos(turn) * y + np.sin(turn) * x, (np.cos(turn) * x - np.sin(turn) * y) / aspect
    angle = np.arctan2(u, v)
    outline = np.ones_like(angle)
    for wave in range(2, waves + 1):
        outline += roughness * rng.normal() / wave**1.3 * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    return np.asarray(np.hypot(u, v) - radius * np.clip(outline, 0.4, 1.6), dtype=np.float32)


def from_centre(side: int, centre: NDArray[np.int_] | NDArray[np.floating]) -> tuple[Floats, Floats]:
    """Return each pixel's rows and columns from a centre: two (side, side)."""
    y, x = np.mgrid[:side, :side].astype(np.float32)
    return y - np.float32(centre[0]), x - np.float32(centre[1])


def part_of(image: Unit, surface: Surface) -> Mask:
    """Return the pixels (S, S) of the part: what stands out from a background all around the picture.

    Where no such background is seen it is the reach, if that leaves something out, or else the whole picture.
    """
    part = standing_out(image, surface.valid)
    if part is not None and (part & surface.reach).any():
        return part
    return surface.reach if surface.reach.sum() < WHOLE_SHARE * surface.valid.sum() else surface.valid


def standing_out(image: Unit, valid: Mask) -> Mask | None:
    """Return what Otsu's threshold sets apart from a background; None where neither side of it lies all around."""
    levels = torch.from_numpy(np.round(grey(image) * 255))
    threshold = otsu_threshold(levels[torch.from_numpy(valid)])
    if threshold is None:
        return None
    bright = levels.numpy() > threshold
    border = valid & ~ndimage.binary_erosion(valid, iterations=2)
    background = bright if bright[border].mean() > 0.5 else ~bright
    if background[border].mean() < BORDER_SHARE:
        return None
    part = _surrounded(background & valid, valid, border)
    return part if LEAST_PART < part.sum() / valid.sum() < LARGEST_PART else None


def _surrounded(background: Mask, valid: Mask, border: Mask) -> Mask:
    """Return what a background from the picture's border leaves: the largest pieces, with their holes."""
    labels, _ = ndimage.label(ndimage.binary_opening(background))
    around = np.isin(labels, np.unique(labels[border & (labels > 0)]))
    pieces, count = ndimage.label(ndimage.binary_opening(valid & ~around, iterations=2) & valid)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    sizes[0] = 0
    return np.asarray((sizes >= max(1, 0.2 * sizes.max()))[pieces])


def edge_of(part: Mask) -> Mask:
    """Return the outermost pixels (S, S) of a part."""
    return np.asarray(part & ~ndimage.binary_erosion(part))


def beyond(image: Unit, known: Mask) -> Unit:
    """Return the image with what is known continued over the rest, mirrored at its edge: (S, S, 3)."""
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    here = np.indices(known.shape)
    mirrored = np.clip(2 * nearest - here, 0, known.shape[0] - 1)
    rows, columns = np.where(known[tuple(mirrored)], mirrored, nearest)
    return np.asarray(image[rows, columns])
