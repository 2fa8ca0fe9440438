"""A claim: one worker's right to work on one job, until its lease ends or another worker takes over.

A stored job may be unreadable: damaged, or written by a newer version. It is then claimed as an `UnreadableJob`, and
its inspection is shown with the fields that can still be read.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypedDict

from pydantic import ValidationError

from service.contract import IMAGE, Failure, Job, Priority, Result, State, Traceability, artifact_links
from service.errors import field_problems
from service.queue.clock import from_ms

DEFAULT_LEASE_MS = 30_000
UNSERVED_PATIENCE_MS = 60_000
"""How long a job waits for a bundle that no living worker of its pool has: one may be restarting, or the bundle be
late."""
UNKNOWN_PRODUCT = "unknown"
COPIED_FIELDS = (
    *Traceability.model_fields,
    "product",
    "priority",
    "deadline_ms",
    "image_sha256",
    "width",
    "height",
    "replay_of",
)
"""Fields that a Result takes over from its job under the same names."""


@dataclass(frozen=True)
class UnusableBundles:
    """Hashes of the bundles that a worker cannot use. It claims none of their jobs; another worker may."""

    missing: frozenset[str] = frozenset()
    """Its store answers, and does not have them, or has them changed or broken."""
    away: frozenset[str] = frozenset()
    """Its store could not be read when they were looked for: whether it has them is not known."""


class ResultFields(TypedDict):
    """Fields of a result that its claim knows; both times are of Redis's clock."""

    started_at: datetime
    finished_at: datetime
    attempts: int


@dataclass(frozen=True)
class ClaimedJob:
    """One job that one worker process works on. `owner` and `attempt` fence everything that is done with it.

    Only the process that made the latest claim may end the job, renew its lease or hand it back. A worker that slept
    past its lease still has the old attempt's number: Redis refuses what it sends, so the inspection has exactly one
    result.
    """

    job: Job
    owner: str
    attempt: int
    """The fencing token: grows with every claim of this job, also after it was handed back."""
    alone: bool
    """The job is a suspect: its worker died before. Nothing else may run beside it."""
    waited_ms: int
    """From submission to this claim, by Redis's clock."""
    started_ms: int
    """Redis's clock at the first claim of this job, ms since 1970."""
    claimed_ms: int
    """Redis's clock at this claim, ms since 1970."""
    deaths: int = 0
    """Number of workers that died while they held this job alone."""
    picture_only: bool = False
    """It ends in a picture of an inspection that has ended, not in a result: see `service.queue.picture_requests`."""
    shown_attempt: int = 0
    """Of such a request: the attempt whose result is shown."""
    received_s: float = field(default_factory=time.monotonic, compare=False)
    """This machine's time of the claim's arrival, in seconds that only grow."""
    unserved: bool = False
    """For `UNSERVED_PATIENCE_MS` no living worker of the pool has had its bundle: the claim is for ending it."""

    @property
    def id(self) -> str:
        """The inspection's id."""
        return self.job.id

    @property
    def entry_id(self) -> str:
        """Name of this claim: the inspection's id and the attempt."""
        return f"{self.job.id}:{self.attempt}"

    @property
    def stores_as(self) -> int:
        """The attempt under whose names its pictures are stored: see `service.storage.artifacts`."""
        return self.shown_attempt if self.picture_only else self.attempt

    @property
    def started_at(self) -> datetime:
        """Time of the first claim of this job."""
        return datetime.fromtimestamp(self.started_ms / 1000, UTC)

    @property
    def redis_now(self) -> datetime:
        """Time by Redis's clock: that of the claim, and what has passed here since."""
        return from_ms(self.claimed_ms + round((time.monotonic() - self.received_s) * 1000))

    @property
    def result_fields(self) -> ResultFields:
        """What the claim gives to the result that it ends in, now; never earlier than the acceptance."""
        return {"started_at": self.started_at, "finished_at": self.redis_now, "attempts": self.attempt}

    @property
    def since_first_claim_ms(self) -> int:
        """Time since the first claim: a worker gives up on a store that stays away for too long."""
        return max(0, self.claimed_ms - self.started_ms)


@dataclass(frozen=True)
class UnreadableJob:
    """A claimed job whose stored text this version cannot read: written by a newer version, or damaged."""

    id: str
    text: str | None
    """The stored text; None: there is none."""
    why: str
    priority: Priority
    owner: str
    attempt: int
    submitted_ms: int
    """Redis's clock at the submission, ms since 1970."""
    started_ms: int
    """Redis's clock at the first claim of this job, ms since 1970."""
    claimed_ms: int
    """Redis's clock at this claim, ms since 1970."""


def read_row(row: Sequence[str | None], owner: str) -> ClaimedJob | UnreadableJob:
    """Return the claim that claim.lua or reclaim.lua gave to `owner`.

    Args:
        row: id, job, attempt, submitted, started, deaths, priority, now, alone, and of claim.lua unserved. Times are
            ms of Redis's clock.
    """
    inspection_id, text, attempt, submitted, started, deaths, priority, now, alone, *unserved = row
    assert inspection_id
    submitted_ms, now_ms = int(submitted or 0), int(now or 0)
    try:
        job = Job.model_validate_json(text or "")
    except ValidationError as error:
        return UnreadableJob(
            id=inspection_id,
            text=text,
            why=_describe(error),
            priority=Priority.HIGH if priority == Priority.HIGH else Priority.NORMAL,
            owner=owner,
            attempt=int(attempt or 0),
            submitted_ms=submitted_ms,
            started_ms=int(started or now_ms),
            claimed_ms=now_ms,
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
        unserved=unserved == ["1"],
    )


def _describe(error: ValidationError) -> str:
    """Return the first few problems in words, without long values."""
    problems = [f"{problem.field}: {problem.message}" for problem in field_problems(list(error.errors()))]
    return "; ".join(problems)[:500]


def failed_result(job: UnreadableJob) -> Result:
    """Return the ended inspection of an unreadable job: `failed`, with the fields that could be read."""
    detail = f"the stored job cannot be read by this version ({job.why}); it was left as a dead letter"
    return partial_result(
        job.id,
        job.text,
        State.FAILED,
        job.submitted_ms,
        error=Failure(code="job_unreadable", detail=detail),
        started_at=datetime.fromtimestamp(job.started_ms / 1000, UTC),
        finished_at=from_ms(job.claimed_ms),  # it ends at once
        attempts=job.attempt,
    )


def partial_result(inspection_id: str, text: str | None, state: State, submitted_ms: int, **fields: Any) -> Result:
    """Return the inspection of an unreadable job in any state but `done`.

    Args:
        text: the stored job; its readable fields are shown.
        submitted_ms: Redis's clock at the submission, ms since 1970.
        fields: further fields of the Result.
    """
    readable = _readable_fields(text)
    bundle = {"version": readable.get("bundle_version"), "hash": readable.get("bundle_hash")}
    copied = {name: readable[name] for name in COPIED_FIELDS if name in readable}
    required = dict.fromkeys(("image_sha256", "width", "height"))  # fields without a default, null if unreadable
    return Result.model_validate(
        {
            **required,
            "product": UNKNOWN_PRODUCT,
            **copied,
            "id": inspection_id,
            "state": state,
            "bundle": bundle if all(bundle.values()) else None,
            "thresholds": readable.get("thresholds"),
            "artifacts": artifact_links(inspection_id, (IMAGE,)),
            "accepted_at": datetime.fromtimestamp(submitted_ms / 1000, UTC),
            **fields,
        }
    )


def _readable_fields(text: str | None) -> dict[str, Any]:
    """Return the fields of a stored job that are valid, each checked by itself."""
    try:
        fields = json.loads(text or "")
    except ValueError:
        return {}
    if not isinstance(fields, dict):
        return {}
    try:
        Job.model_validate(fields)
    except ValidationError as error:
        broken = {str(problem["loc"][0]) for problem in error.errors() if problem["loc"]}
        return {name: value for name, value in fields.items() if name not in broken}
    return fields
