"""Does this Redis keep what it is given? The queue's promise is no better than its Redis is set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, cast

import redis.asyncio


@dataclass(frozen=True)
class Keeping:
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
    def flaws(self) -> str:
        """What is wrong, and what to set; empty: nothing."""
        told = []
        if self.evicts:
            lost = "accepted images" if self.drops_jobs else "results, locks and idempotency keys"
            told.append(f"full memory drops {lost} (maxmemory-policy {self.eviction}): set noeviction")
        if not self.append_only:
            told.append("a restart loses accepted images (no append-only file): set appendonly yes")
        return "; ".join(told)


async def read_keeping(client: redis.asyncio.Redis) -> Keeping:
    """How it is set now. RedisError if it is away."""
    return Keeping.read(await cast("Any", client.info()))
