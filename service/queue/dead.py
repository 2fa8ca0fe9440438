"""Dead letters: jobs that were given up, with the reason, until somebody replays or discards them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import redis.asyncio
from pydantic import ValidationError

from service.contract import FINAL_STATES, Job, State
from service.queue import keys

PAGE = 500


@dataclass(frozen=True)
class DeadLetter:
    """One job that was given up."""

    entry: str
    """In the stream of dead letters."""
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
    """The dead letters of one pool. All calls: RedisError if Redis is away."""

    def __init__(self, client: redis.asyncio.Redis, pool: str) -> None:
        self._redis, self._stream = client, keys.PoolKeys(pool).dead

    async def list(self) -> tuple[DeadLetter, ...]:
        """All of them, the oldest first."""
        found: list[DeadLetter] = []
        after = "-"
        while page := await cast("Any", self._redis.xrange(self._stream, min=after, count=PAGE)):
            found += [_read_letter(entry, fields) for entry, fields in page]
            after = f"({page[-1][0]}"
        return tuple(found)

    async def find(self, inspection_id: str) -> Ended | None:
        """What is known of an inspection that has ended, from its record or, once that is gone, from its letter; None:
        nothing is, or it has not ended."""
        state, job = await cast("Any", self._redis.hmget(keys.inspection(inspection_id), ["state", "job"]))
        if state is not None:
            return Ended(State(state), _read_job(job)) if State(state) in FINAL_STATES else None
        for letter in await self.list():
            if letter.inspection_id == inspection_id:
                return Ended(State.FAILED, letter.job)
        return None

    async def remove(self, inspection_id: str) -> int:
        """Removes its letters, so many: it was replayed, or somebody has seen to it."""
        entries = [letter.entry for letter in await self.list() if letter.inspection_id == inspection_id]
        return await cast("Any", self._redis.xdel(self._stream, *entries)) if entries else 0


def _read_letter(entry: str, fields: dict[str, str]) -> DeadLetter:
    at = datetime.fromtimestamp(int(entry.split("-", maxsplit=1)[0]) / 1000, UTC)
    return DeadLetter(entry, fields["id"], at, fields["reason"], _read_job(fields["job"]))


def _read_job(text: str | None) -> Job | None:
    try:
        return Job.model_validate_json(text or "")
    except ValidationError:
        return None
