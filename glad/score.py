"""The anomaly map, its smoothing, the image's score and the defect regions (Sec. 3.6). Every quantity is per image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from glad.imaging import Box, Placement
from glad.matching import feature_input, match_map, resize_map, resize_valid, top_mean
from glad.models import Features
from glad.settings import Length, ScoreSettings
from glad.shapes import in_buckets


@torch.no_grad()
def anomaly_map(
    inputs: Tensor,
    reconstructions: Tensor,
    features: Features,
    settings: ScoreSettings,
    valid_pixels: Tensor | None = None,
    *,
    buckets: Sequence[int] = (1,),
) -> Tensor:
    """Where each input differs from its reconstruction (Eqs. 11 and 12, and the pixel term).

    inputs, reconstructions: (B, 3, H, W) in about [-1, 1]; valid_pixels: (B, H, W) bool, the rectangle that is not
    padding
    -> (B, H, W) float32, 0 on padding. A NaN from a model stays NaN, in the map and in the score.
    """
    fed = [feature_input(images, settings.imagenet_normalise) for images in (inputs, reconstructions)]
    layers = in_buckets(lambda images: tuple(features(images, settings.layers)), (torch.cat(fed),), buckets)
    count = len(inputs)
    maps = []
    for i in range(count):
        pairs = [(layer[i], layer[count + i]) for layer in layers]
        valid = None if valid_pixels is None or bool(valid_pixels[i].all()) else valid_pixels[i]
        distance = (fed[0][i] - fed[1][i]).abs().mean(0) if settings.pixel_weight > 0 else None
        size = (inputs.shape[2], inputs.shape[3])
        maps.append(_one_map(patch_map(pairs, size, settings, valid), distance, settings, valid))
    return torch.stack(maps)


def patch_map(
    pairs: Sequence[tuple[Tensor, Tensor]], size: tuple[int, int], settings: ScoreSettings, valid: Tensor | None = None
) -> Tensor:
    """Eq. 12: the layers' maps of one image, upsampled and summed.

    pairs: per layer the features (h, w, D) of the input and of its reconstruction; valid: (H, W) bool -> (H, W)
    float32.
    """
    total = torch.zeros(size, device=pairs[0][0].device)
    for ours, theirs in pairs:
        grid = None if valid is None else resize_valid(valid, (ours.shape[0], ours.shape[1]))
        total = total + resize_map(match_map(ours, theirs, settings.direction, settings.window, grid), size, grid)
    return total


def _one_map(found: Tensor, distance: Tensor | None, settings: ScoreSettings, valid: Tensor | None) -> Tensor:
    """Add the pixel term and smooth, on the image's own rectangle only."""
    rectangle = valid_rectangle(valid) if valid is not None else (slice(None), slice(None))
    own = found[rectangle]
    if distance is not None:
        own = add_pixel_term(own, distance[rectangle], settings.pixel_weight)
    smoothed = smooth(own, settings.smoothing, settings.taps, max(found.shape))
    if valid is None:
        return smoothed
    result = torch.zeros_like(found)
    result[rectangle] = smoothed
    return result


def valid_rectangle(valid: Tensor) -> tuple[slice, slice]:
    """valid: (H, W) bool -> its rows and columns. ValueError unless it is a filled rectangle, as a letterbox leaves
    it."""
    rows, columns = (torch.nonzero(valid.any(axis)).flatten().tolist() for axis in (1, 0))
    if not rows or int(valid.sum()) != (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1):
        raise ValueError(f"the {int(valid.sum())} valid pixels form no filled rectangle: give Placement.valid_pixels()")
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def add_pixel_term(found: Tensor, distance: Tensor, weight: float) -> Tensor:
    """M + v * max(M) / max(D) * D: (H, W) twice -> (H, W). Both maxima are this image's own, never the batch's."""
    largest = distance.amax()
    scale = torch.where(largest == 0, 0.0, weight * found.amax() / largest)  # two equal images have no pixel distance
    return found + scale * distance


def smooth(values: Tensor, sigma: Length, taps: Length, side: int) -> Tensor:
    """Gaussian blur of (H, W), reflected at the edges without repeating them; `side` turns fractions into pixels.

    A letterboxed map is blurred as its own rectangle: padding lends nothing, and an edge is treated as any image's
    edge. An even number of taps is raised by one.
    """
    width, radius = sigma.pixels(side), round(taps.pixels(side)) // 2
    down, across = (blur_matrix(length, width, radius).to(values) for length in values.shape)
    return down @ values @ across.T


@lru_cache(maxsize=64)
def blur_matrix(length: int, sigma: float, radius: int) -> Tensor:
    """(length, length) float32: row i holds what pixel i takes from every pixel, reflections folded in.

    A product, not a convolution: cuDNN rounds convolutions to TF32 unless told otherwise, and scores would follow.
    """
    offsets = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    period = max(1, 2 * (length - 1))
    places = (torch.arange(length)[:, None] + offsets) % period
    matrix = torch.zeros(length, length, dtype=torch.float64)
    reflected = torch.minimum(places, period - places) if length > 1 else torch.zeros_like(places)
    matrix.scatter_add_(1, reflected, (kernel / kernel.sum()).expand(length, -1))
    return matrix.float()


@torch.no_grad()
def image_scores(maps: Tensor, settings: ScoreSettings, valid_pixels: Tensor | None = None) -> Tensor:
    """maps: (B, H, W); valid_pixels: (B, H, W) bool -> (B,): the mean of each map's largest values.

    How many is `settings.top`, as a fraction of the pixels that are not padding, or absolute.
    """
    scores = []
    for i, found in enumerate(maps):
        values = found.flatten() if valid_pixels is None else found[valid_pixels[i]]
        scores.append(top_mean(values, settings.top.elements(values.numel())))
    return torch.stack(scores)


@dataclass(frozen=True)
class Region:
    """One connected area of a map at or above the pixel threshold."""

    box: Box
    """x, y, width, height in pixels."""
    area_px: int
    peak: float


def defect_regions(found: NDArray[np.float32], threshold: float, placement: Placement | None = None) -> list[Region]:
    """Connected areas (diagonals too) of a map (H, W) at or above the threshold, the highest peak first.

    With the placement whose `restore` made the map, boxes and areas are in pixels of the upright original; else in the
    map's.
    """
    labels, _ = ndimage.label(found >= threshold, structure=np.ones((3, 3), dtype=np.int8))
    regions = []
    for index, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        inside = labels[rows, columns] == index
        box = (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
        area, peak = int(inside.sum()), float(found[rows, columns][inside].max())
        if placement is not None:
            box, area = placement.to_original(box), placement.area_in_original(area)
        regions.append(Region(box, area, peak))
    return sorted(regions, key=lambda region: (-region.peak, region.box))
