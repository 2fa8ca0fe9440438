"""The foreground: the part of an image that is the object, by Otsu's threshold on its grey (authors' code)."""

from __future__ import annotations

import torch
from torch import Tensor

from glad.settings.method import Foreground, ScoreSettings
from glad.smoothing import smooth_inspected

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601)."""
LEVELS = 256


def grey_of(images: Tensor) -> Tensor:
    """Return the grey levels (B, H, W), 0 ... 255, of images (B, 3, H, W) in about [-1, 1]."""
    weights = images.new_tensor(LUMA)[:, None, None]
    return ((images + 1) * 127.5 * weights).sum(1)


def foreground_mask(grey: Tensor, inspected_mask: Tensor, settings: ScoreSettings, side: int) -> Tensor:
    """Return the mask (H, W) float32 in [0, 1] that the map is multiplied by.

    Otsu's threshold over the inspected pixels, then the score's Gaussian, above 0, and the Gaussian once more. The blur
    has finitely many taps, so "above 0" widens the object by half its taps: its edge is inspected in full. An image of
    one grey is all object, so that nothing of it goes unseen.

    Args:
        grey: (H, W), 0 ... 255.
        inspected_mask: (H, W) bool.
        settings: of the score.
        side: of a model image where it is scored, in pixels.
    """
    is_object = object_pixels(grey, inspected_mask, settings.foreground)
    if is_object is None:
        return torch.ones_like(grey)
    blur = settings.smoothing, settings.taps, side
    wide = smooth_inspected((is_object & inspected_mask).float(), inspected_mask, *blur) > 0
    return smooth_inspected(wide.float(), inspected_mask, *blur)


def object_pixels(grey: Tensor, inspected_mask: Tensor, foreground: Foreground) -> Tensor | None:
    """Return the pixels (H, W) bool on the object's side of Otsu's threshold; None: all of it is object.

    Args:
        grey: (H, W), 0 ... 255.
        inspected_mask: (H, W) bool; the threshold is that of the pixels inside.
        foreground: which side is the object's.
    """
    levels = grey.round().clamp(0, LEVELS - 1)
    threshold = None if foreground is Foreground.WHOLE else otsu_threshold(levels[inspected_mask])
    if threshold is None:
        return None
    return levels <= threshold if foreground is Foreground.DARK else levels > threshold


def otsu_threshold(levels: Tensor) -> int | None:
    """Return the t whose classes "at most t" and "above t" differ most; None if all levels are equal.

    Otsu, "A threshold selection method from gray-level histograms", 1979: the largest between-class variance, the
    lowest t of equals.

    Args:
        levels: (n,), whole numbers 0 ... 255.
    """
    counts = torch.bincount(levels.long(), minlength=LEVELS).double().cpu()
    values = torch.arange(LEVELS, dtype=torch.float64)
    below, total = counts.cumsum(0), counts.sum()
    mass, whole = (counts * values).cumsum(0), (counts * values).sum()
    # Between-class variance up to a constant: (mu_T n_t - mu_t n)^2 / (n_t (n - n_t)), with sums in place of means.
    variance = (whole * below - mass * total) ** 2 / (below * (total - below)).clamp_min(1)
    best = int(variance.argmax())
    return best if float(variance[best]) > 0 else None
