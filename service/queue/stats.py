"""The queue at one moment, as its numbers show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import redis.asyncio

from service.contract import Priority
from service.queue import keys


@dataclass(frozen=True)
class QueueStats:
    """The queue at one moment."""

    backlog: int
    """Queued and running: never zero while a job runs. Autoscalers use this."""
    running: int
    suspects: int
    dead: int
    oldest_age_s: float
    """Age of the oldest job that has not ended; 0 if there is none."""
    workers: int
    """Worker processes that claimed or renewed lately."""


async def read_stats(client: redis.asyncio.Redis, pool_keys: keys.PoolKeys, worker_seen_s: float) -> QueueStats:
    """One pool's queue now. A worker counts as alive if it was heard of in the last `worker_seen_s`."""
    streams = [pool_keys.jobs(priority) for priority in Priority]
    seconds, micros = await cast("Any", client.time())
    now_ms = seconds * 1000 + micros // 1000
    async with client.pipeline(transaction=False) as pipe:
        for stream in streams:
            pipe.xlen(stream)
            pipe.xrange(stream, count=1)
        pipe.zcard(pool_keys.leases)
        pipe.zcard(pool_keys.suspects)
        pipe.xlen(pool_keys.dead)
        pipe.zcount(pool_keys.workers, now_ms - worker_seen_s * 1000, "+inf")
        reply = await pipe.execute()
    lengths, firsts = reply[0 : 2 * len(streams) : 2], reply[1 : 2 * len(streams) : 2]
    running, suspects, dead, workers = reply[2 * len(streams) :]
    oldest = [int(first[0][0].split("-")[0]) for first in firsts if first]
    return QueueStats(
        backlog=sum(lengths),
        running=running,
        suspects=suspects,
        dead=dead,
        oldest_age_s=max(0.0, (now_ms - min(oldest)) / 1000) if oldest else 0.0,
        workers=workers,
    )
