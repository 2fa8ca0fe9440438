"""A claim: the right to work on one job, until its lease ends or another takes over."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from service.contract import Job, Priority

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
