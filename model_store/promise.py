"""What thresholds promise of the good parts that fail: arithmetic on how many parts set them. No torch.

What K groups can promise at all is what the largest of their scores promises: a fresh part goes beyond it with a chance
of 1 / (K + 1) on average over draws, and of at most 1 - (1 - confidence)^(1 / K) with a confidence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from model_store.manifest import CalibrationKind

USUAL_CONFIDENCE = 0.95
"""Told beside a promise that holds on average only."""


@dataclass(frozen=True)
class CalibrationPromise:
    """The false rejects that a number of groups can promise, beside those that are wanted."""

    groups: int
    quantile: float
    confidence: float | None
    """None: on average over draws of the groups."""
    rate: float
    """The least share of false rejects that these groups can promise at all, in (0, 1)."""
    needed: int
    """How many groups the wanted share, 1 - quantile, takes."""

    @property
    def kept(self) -> bool:
        """Whether the wanted share can be promised."""
        return self.groups >= self.needed


def promise(groups: int, quantile: float, confidence: float | None = None) -> CalibrationPromise:
    """Return what this many groups can promise, and how many the share 1 - quantile takes.

    Raises:
        ValueError: without groups.
    """
    if groups < 1:
        raise ValueError(f"{groups} groups promise nothing: give at least one good part")
    rate = 1 / (groups + 1) if confidence is None else 1 - (1 - confidence) ** (1 / groups)
    return CalibrationPromise(groups, quantile, confidence, rate, least_count(quantile, confidence))


def least_count(quantile: float, confidence: float | None = None) -> int:
    """Return how many groups it takes before the promise for this quantile holds.

    With a confidence: 1 - q^n, the confidence that the largest of n scores gives, must reach it.
    """
    if confidence is None:
        return math.ceil(exact(quantile) / (1 - exact(quantile)))
    return math.ceil(math.log(1 - confidence) / math.log(quantile))


def is_proven(kind: CalibrationKind, confidence: float | None) -> bool:
    """Return whether scores that came about like this prove what they promise: else it is an estimate."""
    return kind is CalibrationKind.HELD_OUT or (kind is CalibrationKind.LEAVE_GROUP_OUT and confidence is None)


def least_for_one_draw(found: CalibrationPromise, kind: CalibrationKind) -> float | None:
    """Return what could be promised of the one draw that a user has, where a promise holds on average; else None."""
    if found.confidence is not None or kind is not CalibrationKind.HELD_OUT:
        return None
    return promise(found.groups, found.quantile, USUAL_CONFIDENCE).rate


def exact(quantile: float) -> Fraction:
    """Return a quantile as a fraction, 0.98 as 49/50.

    In floating point, a product just above a whole number would move the rank by one.
    """
    return Fraction(str(quantile))
