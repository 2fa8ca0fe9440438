"""Dead letters: jobs that were given up, with the reason, until an operator replays or discards them."""

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
    """A job that was given up."""

    pool: str
    entry: str
    """Id of its entry in the pool's stream of dead letters."""
    inspection_id: str
    at: datetime
    reason: str
    job: Job | None
    """None if this version cannot read it."""


@dataclass(frozen=True)
class EndedJob:
    """State and job of an ended inspection, as a replay needs them."""

    state: State
    job: Job | None
    """None if this version cannot read it."""


class DeadLetters:
    """The dead letters of all pools. All methods raise RedisError if Redis is away."""

    def __init__(self, client: redis.asyncio.Redis, pools: Sequence[str]) -> None:
        """Args:
        pools: those of the settings; Redis knows of others that had a job.
        """
        self._redis, self._pools = client, pools

    async def all(self) -> tuple[DeadLetter, ...]:
        """Return all dead letters, the oldest first."""
        pools = await pools_known(self._redis, self._pools)
        letters = [letter for pool in pools for letter in await self._letters_of_pool(pool)]
        return tuple(sorted(letters, key=lambda letter: letter.at))

    async def _letters_of_pool(self, pool: str) -> list[DeadLetter]:
        letters: list[DeadLetter] = []
        after = "-"
        while page := await cast("Any", self._redis.xrange(keys.PoolKeys(pool).dead, min=after, count=PAGE)):
            letters += [_read_letter(pool, entry, fields) for entry, fields in page]
            after = f"({page[-1][0]}"
        return letters

    async def find(self, inspection_id: str) -> EndedJob | None:
        """Return an ended inspection, from its record or, once that has expired, from its dead letter.

        None if nothing is known of it, or it has not ended.
        """
        state, job = await cast("Any", self._redis.hmget(keys.inspection(inspection_id), ["state", "job"]))
        if state is not None:
            return EndedJob(State(state), _read_job(job)) if State(state) in FINAL_STATES else None
        for letter in await self.all():
            if letter.inspection_id == inspection_id:
                return EndedJob(State.FAILED, letter.job)
        return None

    async def remove(self, inspection_id: str) -> int:
        """Remove the dead letters of an inspection, which was replayed or discarded; return how many there were."""
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
