"""Admission: what becomes of a job that is submitted, and when one that was refused should come back.

The Lua scripts decide (admission.lua); these are their answers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

MAX_RETRY_AFTER_S = 3600
FULL_SHARE = 10
"""A job that met a full backlog comes back when a tenth of it is done, so that the many who were refused do not all
return for one place."""


class Admission(StrEnum):
    """The decision on a job; the values are what the scripts reply."""

    ADMITTED = "admitted"
    REPEATED = "repeated"
    """This Idempotency-Key was used before with the same request: the first inspection stands."""
    CONFLICT = "conflict"
    """This Idempotency-Key was used before with another request."""
    BACKLOG_FULL = "backlog_full"
    """Refused: the pool's backlog has reached its limit."""
    SHARE_FULL = "share_full"
    """Refused: the caller's API key holds nine times as many places of the backlog as are free."""
    WAIT_TOO_LONG = "wait_too_long"
    """Refused: by the measured pace the job would wait longer than is allowed."""
    DEADLINE = "deadline"
    """Refused: by the measured pace the job's deadline would pass before its turn."""


ACCEPTED = frozenset({Admission.ADMITTED, Admission.REPEATED})
"""An inspection stands for the submission."""


@dataclass(frozen=True)
class QueueLimits:
    """Beyond either of these a pool takes no more jobs."""

    max_backlog: int = 1000
    """Queued and running jobs together."""
    max_wait_s: float = 3600.0
    """Expected wait, by the measured pace."""


@dataclass(frozen=True)
class QueueEstimate:
    """The queue as a new job finds it, and the decision on the job."""

    admission: Admission
    backlog: int
    """Queued and running jobs of the pool."""
    ahead: int
    """Of these, the jobs whose turn comes before that of a new job of its priority."""
    mean_interval_ms: float | None
    """Between two completions while the queue was busy; None before any was measured."""
    at: datetime
    """Time of this look, by Redis's clock."""

    @property
    def expected_wait_s(self) -> float | None:
        """Return the seconds until a new job would have its result; None if no pace was measured yet."""
        return None if self.mean_interval_ms is None else self.ahead * self.mean_interval_ms / 1000

    def retry_after_s(self, limits: QueueLimits, *, deadline_ms: int | None, unmeasured_s: int) -> int:
        """Return in how many seconds a refused job would be admitted by the measured pace.

        Args:
            limits: those that the job was refused by.
            deadline_ms: of the job, in milliseconds after its acceptance.
            unmeasured_s: the answer where no pace was measured yet.
        """
        if self.mean_interval_ms is None:
            return unmeasured_s
        wait_s = self.ahead * self.mean_interval_ms / 1000
        if self.admission is Admission.DEADLINE and deadline_ms is not None:
            excess_s = wait_s - deadline_ms / 1000
        elif self.admission is Admission.WAIT_TOO_LONG:
            excess_s = wait_s - limits.max_wait_s
        else:
            excess_s = max(1, limits.max_backlog / FULL_SHARE) * self.mean_interval_ms / 1000
        return min(MAX_RETRY_AFTER_S, max(1, math.ceil(excess_s)))


@dataclass(frozen=True)
class Submission(QueueEstimate):
    """The answer to a submission, with the queue as the job found it."""

    inspection_id: str
    """The inspection that stands: the job's own, or the first one with its Idempotency-Key."""
