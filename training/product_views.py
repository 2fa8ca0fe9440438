"""What a product's photographs have in common: do the parts lie in one place, is there a ground around them.

Measured on a few images, evenly taken from all, with no network and no labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import fft, ndimage

from glad.foreground import otsu_threshold
from glad.image_codec import Pixels
from glad.images.placement import fit
from training.data.image_files import read_pixels
from training.data.image_survey import stretched
from training.synthesis.surface import grey, standing_out

LOOKED_AT = 24
"""Images; their pairs are what is compared."""
SIDE = 128
"""Of the small pictures whose edges are compared."""
AS_GOOD = 0.9
"""Of the best agreement. Where that much is there without any shift, a part that repeats itself has misled the best."""
GRAIN = 3
"""Pixels of a picture of twice the side: what is finer is clutter, what is coarser is light."""
LEAST_PART = 0.2
"""Of the picture, that a part takes at least."""
EDGE = 4
"""Pixels left out beside the part's and the picture's edge."""

Edges = NDArray[np.float32]
"""(SIDE, SIDE), of mean 0 inside the picture, and of length 1."""


@dataclass(frozen=True)
class Alignment:
    """How well the edges of two images lie on each other."""

    agreement: float
    """-1 ... 1: the median over pairs of images, each shifted to its best."""
    shift: float
    """That nine of ten pairs do not exceed, as a share of the picture's longer side."""


@dataclass(frozen=True)
class Ground:
    """What lies around the part, in the images where a ground can be told from it at all."""

    seen: float
    """Share of the images in which it lies all around."""
    bright_parts: float
    """Share of these whose part is brighter than the ground."""
    covered: float
    """The least share of a part's area that lies on its side of Otsu's threshold."""
    clutter: float
    """Fine structure of the ground, as a multiple of that on the part."""


def sample_of(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Return `LOOKED_AT` of the images, evenly taken; all of fewer."""
    places = np.linspace(0, len(paths) - 1, min(LOOKED_AT, len(paths))).round().astype(int)
    return tuple(paths[place] for place in places)


def measure_alignment(images: Sequence[Pixels], *, stretch: bool = False) -> Alignment:
    """Return how well the edges of images lie on each other, each pair shifted to its best agreement.

    Args:
        images: (H, W, 3) each, at least two.
        stretch: they are stretched to one square; else letterboxed into it.
    """
    edges = [edge_picture(_square(image) if stretch else image) for image in images]
    found = [_best_shift(one, other) for one, other in combinations(edges, 2)]
    agreements, shifts = zip(*found, strict=True)
    return Alignment(float(np.median(agreements)), float(np.quantile(shifts, 0.9)) / SIDE)


def _square(pixels: Pixels) -> Pixels:
    return stretched(pixels, SIDE)


def edge_picture(pixels: Pixels) -> Edges:
    """Return the strength of an image's edges: letterboxed, in any light, without those of its own border."""
    fitted = fit(pixels, SIDE)
    shown = fitted.placement.valid_pixels()
    levels = np.asarray(Image.fromarray(fitted.pixels).convert("L"), dtype=np.float32)
    normal = (levels - levels[shown].mean()) / (levels[shown].std() + np.float32(1))
    strength = ndimage.gaussian_gradient_magnitude(normal, 1.0)
    inner = ndimage.binary_erosion(shown, iterations=EDGE, border_value=0)
    centred = np.where(inner, strength - strength[inner].mean(), 0) * _faded()
    return np.asarray(centred / (np.sqrt((centred**2).sum()) + 1e-9), dtype=np.float32)


def _faded() -> Edges:
    """Return weights that fall to 0 at the border, so that the transform's opposite borders do not meet."""
    fall = np.minimum(1, 4 * np.hanning(SIDE)).astype(np.float32)
    return np.outer(fall, fall)


def _best_shift(one: Edges, other: Edges) -> tuple[float, float]:
    """Return the best agreement of two edge pictures, and how far one of them is shifted for it, in pixels."""
    surface = fft.irfft2(fft.rfft2(one) * np.conj(fft.rfft2(other)), s=one.shape)
    best = float(surface.max())
    if surface[0, 0] >= AS_GOOD * best:
        return best, 0.0
    rows, columns = (
        (int(place) + SIDE // 2) % SIDE - SIDE // 2 for place in np.unravel_index(surface.argmax(), surface.shape)
    )
    return best, float(np.hypot(rows, columns))


def measure_ground(images: Sequence[Pixels]) -> Ground:
    """Return what lies around the parts in images (H, W, 3)."""
    grounds = [found for image in images if (found := _ground_of(image)) is not None]
    if not grounds:
        return Ground(0.0, 0.0, 0.0, 0.0)
    bright, covered, clutter = zip(*grounds, strict=True)
    return Ground(len(grounds) / len(images), float(np.mean(bright)), min(covered), float(np.median(clutter)))


def _ground_of(pixels: Pixels) -> tuple[bool, float, float] | None:
    """Return of one image: is the part bright, how much of it is on its side, how cluttered is the ground."""
    fitted = fit(pixels, 2 * SIDE)
    shown = fitted.placement.valid_pixels()
    picture = fitted.pixels.astype(np.float32) / 255
    part = standing_out(picture, shown)
    levels = np.round(grey(picture) * 255)
    threshold = otsu_threshold(torch.from_numpy(levels[shown]))
    if part is None or threshold is None or not _is_one_part(part, shown):
        return None
    share = float((levels[part] > threshold).mean())
    fine = levels - ndimage.gaussian_filter(levels, GRAIN)
    ground, inner = (ndimage.binary_erosion(area, iterations=EDGE) for area in (shown & ~part, part))
    clutter = float(fine[ground].std() / max(fine[inner].std(), 1.0)) if ground.any() and inner.any() else 0.0
    return share > 0.5, max(share, 1 - share), clutter


def _is_one_part(part: NDArray[np.bool_], shown: NDArray[np.bool_]) -> bool:
    """Return whether what stands out is one large piece: several, or a small one, may be holes in the part itself."""
    return ndimage.label(part)[1] == 1 and bool(part.sum() >= LEAST_PART * shown.sum())


def read_sample(paths: Sequence[Path]) -> tuple[Pixels, ...]:
    """Return the pixels of the images that are looked at.

    Raises:
        DataError: for one that cannot be read.
    """
    return tuple(read_pixels(path) for path in sample_of(paths))
