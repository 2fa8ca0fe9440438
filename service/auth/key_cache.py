"""The API keys in the memory of an API process.

They are read again every few seconds, so that a request waits for Redis only when they are due.
"""

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
    any_created: bool
    """Whether a key was ever created. One that this version cannot read counts too: the service needs keys then."""

    def find_key(self, presented: str) -> ApiKey | None:
        """Return the key in use that has this text; None if there is none."""
        parts = split_key(presented)
        if parts is None:
            return None
        key_id, secret = parts
        key = self.by_id.get(key_id)
        if key is None:
            same_digest(secret)  # an unknown id takes as long as a wrong secret, so that time does not tell ids
            return None
        return key if key.accepts(secret) else None


class KeyCache:
    """Reads the keys from Redis, at most every `refresh_s`. While Redis is away, the last keys that were read count."""

    def __init__(self, client: redis.asyncio.Redis, *, refresh_s: float = REFRESH_S) -> None:
        self._redis, self._refresh_s = client, refresh_s
        self._reading = asyncio.Lock()
        self._ring: KeyRing | None = None
        self._due_at = 0.0

    async def current_keys(self) -> KeyRing | None:
        """Return the keys, at most `refresh_s` old; None if they could never be read."""
        if time.monotonic() >= self._due_at:
            async with self._reading:
                if time.monotonic() >= self._due_at:  # another request may have read them while this one waited
                    await self._read()
        return self._ring

    async def _read(self) -> None:
        try:
            stored = await asyncio.wait_for(cast("Any", self._redis.hgetall(keys.API_KEYS)), READ_TIMEOUT_S)
            self._ring = KeyRing(parse_keys(stored), any_created=bool(stored))
        except (RedisError, TimeoutError) as error:
            log.warning("API keys could not be read", error=str(error), kind=type(error).__name__)
        self._due_at = time.monotonic() + self._refresh_s
