"""A claim: the right to work on one job, until its lease ends or another takes over."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from service.contract import IMAGE, Failure, Job, Priority, Result, State, Traceability, artifact_links
from service.errors import field_problems

DEFAULT_LEASE_MS = 30_000


@dataclass(frozen=True)
class ClaimedJob:
    """One job in the hands of one worker. `owner` and `attempt` fence what is done with it."""

    job: Job
    owner: str
    attempt: int
    """Grows with every claim of this job, hand-backs included."""
    alone: bool
    """A suspect: its worker died before. Nothing else may run beside it."""
    waited_ms: int
    """From submission to this claim, by Redis's clock."""
    started_ms: int
    """Redis's clock at the first claim of this job, ms since 1970."""
    claimed_ms: int
    """Redis's clock at this claim, ms since 1970."""
    deaths: int = 0
    """How many workers died while they held this job alone."""

    @property
    def id(self) -> str:
        """The inspection's id."""
        return self.job.id

    @property
    def entry_id(self) -> str:
        """Names this claim: the inspection and the attempt."""
        return f"{self.job.id}:{self.attempt}"

    @property
    def started_at(self) -> datetime:
        """When a worker first took the job up."""
        return datetime.fromtimestamp(self.started_ms / 1000, UTC)

    @property
    def since_first_claim_ms(self) -> int:
        """How long this job has been tried: for giving up on what stays unavailable."""
        return max(0, self.claimed_ms - self.started_ms)


@dataclass(frozen=True)
class UnreadableJob:
    """A job in the hands of one worker that cannot tell what it says: of a newer version, or damaged."""

    id: str
    text: str | None
    """What is stored instead of a job; None: nothing."""
    why: str
    priority: Priority
    owner: str
    attempt: int
    submitted_ms: int
    """Redis's clock at the submission, ms since 1970."""
    started_ms: int
    """Redis's clock at the first claim of this job, ms since 1970."""


UNKNOWN_PRODUCT = "unknown"
KEPT = (
    *Traceability.model_fields,
    "product",
    "priority",
    "deadline_ms",
    "image_sha256",
    "width",
    "height",
    "replay_of",
)
"""What a Result shows of a job under the job's own names."""


def read_row(row: Sequence[str | None], owner: str) -> ClaimedJob | UnreadableJob:
    """The claim that `owner` was given: id, job, attempt, submitted, started, deaths, priority, now, alone."""
    inspection_id, text, attempt, submitted, started, deaths, priority, now, alone = row
    assert inspection_id
    submitted_ms, now_ms = int(submitted or 0), int(now or 0)
    try:
        job = Job.model_validate_json(text or "")
    except ValidationError as error:
        return UnreadableJob(
            id=inspection_id,
            text=text,
            why=why_unreadable(error),
            priority=Priority.HIGH if priority == Priority.HIGH else Priority.NORMAL,
            owner=owner,
            attempt=int(attempt or 0),
            submitted_ms=submitted_ms,
            started_ms=int(started or now_ms),
        )
    return ClaimedJob(
        job=job,
        owner=owner,
        attempt=int(attempt or 0),
        alone=alone == "1",
        waited_ms=max(0, now_ms - submitted_ms),
        started_ms=int(started or now_ms),
        claimed_ms=now_ms,
        deaths=int(deaths or 0),
    )


def why_unreadable(error: ValidationError) -> str:
    """The first few faults in words; repeats no long value."""
    problems = [f"{one.field}: {one.message}" for one in field_problems(list(error.errors()))]
    return "; ".join(problems)[:500]


def buried(job: UnreadableJob) -> Result:
    """Its inspection, ended: `failed`, with what could be read."""
    detail = f"the stored job cannot be read by this version ({job.why}); it was left as a dead letter"
    return remains(
        job.id,
        job.text,
        State.FAILED,
        job.submitted_ms,
        error=Failure(code="job_unreadable", detail=detail),
        started_at=datetime.fromtimestamp(job.started_ms / 1000, UTC),
        finished_at=datetime.now(UTC),
        attempts=job.attempt,
    )


def remains(inspection_id: str, text: str | None, state: State, submitted_ms: int, **more: Any) -> Result:
    """The inspection of an unreadable job, in any state but `done`."""
    kept = _readable(text)
    bundle = {"version": kept.get("bundle_version"), "hash": kept.get("bundle_hash")}
    shown = {name: kept.get(name) for name in KEPT if name in kept}
    nothing = dict.fromkeys(("image_sha256", "width", "height"))
    return Result.model_validate(
        {
            **nothing,
            "product": UNKNOWN_PRODUCT,
            **shown,
            "id": inspection_id,
            "state": state,
            "bundle": bundle if all(bundle.values()) else None,
            "thresholds": kept.get("thresholds"),
            "artifacts": artifact_links(inspection_id, (IMAGE,)),
            "accepted_at": datetime.fromtimestamp(submitted_ms / 1000, UTC),
            **more,
        }
    )


def _readable(text: str | None) -> dict[str, Any]:
    """The fields of a stored job that validate, each by itself."""
    try:
        found = json.loads(text or "")
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    try:
        Job.model_validate(found)
    except ValidationError as error:
        broken = {str(one["loc"][0]) for one in error.errors() if one["loc"]}
        return {name: value for name, value in found.items() if name not in broken}
    return found
