"""How often one caller may call: a bucket of tokens per API key or address, in Redis, for all API processes."""

from __future__ import annotations

import asyncio
import ipaddress
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


Counted = Literal["calls", "failures", "sign_ins"]
CALLS_IN_WORDS: dict[Counted, str] = {
    "calls": "calls",
    "failures": "calls without a valid API key",
    "sign_ins": "sign-ins",
}


class RateLimiter:
    """Counts calls in Redis. While Redis is away nothing is counted: calls that need Redis are refused then anyway."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._script = client.register_script(load("token_bucket"))

    async def count_call(self, kind: Counted, caller: str, rate: Rate) -> int:
        """Count one call and return the seconds to wait: 0 if it may pass.

        Args:
            kind: each kind of calls has a bucket of its own.
            caller: a key's id, or an address of `client_address`.
            rate: the limit.
        """
        call = self._script(keys=[keys.rate(kind, caller)], args=[rate.per_s, rate.burst])
        try:
            wait_ms = await asyncio.wait_for(cast("Any", call), ANSWER_TIMEOUT_S)
        except (RedisError, TimeoutError) as error:
            log.warning("call not counted by the rate limit", error=str(error), kind=type(error).__name__)
            return 0
        return math.ceil(int(wait_ms) / 1000)


def client_address(client: tuple[str, int] | None) -> str:
    """Return the address that identifies a client: IPv4, or the /64 network of IPv6, which one client has for itself.

    Args:
        client: host and port of the connection; None for a unix socket.
    """
    host = client[0] if client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a unix socket, or the name that an ASGI test client gives
        return host[:64] or "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
    return str(address)
