"""The results of an evaluation: a row per image, the figures, the curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.metrics.counts import Curve
from training.metrics.pixel_metrics import Ranked

GOOD = "good"
POINTS = 1000


@dataclass(frozen=True)
class EvaluationRow:
    """The result of one labelled image.

    verdict: None where the bundle has no thresholds. gated: the reason why the bundle's quality gate would send it to
    people without a score; "": it would not, or there is none.
    """

    file: str
    defect: str
    severity: int | None
    group: str
    score: float
    verdict: str | None
    denoising_step: int
    triggered: bool
    gated: str = ""

    @property
    def is_good(self) -> bool:
        """Return whether it has no defect."""
        return self.defect == GOOD


@dataclass(frozen=True)
class Located:
    """The map and the truth of an image, content only.

    (height, width) each, at the model's scale, without the padding.
    """

    row: int
    map: NDArray[np.float16]
    truth: NDArray[np.bool_]


@dataclass(frozen=True)
class Curves:
    """ROC curves of images and pixels, and the PRO curve (mean overlap of the regions); None without both classes."""

    image: Curve | None
    pixel: Curve | None
    region: Curve | None


@dataclass(frozen=True, eq=False)
class RankedMaps:
    """What the figures of pixels, and their differences from another detector's, are made of; no map."""

    rows: tuple[int, ...]
    """The row of each image with a map and a truth."""
    ranked: Ranked


@dataclass(frozen=True)
class Evaluation:
    """All that was measured; `figures` is what goes into JSON."""

    figures: dict[str, Any]
    rows: tuple[EvaluationRow, ...]
    curves: Curves
    maps: RankedMaps | None = None
    """None: no defect has a mask."""


def defects_of(rows: Sequence[EvaluationRow]) -> list[str]:
    """Return the kinds of defect, by name."""
    return sorted({row.defect for row in rows if not row.is_good})


def thinned(line: Curve) -> Curve:
    """Return at most 1,000 points of a curve of millions, evenly spaced along it, both ends kept."""
    along = (line.false_positive_rate + line.true_positive_rate) / 2
    chosen = np.unique(np.searchsorted(along, np.linspace(0, 1, POINTS - 1)).clip(max=len(along) - 1))
    chosen = np.unique(np.append(chosen, [0, len(along) - 1]))
    return Curve(line.false_positive_rate[chosen], line.true_positive_rate[chosen])
