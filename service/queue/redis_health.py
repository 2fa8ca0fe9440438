"""How Redis itself is: memory, connections, whether it can write, how long its streams are."""

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
    """What Redis does with its data at a restart and when its memory is full."""

    append_only: bool
    """It has an append-only file; without one a restart loses what was accepted since the last snapshot, or all."""
    eviction: str
    """`noeviction`, or by which policy keys go when its memory is full: `allkeys-…`, `volatile-…`."""

    @classmethod
    def read(cls, info: Mapping[str, Any]) -> Self:
        """From INFO. What a server does not tell is taken to be well."""
        policy = str(info.get("maxmemory_policy", "noeviction"))
        return cls(bool(int(info.get("aof_enabled", 1))), policy if int(info.get("maxmemory") or 0) else "noeviction")

    @property
    def evicts(self) -> bool:
        """Something goes when its memory is full, where it should refuse."""
        return self.eviction != "noeviction"

    @property
    def drops_jobs(self) -> bool:
        """Images that wait may be among what goes."""
        return self.eviction.startswith("allkeys")

    @property
    def problems(self) -> str:
        """What is wrong, and what to set; empty: nothing."""
        told = []
        if self.evicts:
            lost = "accepted images" if self.drops_jobs else "results, locks and idempotency keys"
            told.append(f"full memory drops {lost} (maxmemory-policy {self.eviction}): set noeviction")
        if not self.append_only:
            told.append("a restart loses accepted images (no append-only file): set appendonly yes")
        return "; ".join(told)


async def read_durability(client: redis.asyncio.Redis) -> Durability:
    """How it is set now. RedisError if it is away."""
    return Durability.read(await cast("Any", client.info()))


@dataclass(frozen=True)
class RedisState:
    """Redis at one moment."""

    memory_used_bytes: int
    memory_limit_bytes: int
    """`maxmemory`; where there is none, the memory of Redis's machine."""
    clients: int
    append_ok: bool
    """The last write of the append-only file succeeded, or there is no such file."""
    keeping: Durability
    stream_lengths: Mapping[str, int]
    """jobs_high, jobs_normal, events, dead, outbox_dead -> entries, of all pools together."""


async def read_redis_state(client: redis.asyncio.Redis, configured: Sequence[str]) -> RedisState:
    """How it is now. `configured`: the pools of the settings; others are known to Redis. RedisError if it is away."""
    pools = [keys.PoolKeys(pool) for pool in await pools_known(client, configured)]
    streams = {
        **{f"jobs_{priority.value}": [pool.jobs(priority) for pool in pools] for priority in Priority},
        "events": [keys.EVENTS],
        "dead": [pool.dead for pool in pools],
        "outbox_dead": [keys.OUTBOX_DEAD],
    }
    async with client.pipeline(transaction=False) as pipe:
        pipe.info()
        for stream in chain.from_iterable(streams.values()):
            pipe.xlen(stream)
        info, *replies = await pipe.execute()
    lengths = iter(replies)
    return RedisState(
        memory_used_bytes=int(info["used_memory"]),
        memory_limit_bytes=int(info.get("maxmemory") or info.get("total_system_memory") or 0),
        clients=int(info["connected_clients"]),
        append_ok=info.get("aof_last_write_status", "ok") == "ok",
        keeping=Durability.read(info),
        stream_lengths={name: sum(islice(lengths, len(of_pools))) for name, of_pools in streams.items()},
    )
