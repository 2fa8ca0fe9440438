"""Submitting a job: the API's side of the queue. One script, atomic, repeatable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

import redis.asyncio
import structlog

from service.contract import DEFAULT_POOL, Job, Priority
from service.queue import keys, schema
from service.queue.admission import Limits, QueueEstimate, Room
from service.queue.claims import DEFAULT_LEASE_MS
from service.queue.redis_health import read_durability
from service.queue.scripts import load
from service.queue.stats import QueueStats, read_stats

log = structlog.get_logger(__name__)


class Outcome(StrEnum):
    """What became of a submission."""

    ACCEPTED = "accepted"
    SAME = "same"
    """This Idempotency-Key was used before, with the same request: the first inspection stands."""
    CONFLICT = "conflict"
    """This Idempotency-Key was used before, with another request."""
    FULL = "full"
    """Refused: the backlog has reached its limit."""
    SLOW = "slow"
    """Refused: it would wait longer than is allowed."""
    LATE = "late"
    """Refused: its deadline would pass before its turn."""


@dataclass(frozen=True)
class Submission:
    """The answer to a submission."""

    outcome: Outcome
    inspection_id: str
    """The inspection that stands: the job's own, or the first one with its key."""
    outlook: QueueEstimate
    """The queue as it was found."""


class JobSubmitter:
    """The API's side of the queue."""

    def __init__(self, client: redis.asyncio.Redis, *, max_backlog: int = 1000, max_wait_s: float = 3600) -> None:
        """`max_backlog` and `max_wait_s` (expected, by the measured pace): beyond either in its pool, a job is
        refused."""
        self._redis = client
        self.limits = Limits(max_backlog, max_wait_s)
        self._submit, self._ask = (client.register_script(load("admission", name)) for name in ("submit", "ask"))
        self._schema_known = False

    async def submit(
        self,
        job: Job,
        *,
        fingerprint: str = "",
        idempotency_key: str | None = None,
        client_name: str = "",
        scope: str | None = None,
    ) -> Submission:
        """Queues the job in its pool, once however often it is called. `fingerprint` tells requests with one key apart;
        `scope` is where the key is one, by default the product.

        RedisError: Redis is away, or refused. After a lost connection or a timeout the job may have been accepted.
        """
        await self._know_schema()
        pool = keys.PoolKeys(job.pool)
        reply = await cast(
            "Any",
            self._submit(
                keys=[
                    keys.inspection(job.id),
                    pool.jobs(job.priority),
                    keys.idempotency(client_name, scope or job.product, idempotency_key or ""),
                    *_admission_keys(pool),
                    keys.POOLS,
                ],
                args=[
                    job.id,
                    job.to_json(),
                    fingerprint,
                    int(idempotency_key is not None),
                    *self._admission_args(job.priority, job.deadline_ms),
                    "" if job.serial is None else keys.unfinished(job.serial),
                    job.pool,
                ],
            ),
        )
        outcome, inspection_id, *found = reply
        room = Room(outcome) if outcome in set(Room) else Room.OPEN
        return Submission(Outcome(outcome), inspection_id, QueueEstimate.read(room, found))

    async def ask(
        self, priority: Priority = Priority.NORMAL, deadline_ms: int | None = None, *, pool: str = DEFAULT_POOL
    ) -> QueueEstimate:
        """What a submission to this pool would find now. RedisError if Redis is away."""
        await self._know_schema()
        args = self._admission_args(priority, deadline_ms)
        room, *found = await cast("Any", self._ask(keys=_admission_keys(keys.PoolKeys(pool)), args=args))
        return QueueEstimate.read(Room(room), found)

    async def _know_schema(self) -> None:
        if not self._schema_known:
            await schema.check_async(self._redis)
            if problems := (await read_durability(self._redis)).problems:
                log.warning("Redis may lose what it was given", problems=problems)
            self._schema_known = True

    def _admission_args(self, priority: Priority, deadline_ms: int | None) -> list[str | int | float]:
        max_wait_ms, deadline = self.limits.max_wait_s * 1000, "" if deadline_ms is None else deadline_ms
        return [priority.value, self.limits.max_backlog, max_wait_ms, deadline]

    async def ping(self) -> None:
        """RedisError if Redis is away."""
        await cast("Any", self._redis.ping())

    async def stats(
        self, pools: Sequence[str] = (DEFAULT_POOL,), *, worker_seen_s: float = DEFAULT_LEASE_MS / 1000
    ) -> dict[str, QueueStats]:
        """The queues of these pools now, and of any other that has a job.

        A worker counts as alive if it was heard of in the last `worker_seen_s`."""
        return await read_stats(self._redis, pools, worker_seen_s)


def _admission_keys(pool: keys.PoolKeys) -> list[str]:
    return [pool.jobs(Priority.HIGH), pool.jobs(Priority.NORMAL), pool.leases, pool.pace]
