"""Thresholds: the three numbers that turn scores into verdicts and maps into defect regions. No torch."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Self

from pydantic import ConfigDict, Field, model_validator

from glad.settings import Frozen


class Verdict(StrEnum):
    """The decision on a part. The absence of a verdict never means `pass`."""

    PASS = "pass"
    REVIEW = "review"
    FAIL = "fail"


class VerdictThresholds(Frozen):
    """The scores from which a part is `review` and `fail`, and the map value from which a pixel is defective."""

    model_config = ConfigDict(allow_inf_nan=False)

    review: float = Field(description="score from which the verdict is `review`")
    fail: float = Field(gt=0, description="score from which the verdict is `fail`")
    pixel: float = Field(gt=0, description="map value from which a pixel belongs to a defect region")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.review > self.fail:
            raise ValueError(f"review threshold {self.review} lies above fail threshold {self.fail}: lower it")
        return self

    def verdict(self, score: float) -> Verdict:
        """Return `fail` at or above the fail threshold, `review` at or above the review threshold, else `pass`.

        Raises:
            ValueError: if the score is not finite: it has no verdict.
        """
        if not math.isfinite(score):
            raise ValueError(f"score is {score}: no verdict can be given; fail the inspection instead")
        if score >= self.fail:
            return Verdict.FAIL
        return Verdict.REVIEW if score >= self.review else Verdict.PASS

    def calibrate(self, score: float) -> float:
        """Return s / (s + fail threshold), in [0, 1): monotone, 0.5 at the fail threshold.

        A score is never negative; a rounding error below 0 counts as 0.
        """
        return max(score, 0.0) / (max(score, 0.0) + self.fail)

    @property
    def heatmap_top(self) -> float:
        """Return the map value that is drawn in the hottest colour: twice the pixel threshold."""
        return 2.0 * self.pixel
