"""Dead letters: jobs that were given up, with the reason, until somebody replays or discards them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import redis.asyncio
from pydantic import ValidationError

from service.contract import FINAL_STATES, Job, State
from service.queue import keys
from service.queue.stats import pools_known

PAGE = 500


@dataclass(frozen=True)
class DeadLetter:
    """One job that was given up."""

    pool: str
    entry: str
    """In the pool's stream of dead letters."""
    inspection_id: str
    at: datetime
    reason: str
    job: Job | None
    """None: this version cannot read it."""


@dataclass(frozen=True)
class Ended:
    """An inspection that has ended, as far as a replay needs it."""

    state: State
    job: Job | None
    """None: this version cannot read it."""


class DeadLetters:
    """The dead letters of all pools. All calls: RedisError if Redis is away."""

    def __init__(self, client: redis.asyncio.Redis, pools: Sequence[str]) -> None:
        """`pools`: those of the settings; Redis knows of others that had a job."""
        self._redis, self._pools = client, pools

    async def all(self) -> tuple[DeadLetter, ...]:
        """All of them, the oldest first."""
        pools = await pools_known(self._redis, self._pools)
        return tuple(sorted([letter for pool in pools for letter in await self._of(pool)], key=lambda one: one.at))

    async def _of(self, pool: str) -> list[DeadLetter]:
        found: list[DeadLetter] = []
        after = "-"
        while page := await cast("Any", self._redis.xrange(keys.PoolKeys(pool).dead, min=after, count=PAGE)):
            found += [_read_letter(pool, entry, fields) for entry, fields in page]
            after = f"({page[-1][0]}"
        return found

    async def find(self, inspection_id: str) -> Ended | None:
        """What is known of an inspection that has ended, from its record or, once that is gone, from its letter; None:
        nothing is, or it has not ended."""
        state, job = await cast("Any", self._redis.hmget(keys.inspection(inspection_id), ["state", "job"]))
        if state is not None:
            return Ended(State(state), _read_job(job)) if State(state) in FINAL_STATES else None
        for letter in await self.all():
            if letter.inspection_id == inspection_id:
                return Ended(State.FAILED, letter.job)
        return None

    async def remove(self, inspection_id: str) -> int:
        """Removes its letters, so many: it was replayed, or somebody has seen to it."""
        letters = [letter for letter in await self.all() if letter.inspection_id == inspection_id]
        return sum([await self._remove(letter) for letter in letters])

    async def _remove(self, letter: DeadLetter) -> int:
        return int(await cast("Any", self._redis.xdel(keys.PoolKeys(letter.pool).dead, letter.entry)))


def _read_letter(pool: str, entry: str, fields: dict[str, str]) -> DeadLetter:
    at = datetime.fromtimestamp(int(entry.split("-", maxsplit=1)[0]) / 1000, UTC)
    return DeadLetter(pool, entry, fields["id"], at, fields["reason"], _read_job(fields["job"]))


def _read_job(text: str | None) -> Job | None:
    try:
        return Job.model_validate_json(text or "")
    except ValidationError:
        return None
