"""How light or dark an image is, and how much of it is lost in black or white. NumPy; no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of red, green and blue in grey (ITU-R BT.601)."""
BLACK, WHITE = 8, 247
"""Grey levels up to which, and from which, nothing can be told apart: noise and JPEG leave no pure 0 or 255."""


@dataclass(frozen=True)
class Light:
    """Of the pixels that count."""

    brightness: float
    """Mean grey, 0 ... 255."""
    black_share: float
    """0 ... 1: at most `BLACK`."""
    white_share: float
    """0 ... 1: at least `WHITE`."""


def grey_of(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W, 3) -> (H, W), 0 ... 255."""
    return np.asarray(pixels.astype(np.float32) @ LUMA)


def measure_light(grey: NDArray[np.float32], counted: NDArray[np.bool_]) -> Light:
    """grey, counted: (H, W) each; something must count. The mean and both tails of the grey histogram."""
    levels = grey[counted]
    return Light(float(levels.mean()), float((levels <= BLACK).mean()), float((levels >= WHITE).mean()))
