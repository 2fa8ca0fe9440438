"""Taking over the jobs of workers that died."""

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
    """What a takeover found: ids whose workers died."""

    suspects: tuple[str, ...] = ()
    """To be retried, alone."""
    dead: tuple[str, ...] = ()
    """Given up: failed, with a dead letter."""


class Takeover:
    """Finds the jobs whose lease has ended, as any worker may at any time."""

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
        self._keys, self._completer = pool_keys, completer
        self._reaper = f"{owner}/reclaim"
        self._lease_ms, self._max_deaths = lease_ms, max_deaths
        self._reclaim = client.register_script(load("reclaim"))

    def reclaim(self) -> Reclaimed:
        """Each such job becomes a suspect; after `max_deaths` deaths alone, it is given up."""
        suspects, *exhausted = cast(
            "list[Any]",
            self._reclaim(
                keys=[self._keys.leases, self._keys.suspects, self._keys.wake, self._keys.workers],
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
        claimed = read_row(row, self._reaper)
        if isinstance(claimed, UnreadableJob):
            self._completer.bury(claimed)
            return claimed.id
        died = f"{claimed.deaths} workers died while they held this image alone"
        detail = f"{died}; it was given up and left as a dead letter"
        self._completer.fail(claimed, Failure(code="worker_died", detail=detail), dead_reason=detail)
        return claimed.id
