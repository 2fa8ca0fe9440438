"""A result: the inspection as the REST contract shows it, in every state."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from pydantic import Field, model_validator

from model_store import thresholds
from model_store.manifest import Name, Sha256
from service.contract.findings import Failure, Findings, Quality, Region, Review, Timings
from service.contract.job import Job, Priority, Thresholds, Traceability
from service.contract.types import IMAGE, ArtifactName, InspectionId, Message, Timestamp, artifact_links, now

Verdict = thresholds.Verdict
MAX_REGIONS = 256
"""A result keeps this many regions, those with the highest peaks; the mask shows the rest."""


class State(StrEnum):
    """Where an inspection stands; the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    EXPIRED = "expired"

    @property
    def final(self) -> bool:
        """Nothing will change any more."""
        return self in FINAL_STATES


FINAL_STATES = frozenset({State.DONE, State.FAILED, State.EXPIRED})


class BundleId(Message):
    """The bundle that inspects the image: pinned at acceptance."""

    version: Name
    hash: Sha256


class Result(Traceability):
    """An inspection, in any state. `verdict` null is never pass."""

    id: InspectionId = Field(examples=["019abc12-3456-7def-8123-456789abcdef"])
    state: State
    product: Name
    bundle: BundleId | None = Field(description="null only if the stored job could not be read")
    priority: Priority = Priority.NORMAL
    deadline_ms: int | None = None
    quality: Quality | None = Field(
        None, description="what the quality gate said; null: it was not asked, or not yet. `passed` false: no score"
    )
    score: float | None = Field(None, description="raw image score; null before the end, and for an unfit image")
    calibrated_score: float | None = Field(None, description="score / (score + fail threshold): 0.5 at the threshold")
    thresholds: Thresholds | None = Field(description="null only if the stored job could not be read")
    verdict: Verdict | None = Field(
        None, description="`pass`, `review`, `fail`; null while unknown, which is never pass"
    )
    regions: tuple[Region, ...] = Field((), description=f"at most {MAX_REGIONS}, the highest peaks first")
    denoising_step: int | None = None
    unet_evaluations: int | None = None
    seed: int | None = None
    timings_ms: Timings | None = None
    artifacts: dict[ArtifactName, str] = Field(default_factory=dict, description="name -> link")
    image_sha256: Sha256 | None = Field(description="null only if the stored job could not be read")
    width: int | None = Field(description="of the upright image, in pixels; null as above")
    height: int | None
    accepted_at: Timestamp
    started_at: Timestamp | None = None
    finished_at: Timestamp | None = None
    attempts: int = Field(0, description="how often a worker took it up")
    replay_of: InspectionId | None = Field(None, description="the inspection whose image this one inspects again")
    error: Failure | None = Field(None, description="set when the state is `failed` or `expired`")
    reviews: tuple[Review, ...] = Field((), description="what operators found, oldest first; the last one counts")

    @model_validator(mode="after")
    def _states_mean_what_they_say(self) -> Self:
        if (self.state is State.DONE) != (self.verdict is not None):
            raise ValueError(f"state is {self.state} and verdict is {self.verdict}: exactly `done` has a verdict")
        if (self.error is not None) != (self.state in {State.FAILED, State.EXPIRED}):
            raise ValueError(
                f"state is {self.state} and error is {self.error}: exactly `failed` and `expired` have one"
            )
        return self

    @model_validator(mode="after")
    def _unfit_means_review(self) -> Self:
        if self.unfit and (self.verdict is not Verdict.REVIEW or self.score is not None):
            raise ValueError(
                f"quality is not passed, verdict is {self.verdict} and score is {self.score}: an unfit image is for "
                "review and has no score"
            )
        if self.verdict is not None and self.score is None and not self.unfit:
            raise ValueError(f"verdict is {self.verdict} without a score: only an unfit image has none")
        return self

    @property
    def unfit(self) -> bool:
        """The quality gate stopped it."""
        return self.quality is not None and not self.quality.passed

    @classmethod
    def waiting(
        cls, job: Job, state: State = State.QUEUED, *, started_at: datetime | None = None, attempts: int = 0
    ) -> Self:
        """The inspection before its end."""
        return cls(**_pinned(job), state=state, started_at=started_at, attempts=attempts)

    @classmethod
    def done(cls, job: Job, findings: Findings, *, started_at: datetime, attempts: int) -> Self:
        """The inspection with its verdict, by the job's pinned thresholds. ValueError if the score is not finite."""
        highest = sorted(findings.regions, key=lambda region: (-region.peak, region.box))[:MAX_REGIONS]
        pinned = {**_pinned(job), "artifacts": artifact_links(job.id, (*findings.artifacts, IMAGE))}
        return cls(
            **pinned,
            state=State.DONE,
            quality=findings.quality,
            score=findings.score,
            calibrated_score=job.thresholds.calibrate(findings.score),
            verdict=job.thresholds.verdict(findings.score),
            regions=tuple(highest),
            denoising_step=findings.denoising_step,
            unet_evaluations=findings.unet_evaluations,
            seed=findings.seed,
            timings_ms=findings.timings_ms,
            started_at=started_at,
            finished_at=now(),
            attempts=attempts,
        )

    @classmethod
    def stopped(cls, job: Job, quality: Quality, timings_ms: Timings, *, started_at: datetime, attempts: int) -> Self:
        """The inspection of an image that is unfit for it: for people to look at, by no score."""
        return cls(
            **_pinned(job),
            state=State.DONE,
            quality=quality,
            verdict=Verdict.REVIEW,
            unet_evaluations=0,
            timings_ms=timings_ms,
            started_at=started_at,
            finished_at=now(),
            attempts=attempts,
        )

    @classmethod
    def ended(cls, job: Job, state: State, error: Failure, *, started_at: datetime | None, attempts: int) -> Self:
        """The inspection that ended without a verdict: `failed` or `expired`."""
        return cls(
            **_pinned(job), state=state, error=error, started_at=started_at, finished_at=now(), attempts=attempts
        )

    def to_json(self) -> str:
        """The JSON that is stored and sent."""
        return self.model_dump_json()


def _pinned(job: Job) -> dict[str, Any]:
    return {
        **job.traceability,
        "id": job.id,
        "product": job.product,
        "bundle": BundleId(version=job.bundle_version, hash=job.bundle_hash),
        "priority": job.priority,
        "deadline_ms": job.deadline_ms,
        "thresholds": job.thresholds,
        "artifacts": artifact_links(job.id, (IMAGE,)),
        "image_sha256": job.image_sha256,
        "width": job.width,
        "height": job.height,
        "accepted_at": job.accepted_at,
        "replay_of": job.replay_of,
    }
