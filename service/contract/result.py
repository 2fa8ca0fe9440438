"""The outcome of a job: the worker's findings, and the inspection that the REST contract shows, in each state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from typing import Any

from pydantic import Field

from glad.quality_gate.limits import GateMeasures, Unfit
from glad_client.fields import ArtifactName, Message
from glad_client.results import (
    MAX_REGIONS,
    BundleId,
    Failure,
    HottestPlace,
    Quality,
    QualityReason,
    Region,
    Result,
    State,
    Thresholds,
    Timings,
    Verdict,
)
from service.contract.fields import IMAGE, artifact_links, now
from service.contract.job import Job, PinnedThresholds


class Findings(Message):
    """Measurements of the worker on one image; the verdict follows from the job's thresholds."""

    score: float = Field(description="raw image score")
    regions: tuple[Region, ...] = ()
    hottest: HottestPlace | None = Field(None, description="as `Result.hottest`; null: by an older worker")
    denoising_step: int | None = Field(
        description="the step at which the trigger fired (Sec. 3.3); 0: clear at its first reading, not walked"
    )
    unet_evaluations: int = Field(ge=0)
    near_tie: bool | None = Field(None, description="as `Result.near_tie`, of the steps; null: by an older worker")
    seed: int = Field(ge=0, description="noise seed of the bundle; the noise itself is seeded by the content")
    timings_ms: Timings
    artifacts: tuple[ArtifactName, ...] = Field((), description="the pictures that were stored")
    quality: Quality | None = Field(None, description="None: no quality gate was asked")


def quality_from_reasons(unfit: Iterable[Unfit], measures: GateMeasures | None = None) -> Quality:
    """Return the quality of an image for which the gate gave these reasons; none: it is fit."""
    reasons = tuple(QualityReason.model_validate(one, from_attributes=True) for one in unfit)
    return Quality(passed=not reasons, reasons=reasons, measures=None if measures is None else asdict(measures))


def waiting_result(
    job: Job,
    state: State = State.QUEUED,
    *,
    started_at: datetime | None = None,
    attempts: int = 0,
    overtime: bool = False,
) -> Result:
    """Return the inspection before its end; `overtime`: its takt is over."""
    pinned = {**_pinned(job), **({"overtime": True} if overtime else {})}
    return Result(**pinned, state=state, started_at=started_at, attempts=attempts)


def overtime_result(result: Result) -> Result:
    """Return an ended inspection as it is recorded after its takt: what would pass is for review."""
    verdict = Verdict.REVIEW if result.verdict is Verdict.PASS else result.verdict
    return result.model_copy(update={"overtime": True, "verdict": verdict})


def done_result(
    job: Job, findings: Findings, *, started_at: datetime, attempts: int, finished_at: datetime | None = None
) -> Result:
    """Return the inspection with its verdict, by the job's pinned thresholds.

    Args:
        job, findings, started_at, attempts: what it is made of.
        finished_at: by Redis's clock, as all its times are; default: by the clock of this machine.

    Raises:
        ValueError: if the score is not finite.
    """
    highest = sorted(findings.regions, key=lambda region: (-region.peak, region.box))[:MAX_REGIONS]
    pinned = {**_pinned(job), "artifacts": artifact_links(job.id, (*findings.artifacts, IMAGE))}
    return Result(
        **pinned,
        state=State.DONE,
        quality=findings.quality,
        score=findings.score,
        calibrated_score=job.thresholds.calibrate(findings.score),
        verdict=Verdict(job.thresholds.verdict(findings.score)),
        regions=tuple(highest),
        hottest=findings.hottest,
        denoising_step=findings.denoising_step,
        unet_evaluations=findings.unet_evaluations,
        near_tie=_near_tie(findings, job.thresholds),
        seed=findings.seed,
        timings_ms=findings.timings_ms,
        started_at=started_at,
        finished_at=finished_at or now(),
        attempts=attempts,
    )


def unfit_result(
    job: Job,
    quality: Quality,
    timings_ms: Timings,
    *,
    started_at: datetime,
    attempts: int,
    finished_at: datetime | None = None,
) -> Result:
    """Return the inspection of an image that the gate found unfit: for people to look at, without a score."""
    return Result(
        **_pinned(job),
        state=State.DONE,
        quality=quality,
        verdict=Verdict.REVIEW,
        unet_evaluations=0,
        timings_ms=timings_ms,
        started_at=started_at,
        finished_at=finished_at or now(),
        attempts=attempts,
    )


def ended_result(
    job: Job,
    state: State,
    error: Failure,
    *,
    started_at: datetime | None,
    attempts: int,
    finished_at: datetime | None = None,
) -> Result:
    """Return the inspection that ended without a verdict: `failed` or `expired`."""
    return Result(
        **_pinned(job),
        state=state,
        error=error,
        started_at=started_at,
        finished_at=finished_at or now(),
        attempts=attempts,
    )


def _near_tie(findings: Findings, limits: PinnedThresholds) -> bool | None:
    return None if findings.near_tie is None else findings.near_tie or limits.near_tie(findings.score)


def _pinned(job: Job) -> dict[str, Any]:
    return {
        **job.traceability,
        "id": job.id,
        "product": job.product,
        "bundle": BundleId(version=job.bundle_version, hash=job.bundle_hash),
        "priority": job.priority,
        "deadline_ms": job.deadline_ms,
        "thresholds": Thresholds.model_validate(job.thresholds, from_attributes=True),
        "hold": job.hold,
        "hold_sample": job.hold_sample,
        "audit": job.audit,
        "overtime": None if job.takt_ms is None else False,
        "limit_sample": job.limit_sample,
        "artifacts": artifact_links(job.id, (IMAGE,)),
        "image_sha256": job.image_sha256,
        "width": job.width,
        "height": job.height,
        "accepted_at": job.accepted_at,
        "replay_of": job.replay_of,
        "replayed_by": job.replayed_by,
    }
