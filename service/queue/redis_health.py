"""The state of Redis itself: memory, connections, durability, replicas, lengths of its streams."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, Self, cast

import redis.asyncio

from service.contract import Priority
from service.queue import keys
from service.queue.stats import pools_known

FORGOTTEN_REASONS = ("number", "memory")
"""Why results are let go before their time: there are too many, or Redis's memory is short."""


@dataclass(frozen=True)
class Durability:
    """What decides whether data survives a restart, full memory, and a failover to a replica."""

    append_only: bool
    """Whether it has an append-only file; without one a restart loses what came after the last snapshot, or all."""
    eviction: str
    """`noeviction`, or the policy by which keys go when its memory is full: `allkeys-…`, `volatile-…`."""
    is_replica: bool = False
    """Whether it follows another Redis: it refuses writes."""
    replicas: int = 0
    """Replicas that have caught up with it; a failover puts one of them in its place."""
    needs_replicas: bool = False
    """Whether it refuses writes while its replicas are silent: `min-replicas-to-write` is set."""
    confirmed_by: int = 0
    """Replicas that confirm an image before it is accepted: GLAD_REDIS_WAIT_REPLICAS."""

    @classmethod
    def read(cls, info: Mapping[str, Any], confirmed_by: int = 0) -> Self:
        """Return what INFO shows. A value that the server does not show counts as safe."""
        policy = str(info.get("maxmemory_policy", "noeviction"))
        followers = [value for name, value in info.items() if re.fullmatch(r"slave\d+", name)]
        return cls(
            append_only=bool(int(info.get("aof_enabled", 1))),
            eviction=policy if int(info.get("maxmemory") or 0) else "noeviction",
            is_replica=info.get("role", "master") != "master",
            # A backup that reads a snapshot as a replica would never comes online.
            replicas=sum(isinstance(one, Mapping) and one.get("state") == "online" for one in followers),
            needs_replicas="min_slaves_good_slaves" in info,  # shown only where the number is set
            confirmed_by=confirmed_by,
        )

    @property
    def evicts(self) -> bool:
        """Whether Redis drops keys when its memory is full, instead of refusing writes."""
        return self.eviction != "noeviction"

    @property
    def drops_jobs(self) -> bool:
        """Whether waiting images may be among the dropped keys."""
        return self.eviction.startswith("allkeys")

    @property
    def failover_loses(self) -> bool:
        """Whether a replica may take this Redis's place without images that were accepted."""
        return self.replicas > 0 and not self.needs_replicas and not self.confirmed_by

    @property
    def refusal(self) -> str:
        """Why no image can be accepted, or kept; empty if it can."""
        if self.is_replica:
            return (
                "this Redis is a replica, which refuses writes: name the address that follows the master in "
                "GLAD_REDIS_URL"
            )
        if self.replicas < self.confirmed_by:
            return (
                f"{self.replicas} of {self.confirmed_by} replicas (GLAD_REDIS_WAIT_REPLICAS) follow this Redis, so "
                "that no image is accepted: start the others, or set a smaller number"
            )
        return self.problems if self.drops_jobs else ""

    @property
    def problems(self) -> str:
        """Each problem with what to set instead; empty if there is none."""
        problems = []
        if self.evicts:
            lost = "accepted images" if self.drops_jobs else "results, locks and idempotency keys"
            problems.append(f"full memory drops {lost} (maxmemory-policy {self.eviction}): set noeviction")
        if not self.append_only:
            problems.append("a restart loses accepted images (no append-only file): set appendonly yes")
        if self.failover_loses:
            problems.append(
                f"a failover to one of its {self.replicas} replicas loses images that were accepted last: set "
                "GLAD_REDIS_WAIT_REPLICAS=1, or at least min-replicas-to-write 1, which bounds how many"
            )
        return "; ".join(problems)


async def read_durability(client: redis.asyncio.Redis, confirmed_by: int = 0) -> Durability:
    """Return what decides whether this Redis keeps its data.

    Args:
        client: of this Redis.
        confirmed_by: replicas that confirm an image before it is accepted.

    Raises:
        RedisError: if Redis is away.
    """
    return Durability.read(await cast("Any", client.info()), confirmed_by)


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
    forgotten: Mapping[str, int] = field(default_factory=dict)
    """Results that went before their time: `number`, `memory` -> how many, ever."""
    backup_at_s: int | None = None
    """When the last whole backup ended, by Redis's clock; None: none was made."""


async def read_redis_state(client: redis.asyncio.Redis, configured: Sequence[str], confirmed_by: int = 0) -> RedisState:
    """Return the state now.

    Args:
        client: of this Redis.
        confirmed_by: replicas that confirm an image before it is accepted.
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
        pipe.hmget(keys.FORGOTTEN, FORGOTTEN_REASONS)
        for stream in chain.from_iterable(streams.values()):
            pipe.xlen(stream)
        info, backup_at, forgotten, *replies = await pipe.execute()
    lengths = iter(replies)
    return RedisState(
        memory_used_bytes=int(info["used_memory"]),
        memory_limit_bytes=int(info.get("maxmemory") or info.get("total_system_memory") or 0),
        clients=int(info["connected_clients"]),
        append_ok=info.get("aof_last_write_status", "ok") == "ok",
        keeping=Durability.read(info, confirmed_by),
        stream_lengths={name: sum(islice(lengths, len(of_pools))) for name, of_pools in streams.items()},
        forgotten={reason: int(count or 0) for reason, count in zip(FORGOTTEN_REASONS, forgotten, strict=True)},
        backup_at_s=None if backup_at is None else int(backup_at),
    )
