"""The queues of the pools in numbers, at one moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis.asyncio
from redis.asyncio.client import Pipeline

from service.contract import Priority
from service.queue import keys


@dataclass(frozen=True)
class QueueStats:
    """A pool's queue at one moment."""

    backlog: int
    """Queued and running jobs: never zero while a job runs. Autoscalers use this."""
    running: int
    suspects: int
    dead: int
    oldest_age_s: float
    """Age of the oldest job that has not ended; 0 if there is none."""
    workers: int
    """Worker processes that claimed or renewed lately."""


async def pools_known(client: redis.asyncio.Redis, configured: Sequence[str]) -> tuple[str, ...]:
    """Return the pools of the settings, then all others that ever had a job.

    Raises:
        RedisError: if Redis is away.
    """
    return tuple(dict.fromkeys((*configured, *sorted(await cast("Any", client.smembers(keys.POOLS))))))


async def read_stats(
    client: redis.asyncio.Redis, configured: Sequence[str], worker_seen_s: float
) -> dict[str, QueueStats]:
    """Return each pool's queue now; a pool that the settings no longer name is included while it has a job.

    Args:
        worker_seen_s: a worker counts if it claimed or renewed within this time.

    Raises:
        RedisError: if Redis is away.
    """
    pools = await pools_known(client, configured)
    seconds, micros = await cast("Any", client.time())
    now_ms = seconds * 1000 + micros // 1000
    async with client.pipeline(transaction=False) as pipe:
        for pool in pools:
            _add_reads(pipe, keys.PoolKeys(pool), now_ms - worker_seen_s * 1000)
        replies = await pipe.execute()
    each = len(replies) // len(pools)
    stats = {pool: _read_pool(replies[at * each : (at + 1) * each], now_ms) for at, pool in enumerate(pools)}
    return {pool: queue for pool, queue in stats.items() if pool in configured or queue.backlog}


def _add_reads(pipe: Pipeline, pool: keys.PoolKeys, alive_from_ms: float) -> None:
    for priority in Priority:
        pipe.xlen(pool.jobs(priority))
        pipe.xrange(pool.jobs(priority), count=1)
    pipe.zcard(pool.leases)
    pipe.zcard(pool.suspects)
    pipe.xlen(pool.dead)
    pipe.zcount(pool.workers, alive_from_ms, "+inf")


def _read_pool(reply: list[Any], now_ms: int) -> QueueStats:
    *of_streams, running, suspects, dead, workers = reply
    oldest = [int(first[0][0].split("-")[0]) for first in of_streams[1::2] if first]
    return QueueStats(
        backlog=sum(of_streams[::2]),
        running=running,
        suspects=suspects,
        dead=dead,
        oldest_age_s=max(0.0, (now_ms - min(oldest)) / 1000) if oldest else 0.0,
        workers=workers,
    )
