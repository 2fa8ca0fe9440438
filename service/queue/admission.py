"""Is there room for another job? The scripts decide; here is what they decided, and when to come back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

LONGEST_RETRY_AFTER_S = 3600
FULL_SHARE = 10
"""Come back when one part in so many of a full backlog is done: so that many who are refused do not all come at once
for one place."""


class Room(StrEnum):
    """Why a job is let in, or not."""

    OPEN = "open"
    FULL = "full"
    """The backlog has reached its limit."""
    SLOW = "slow"
    """It would wait longer than is allowed."""
    LATE = "late"
    """Its deadline would pass before its turn."""


@dataclass(frozen=True)
class Limits:
    """How long the queue may get."""

    max_backlog: int = 1000
    """Queued and running together."""
    max_wait_s: float = 3600.0
    """Expected, by the measured pace."""


@dataclass(frozen=True)
class QueueEstimate:
    """The queue as a new job would find it."""

    room: Room
    backlog: int
    """Queued and running jobs of the pool."""
    ahead: int
    """Of these, the ones whose turn comes before a new job of its priority."""
    mean_interval_ms: float | None
    """Between two completions while the queue was busy; None before any was measured."""

    @classmethod
    def read(cls, room: Room, reply: Sequence[str | int]) -> QueueEstimate:
        """From a script's backlog, jobs ahead and mean interval."""
        backlog, ahead, mean = reply
        return cls(room, int(backlog), int(ahead), float(mean) if mean != "" else None)

    @property
    def expected_wait_s(self) -> float | None:
        """Until a new job would have its result; None: not measured yet."""
        return None if self.mean_interval_ms is None else self.ahead * self.mean_interval_ms / 1000

    def retry_after_s(self, limits: Limits, *, deadline_ms: int | None, unmeasured_s: int) -> int:
        """When a job that was refused would have its room, by the measured pace; `unmeasured_s` where there is none."""
        if self.mean_interval_ms is None:
            return unmeasured_s
        wait_s = self.ahead * self.mean_interval_ms / 1000
        if self.room is Room.LATE and deadline_ms is not None:
            excess_s = wait_s - deadline_ms / 1000
        elif self.room is Room.SLOW:
            excess_s = wait_s - limits.max_wait_s
        else:
            excess_s = max(1, limits.max_backlog / FULL_SHARE) * self.mean_interval_ms / 1000
        return min(LONGEST_RETRY_AFTER_S, max(1, math.ceil(excess_s)))
