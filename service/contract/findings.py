"""What the worker measured on one image, or why it could not."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Self

from pydantic import Field

from glad.quality_gate.limits import QualityCheck, Unfit
from service.contract.types import ArtifactName, Message, Note, Text, Timestamp


class QualityReason(Message):
    """One reason why the image is not fit for inspection."""

    check: QualityCheck = Field(description="stable; `no_part` means the part that the product's good images show")
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


class Region(Message):
    """One connected defect area, in pixels of the upright original."""

    box: tuple[int, int, int, int] = Field(description="x, y, width, height")
    area_px: int = Field(ge=1)
    peak: float = Field(description="highest map value inside")


class Timings(Message):
    """Milliseconds spent per stage."""

    queue: float = Field(ge=0)
    decode: float = Field(ge=0)
    encode: float = Field(ge=0)
    denoise: float = Field(ge=0)
    score: float = Field(ge=0)
    total: float = Field(ge=0, description="from acceptance to the result")


class Findings(Message):
    """What the worker measured on one image; the verdict follows from the job's thresholds."""

    score: float = Field(description="raw image score")
    regions: tuple[Region, ...] = ()
    denoising_step: int | None = Field(description="the step at which the trigger fired (Sec. 3.3)")
    unet_evaluations: int = Field(ge=0)
    seed: int = Field(ge=0, description="noise seed of the bundle; the noise itself is seeded by the content")
    timings_ms: Timings
    artifacts: tuple[ArtifactName, ...] = Field((), description="the pictures that were stored")
    quality: Quality | None = Field(None, description="None: no quality gate was asked")


class Failure(Message):
    """Why an inspection ended without a result."""

    code: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$", description="stable", examples=["bundle_unavailable"])
    detail: str = Field(max_length=1000, description="for people")


class Decision(StrEnum):
    """What an operator found."""

    OK = "ok"
    DEFECT = "defect"


class Review(Message):
    """An operator's judgement of an inspected part. Reviews are never changed; the last one counts."""

    decision: Decision
    note: Note | None = Field(None, description="for people", examples=["scratch is on the fixture"])
    by: Text = Field(description="who judged, as the caller says", examples=["a.meier"])
    key: Text | None = Field(
        None, description="name of the API key that sent it; null where no key was needed", examples=["console"]
    )
    at: Timestamp = Field(description="when it was recorded")
