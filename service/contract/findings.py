"""What the worker measured on one image, or why it could not."""

from __future__ import annotations

from pydantic import Field

from service.contract.artifacts import ArtifactName
from service.contract.quality import Quality
from service.contract.types import Message


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
