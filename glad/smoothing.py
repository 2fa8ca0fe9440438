"""Gaussian smoothing of maps, reflected at the edges, over the inspected pixels alone. Maps of any size, one by one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from glad.settings.method import Length

BAND = 1024
"""Rows smoothed in one product. A matrix of all rows of a large map would not fit the memory; no model image reaches
this size, so the map of one is smoothed in one product."""


def smooth(values: Tensor, sigma: Length, taps: Length, side: int) -> Tensor:
    """Return the Gaussian blur of values (H, W), reflected at the edges without repeating them.

    A letterboxed map is blurred as its own rectangle: padding contributes nothing, and an edge is treated as any
    image's edge. An even number of taps is raised by one.

    Args:
        values: (H, W).
        sigma: of the Gaussian.
        taps: width of the kernel.
        side: of a model image where it is scored; turns fractions into pixels.
    """
    width, radius = sigma.pixels(side), round(taps.pixels(side)) // 2
    down = torch.cat([band.matrix.to(values) @ values[band.rows] for band in blur_bands(len(values), width, radius)])
    across = blur_bands(values.shape[1], width, radius)
    return torch.cat([down[:, band.rows] @ band.matrix.to(values).T for band in across], 1)


def smooth_inspected(values: Tensor, inspected_mask: Tensor, sigma: Length, taps: Length, side: int) -> Tensor:
    """Return values (H, W) blurred as by `smooth`, over the inspected pixels alone; 0 outside the mask.

    Each pixel is the mean of its inspected neighbours, weighted by the Gaussian: what is outside contributes nothing,
    and its neighbours are no darker for it.

    Args:
        values: (H, W).
        inspected_mask: (H, W) bool.
        sigma: as in `smooth`, and so are taps and side.
        taps: width of the kernel.
        side: of a model image where it is scored.
    """
    if bool(inspected_mask.all()):
        return smooth(values, sigma, taps, side)
    summed = smooth(torch.where(inspected_mask, values, 0.0), sigma, taps, side)
    weights = smooth(inspected_mask.float(), sigma, taps, side)
    return torch.where(inspected_mask, summed / weights, 0.0)


@dataclass(frozen=True, eq=False)
class Band:
    """Some rows of a blur's matrix."""

    rows: slice
    """The pixels that they take anything from."""
    matrix: Tensor
    """(rows of the band, pixels taken from), float32."""


@lru_cache(maxsize=64)
def blur_bands(length: int, sigma: float, radius: int) -> tuple[Band, ...]:
    """Return the matrix that blurs a line of this length, reflections folded in, in bands of rows.

    A matrix product, not a convolution: cuDNN rounds convolutions to TF32 by default, and scores would change with it.
    """
    starts = range(0, length, BAND)
    return tuple(_band(length, sigma, radius, start, min(length, start + BAND)) for start in starts)


def _band(length: int, sigma: float, radius: int, start: int, stop: int) -> Band:
    """Return the rows start ... stop of the blur's matrix, exp(-d^2 / (2 sigma^2)) normalised over the taps."""
    offsets = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    period = max(1, 2 * (length - 1))  # of a line and its mirror image, neither end repeated
    places = (torch.arange(start, stop)[:, None] + offsets) % period
    reflected = torch.minimum(places, period - places) if length > 1 else torch.zeros_like(places)
    rows = slice(0, length) if length <= BAND else slice(int(reflected.min()), int(reflected.max()) + 1)
    matrix = torch.zeros(stop - start, rows.stop - rows.start, dtype=torch.float64)
    matrix.scatter_add_(1, reflected - rows.start, (kernel / kernel.sum()).expand(stop - start, -1))
    return Band(rows, matrix.float())
