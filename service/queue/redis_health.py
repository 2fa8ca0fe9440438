"""The state of Redis itself: memory, connections, durability, lengths of its streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Self, cast

import redis.asyncio

from service.contract import Priority
from service.queue import keys
from service.queue.stats import pools_known


@dataclass(frozen=True)
class Durability:
    """Settings of Redis that decide whether data survives a restart and full memory."""

    append_only: bool
    """Whether it has an append-only file; without one a restart loses what came after the last snapshot, or all."""
    eviction: str
    """`noeviction`, or the policy by which keys go when its memory is full: `allkeys-…`, `volatile-…`."""

    @classmethod
    def read(cls, info: Mapping[str, Any]) -> Self:
        """Return the settings that INFO shows. A value that the server does not show counts as safe."""
        policy = str(info.get("maxmemory_policy", "noeviction"))
        return cls(bool(int(info.get("aof_enabled", 1))), policy if int(info.get("maxmemory") or 0) else "noeviction")

    @property
    def evicts(self) -> bool:
        """Whether Redis drops keys when its memory is full, instead of refusing writes."""
        return self.eviction != "noeviction"

    @property
    def drops_jobs(self) -> bool:
        """Whether waiting images may be among the dropped keys."""
        return self.eviction.startswith("allkeys")

    @property
    def problems(self) -> str:
        """Each problem with what to set instead; empty if there is none."""
        problems = []
        if self.evicts:
            lost = "accepted images" if self.drops_jobs else "results, locks and idempotency keys"
            problems.append(f"full memory drops {lost} (maxmemory-policy {self.eviction}): set noeviction")
        if not self.append_only:
            problems.append("a restart loses accepted images (no append-only file): set appendonly yes")
        return "; ".join(problems)


async def read_durability(client: redis.asyncio.Redis) -> Durability:
    """Return the settings of this Redis.

    Raises:
        RedisError: if Redis is away.
    """
    return Durability.read(await cast("Any", client.info()))


@dataclass(frozen=True)
class RedisState:
    """State of Redis at one moment."""

    memory_used_bytes: int
    memory_limit_bytes: int
    """`maxmemory`; where there is none, the memory of Redis's machine."""
    clients: int
    append_ok: bool
    """Whether the last write of the append-only file succeeded, or there is no such file."""
    keeping: Durability
    stream_lengths: Mapping[str, int]
    """jobs_high, jobs_normal, events, dead, outbox_dead -> entries, of all pools together."""
    backup_at_s: int | None = None
    """When the last whole backup ended, by Redis's clock; None: none was made."""


async def read_redis_state(client: redis.asyncio.Redis, configured: Sequence[str]) -> RedisState:
    """Return the state now.

    Args:
        configured: the pools of the settings; Redis knows of others that had a job.

    Raises:
        RedisError: if Redis is away.
    """
    pools = [keys.PoolKeys(pool) for pool in await pools_known(client, configured)]
    streams = {
        **{f"jobs_{priority.value}": [pool.jobs(priority) for pool in pools] for priority in Priority},
        "events": [keys.EVENTS],
        "dead": [pool.dead for pool in pools],
        "outbox_dead": [keys.OUTBOX_DEAD],
    }
    async with client.pipeline(transaction=False) as pipe:
        pipe.info()
        pipe.get(keys.BACKUP)
        for stream in chain.from_iterable(streams.values()):
            pipe.xlen(stream)
        info, backup_at, *replies = await pipe.execute()
    lengths = iter(replies)
    return RedisState(
        memory_used_bytes=int(info["used_memory"]),
        memory_limit_bytes=int(info.get("maxmemory") or info.get("total_system_memory") or 0),
        clients=int(info["connected_clients"]),
        append_ok=info.get("aof_last_write_status", "ok") == "ok",
        keeping=Durability.read(info),
        stream_lengths={name: sum(islice(lengths, len(of_pools))) for name, of_pools in streams.items()},
        backup_at_s=None if backup_at is None else int(backup_at),
    )
