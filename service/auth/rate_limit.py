"""The limit of calls from one caller: a token bucket in Redis, so that all API processes count together."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import Any, Literal, cast

import redis.asyncio
import structlog
from redis.exceptions import RedisError

from service.queue import keys
from service.queue.scripts import load

ANSWER_TIMEOUT_S = 1.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Rate:
    """A limit: calls a second in the long run, and calls at once."""

    per_s: float
    burst: int


class RateLimiter:
    """Counts calls in Redis. While Redis is away nothing is counted: calls that need Redis are refused then anyway."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._script = client.register_script(load("token_bucket"))

    async def count_call(self, kind: Literal["calls", "failures"], caller: str, rate: Rate) -> int:
        """Count one call and return the seconds to wait: 0 if it may pass.

        Args:
            kind: each kind of calls has a bucket of its own.
            caller: a key's id, or an address of `authenticator.client_address`.
            rate: the limit.
        """
        call = self._script(keys=[keys.rate(kind, caller)], args=[rate.per_s, rate.burst])
        try:
            wait_ms = await asyncio.wait_for(cast("Any", call), ANSWER_TIMEOUT_S)
        except (RedisError, TimeoutError) as error:
            log.warning("call not counted by the rate limit", error=str(error), kind=type(error).__name__)
            return 0
        return math.ceil(int(wait_ms) / 1000)
