"""The first reading of an image: a cheap look, before any step, that says whether it need walk at all.

A walk costs a UNet call for each of its steps; the memory of good parts has to be asked anyway, and a single call
rebuilds an image nearly as well as a whole walk. Where both say that an image is clearly good or clearly defective, the
walk would cost its calls and change nothing: only images between two thresholds, the doubtful ones, walk. Few steps,
and adaptive: here from one on, or from none where the denoiser is not asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from glad.patch_matching import top_mean
from glad.settings.method import MethodSettings


@dataclass(frozen=True, eq=False)
class FirstReading:
    """What is said of one model image before it walks, found once: the score hears the same distances again."""

    score: float
    """Compared with `MethodSettings.doubtful`: `reading_score`."""
    distances: Tensor
    """Of each judged place from the memory's good ones, unweighted: (h, w) float32, 0 elsewhere."""
    counterpart: Tensor
    """The nearest good patch of each judged place, the latent itself elsewhere: (C, h, w), scaled."""
    rebuilt: Tensor | None = None
    """Of each judged place from what a single call of the denoiser makes of it, unweighted, as `distances`; None: the
    denoiser was not asked."""
    unet_evaluations: int = 0
    """Calls that the reading cost."""


class FirstReader(Protocol):
    """Reads one image before it walks. What it answers depends on this image alone."""

    def __call__(
        self, latent: Tensor, noise: Tensor, inspected_mask: Tensor | None, settings: MethodSettings
    ) -> FirstReading:
        """Return the first reading of an image.

        Args:
            latent: z, (C, h, w), scaled.
            noise: epsilon, the image's, (C, h, w).
            inspected_mask: (S, S) bool, true on what is neither padding nor ignored; None: everywhere.
            settings: those of its product.
        """
        ...


def reading_score(evidence: Tensor, judged: Tensor, settings: MethodSettings) -> float:
    """Return the score that evidence gives on the latent's own grid: what an image is first read by.

    It is the mean of the largest `score.top` of the judged places: the score of `glad.scoring.image_scores` without
    smoothing and enlargement. A `top` in pixels is one of the scoring resolution; so many places are counted as have
    its area, at least one.

    Args:
        evidence: (h, w), weighted.
        judged: (h, w) bool, at least one.
        settings: of the product.
    """
    values = evidence[judged]
    score, pixels_per_place = settings.score, (settings.scoring_side / evidence.shape[-1]) ** 2
    scale = 1 if score.top.unit == "area" else pixels_per_place
    count = score.top.model_copy(update={"value": score.top.value / scale}).elements(values.numel())
    return float(top_mean(values, count))
