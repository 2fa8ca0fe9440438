"""Taking over the jobs of workers that died or hang.

Of the jobs that a dead worker held, one may have killed it (a poison image), and Redis cannot tell which. So each
becomes a suspect and is tried again alone, on a worker that holds nothing else: if that worker dies too, this job is to
blame. Only deaths while alone count; the batch mates of a poison image never pay for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import redis

from service.contract import Failure
from service.queue import keys
from service.queue.claims import UnreadableJob, read_row
from service.queue.results import Completer
from service.queue.scripts import load

DEFAULT_MAX_DEATHS = 3
MOST_PER_RECLAIM = 100


@dataclass(frozen=True)
class Reclaimed:
    """Ids of the jobs that a takeover found, whose workers died."""

    suspects: tuple[str, ...] = ()
    """Tried again, each alone."""
    dead: tuple[str, ...] = ()
    """Given up: `failed`, with a dead letter."""


class Takeover:
    """Finds jobs whose lease has ended. Every worker does so, at any time: no process is special."""

    def __init__(
        self,
        client: redis.Redis,
        pool_keys: keys.PoolKeys,
        completer: Completer,
        owner: str,
        *,
        lease_ms: int,
        max_deaths: int,
    ) -> None:
        self._pool_keys, self._completer = pool_keys, completer
        self._reaper = f"{owner}/reclaim"
        self._lease_ms, self._max_deaths = lease_ms, max_deaths
        self._reclaim_script = client.register_script(load("reclaim"))

    def reclaim(self) -> Reclaimed:
        """Make each of these jobs a suspect; give it up after `max_deaths` deaths while alone.

        Raises:
            RedisError: if Redis is away. What was taken over by then stays so; call again.
        """
        suspects, *exhausted = cast(
            "list[Any]",
            self._reclaim_script(
                keys=[self._pool_keys.leases, self._pool_keys.suspects, self._pool_keys.wake, self._pool_keys.workers],
                args=[
                    keys.INSPECTION_PREFIX,
                    keys.HELD_PREFIX,
                    self._reaper,
                    self._lease_ms,
                    self._max_deaths,
                    MOST_PER_RECLAIM,
                ],
            ),
        )
        return Reclaimed(tuple(suspects), tuple(self._give_up(row) for row in exhausted))

    def _give_up(self, row: list[str | None]) -> str:
        # reclaim.lua made the reaper this job's owner with a new attempt: the failure below is fenced like any other.
        claimed = read_row(row, self._reaper)
        if isinstance(claimed, UnreadableJob):
            self._completer.dead_letter(claimed)
            return claimed.id
        detail = (
            f"{claimed.deaths} workers died while they held this image alone; it was given up and left as a dead letter"
        )
        self._completer.fail(claimed, Failure(code="worker_died", detail=detail), dead_reason=detail)
        return claimed.id
