"""What the quality gate said of an image."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from pydantic import Field

from glad.quality_gate.limits import Check, Unfit
from service.contract.types import Message


class QualityReason(Message):
    """One reason why the image is not fit for inspection."""

    check: Check = Field(description="stable; `no_part` means the part that the product's good images show")
    measure: str = Field(description="the limit of the bundle's gate that was passed", examples=["darkest"])
    value: float = Field(description="what was measured")
    limit: float
    detail: str = Field(max_length=300, description="for people: what was found, what was expected, what to check")


class Quality(Message):
    """Whether the image was fit for inspection. One that was not has no score: it is for people to look at."""

    passed: bool
    reasons: tuple[QualityReason, ...] = Field((), description="what to put right first stands first")

    @classmethod
    def of(cls, unfit: Iterable[Unfit]) -> Self:
        """What the gate found."""
        reasons = tuple(QualityReason.model_validate(one, from_attributes=True) for one in unfit)
        return cls(passed=not reasons, reasons=reasons)
