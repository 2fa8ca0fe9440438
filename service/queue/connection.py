"""Connections to Redis, with every timeout and retry said aloud.

A retry may repeat a command whose reply was lost. All that this project sends may be repeated: reads, and scripts that
find out that they ran before.
"""

from __future__ import annotations

from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

SOCKET_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 2.0
RETRIES = 3
LONGEST_BLOCK_MS = 2000
"""A blocking read ends well before the socket's timeout."""

_TRANSIENT: tuple[type[RedisError], ...] = (RedisConnectionError, RedisTimeoutError)


def connect(url: str) -> redis.Redis:
    """A client for threads: safe to share, one connection per call under way. Connects at the first command."""
    return redis.Redis.from_url(url, retry=Retry(_backoff(), RETRIES, supported_errors=_TRANSIENT), **_options(url))


def connect_async(url: str) -> redis.asyncio.Redis:
    """A client for one event loop. Connects at the first command."""
    client: redis.asyncio.Redis = redis.asyncio.Redis.from_url(
        url, retry=AsyncRetry(_backoff(), RETRIES, supported_errors=_TRANSIENT), **_options(url)
    )
    return client


def _backoff() -> ExponentialWithJitterBackoff:
    return ExponentialWithJitterBackoff(base=0.05, cap=0.5)


def _options(url: str) -> dict[str, Any]:
    network = {"socket_connect_timeout": CONNECT_TIMEOUT_S, "socket_keepalive": True}
    return {
        **({} if url.startswith("unix:") else network),
        "decode_responses": True,
        "protocol": 2,
        "socket_timeout": SOCKET_TIMEOUT_S,
        "health_check_interval": 15,
        "client_name": "glad",
    }
