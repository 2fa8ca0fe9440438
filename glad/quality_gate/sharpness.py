"""How fine the details of an image are: their mean spatial frequency. NumPy; no torch.

A signal's mean squared frequency is the energy of its second derivative over that of its first (S. O. Rice,
"Mathematical analysis of random noise", 1945). Blur takes the high frequencies first, so it falls with every kind of
blur; light and contrast cancel. The variance of the Laplacian (Pech-Pacheco et al., 2000) falls with light as well,
and gradients over the image's own contrast (Tenengrad, Krotkov 1988) with the contrast of large areas:
docs/quality-gate.md compares them.

A narrow Gaussian goes first, since noise is fine detail too. Of both directions the lower one counts: motion blurs one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIGMA = 0.7
"""Of the Gaussian, in pixels."""
REACH = 2
_TAPS = np.exp(-0.5 * (np.arange(-REACH, REACH + 1) / SIGMA) ** 2)
_KERNEL = (_TAPS / _TAPS.sum()).astype(np.float32)
_WHOLE = 1 - 1e-4


@dataclass(frozen=True)
class Detail:
    """Energy of the first and second differences along one axis, summed over so many places."""

    first: float = 0.0
    firsts: int = 0
    second: float = 0.0
    seconds: int = 0

    def __add__(self, other: Detail) -> Detail:
        return Detail(
            self.first + other.first,
            self.firsts + other.firsts,
            self.second + other.second,
            self.seconds + other.seconds,
        )

    @property
    def frequency(self) -> float:
        """Root mean square, in cycles per pixel; 0 where there is no detail at all."""
        if self.first <= 0 or self.seconds == 0:
            return 0.0
        return float(np.sqrt((self.second / self.seconds) / (self.first / self.firsts)) / (2 * np.pi))


def sharpness(squares: Iterable[tuple[NDArray[np.float32], NDArray[np.bool_]]]) -> float:
    """Cycles per pixel along the blurrier axis, of all squares together. Each: grey (H, W), what counts (H, W)."""
    down, across = Detail(), Detail()
    for grey, inspected_mask in squares:
        soft, solid = _smoothed(grey), _smoothed(inspected_mask.astype(np.float32)) > _WHOLE
        down += _detail(soft, solid, 0)
        across += _detail(soft, solid, 1)
    return min(down.frequency, across.frequency)


def _smoothed(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W) -> (H - 2 REACH, W - 2 REACH): only where the kernel fits, so that no edge is made up."""
    height, width = (max(0, length - 2 * REACH) for length in values.shape)
    lines = sum(weight * values[k : k + height] for k, weight in enumerate(_KERNEL))
    found: Any = sum(weight * np.asarray(lines)[:, k : k + width] for k, weight in enumerate(_KERNEL))
    return np.asarray(found, dtype=np.float32)


def _detail(soft: NDArray[np.float32], solid: NDArray[np.bool_], axis: int) -> Detail:
    """Differences all of whose pixels count."""
    values, counts = (soft, solid) if axis == 0 else (soft.T, solid.T)
    two = counts[1:] & counts[:-1]
    three = two[1:] & two[:-1]
    step = np.diff(values, axis=0)
    bend = np.diff(step, axis=0)
    return Detail(_energy(step, two), int(two.sum()), _energy(bend, three), int(three.sum()))


def _energy(values: NDArray[np.float32], where: NDArray[np.bool_]) -> float:
    return float((values[where].astype(np.float64) ** 2).sum())
