"""How Redis itself is: memory, connections, whether it can write, how long its streams are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import redis.asyncio

from service.contract import Priority
from service.queue import keys


@dataclass(frozen=True)
class RedisState:
    """Redis at one moment."""

    memory_used_bytes: int
    memory_limit_bytes: int
    """`maxmemory`; where there is none, the memory of Redis's machine."""
    clients: int
    append_ok: bool
    """The last write of the append-only file succeeded, or there is no such file."""
    stream_lengths: Mapping[str, int]
    """jobs_high, jobs_normal, events, dead, outbox_dead -> entries."""


async def read_redis_state(client: redis.asyncio.Redis, pool: str) -> RedisState:
    """How it is now. RedisError if Redis is away."""
    streams = {
        **{f"jobs_{priority.value}": keys.PoolKeys(pool).jobs(priority) for priority in Priority},
        "events": keys.EVENTS,
        "dead": keys.PoolKeys(pool).dead,
        "outbox_dead": keys.OUTBOX_DEAD,
    }
    async with client.pipeline(transaction=False) as pipe:
        pipe.info()
        for stream in streams.values():
            pipe.xlen(stream)
        info, *lengths = await pipe.execute()
    return RedisState(
        memory_used_bytes=int(info["used_memory"]),
        memory_limit_bytes=int(info.get("maxmemory") or info.get("total_system_memory") or 0),
        clients=int(info["connected_clients"]),
        append_ok=info.get("aof_last_write_status", "ok") == "ok",
        stream_lengths=dict(zip(streams, lengths, strict=True)),
    )
