"""The keys as an API process knows them: read again every few seconds, so that no request waits for a look-up."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any, cast

import redis.asyncio
import structlog
from redis.exceptions import RedisError

from service.auth.api_keys import ApiKey, parse_keys, same_digest, split_key
from service.queue import keys

REFRESH_S = 2.0
READ_TIMEOUT_S = 1.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class KeyRing:
    """All keys at one moment."""

    by_id: dict[str, ApiKey]
    any_made: bool
    """Somebody has made a key: also one that this version does not understand closes the door."""

    def find(self, presented: str) -> ApiKey | None:
        """The key in use whose text this is. An unknown id costs the same comparison as a wrong secret."""
        parts = split_key(presented)
        if parts is None:
            return None
        key_id, secret = parts
        known = self.by_id.get(key_id)
        if known is None:
            same_digest(secret)
            return None
        return known if known.opens(secret) else None


class SharedKeys:
    """Reads the keys from Redis. While Redis is away, the last ones known count: little else can be had then."""

    def __init__(self, client: redis.asyncio.Redis, *, refresh_s: float = REFRESH_S) -> None:
        self._redis, self._refresh_s = client, refresh_s
        self._reading = asyncio.Lock()
        self._ring: KeyRing | None = None
        self._due_at = 0.0

    async def ring(self) -> KeyRing | None:
        """The keys, at most `refresh_s` old; None if they were never read: nobody can be let in then."""
        if time.monotonic() >= self._due_at:
            async with self._reading:
                if time.monotonic() >= self._due_at:
                    await self._read()
        return self._ring

    async def _read(self) -> None:
        try:
            stored = await asyncio.wait_for(cast("Any", self._redis.hgetall(keys.API_KEYS)), READ_TIMEOUT_S)
            self._ring = KeyRing(parse_keys(stored), any_made=bool(stored))
        except (RedisError, TimeoutError) as error:
            log.warning("keys not read", error=str(error), kind=type(error).__name__)
        self._due_at = time.monotonic() + self._refresh_s
