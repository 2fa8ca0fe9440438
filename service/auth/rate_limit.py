"""How often one caller may call: a token bucket in Redis, so that all API processes count together."""

from __future__ import annotations

import asyncio
import ipaddress
import math
from dataclasses import dataclass
from typing import Any, cast

import redis.asyncio
import structlog
from redis.exceptions import RedisError

from service.queue import keys
from service.queue.scripts import load

ANSWER_TIMEOUT_S = 1.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Rate:
    """So many calls a second in the long run, and so many at once."""

    per_s: float
    burst: int


class RateLimiter:
    """Counts calls. While Redis is away nothing is counted: what needs Redis is refused then anyway."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._script = client.register_script(load("token_bucket"))

    async def wait_s(self, what: str, who: str, rate: Rate) -> int:
        """Counts one call of `who`. 0: it may pass; else whole seconds until the next one may."""
        call = self._script(keys=[keys.rate(what, who)], args=[rate.per_s, rate.burst])
        try:
            wait_ms = await asyncio.wait_for(cast("Any", call), ANSWER_TIMEOUT_S)
        except (RedisError, TimeoutError) as error:
            log.warning("rate not counted", error=str(error), kind=type(error).__name__)
            return 0
        return math.ceil(int(wait_ms) / 1000)


def address_of(client: tuple[str, int] | None) -> str:
    """Who calls, by the network: an IPv4 address, or the /64 of an IPv6 address, which one caller has for itself."""
    host = client[0] if client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a unix socket, or a name that a test gave
        return host[:64] or "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
    return str(address)
