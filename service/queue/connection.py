"""Connections to Redis with explicit timeouts and retries, and the check of which schema version its data has.

A retry may repeat a command whose reply was lost. All that this project sends may be repeated: reads, and scripts that
find out that they ran before. How long all attempts of a command may take together, `service.queue.patience` says.

The schema version is stored in one key that no version renames. Old and new services may share a Redis during an
upgrade only if their versions are equal. The first new service writes the higher version; old ones then do not start.
"""

from __future__ import annotations

from typing import Any, cast

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.queue.keys import SCHEMA, SCHEMA_VERSION
from service.queue.patience import ANSWER_LIMIT_S, BoundedRetry, PatientRedis

SOCKET_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 2.0
RETRIES = 3
MOST_CONNECTIONS = 100
"""Of one asynchronous client."""
LONGEST_BLOCK_MS = 2000
"""For blocking reads: well below the socket's timeout, else a quiet stream would look like a lost connection."""

_TRANSIENT: tuple[type[RedisError], ...] = (RedisConnectionError, RedisTimeoutError)


class SchemaTooNew(RedisError):
    """A newer version of the service used this Redis. It counts as unavailable: nothing is read or written."""


def connect(url: str, answer_s: float = ANSWER_LIMIT_S) -> redis.Redis:
    """Return a client for threads: safe to share, one connection per call under way. Connects at the first command.

    Args:
        url: of the Redis.
        answer_s: how long a command is tried again, in seconds; its last attempt may take `SOCKET_TIMEOUT_S` more.
    """
    retry = BoundedRetry(_backoff(), RETRIES, supported_errors=_TRANSIENT)
    retry.answer_s = answer_s
    return redis.Redis.from_url(url, retry=retry, **_options(url, answer_s))


def connect_async(url: str, answer_s: float = ANSWER_LIMIT_S) -> redis.asyncio.Redis:
    """Return a client for one event loop. Connects at the first command.

    A call that finds all connections in use waits for one; to redis-py's usual pool it would be a Redis that is away.

    Args:
        url: of the Redis.
        answer_s: longest time for a command, in seconds.
    """
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        url,
        max_connections=MOST_CONNECTIONS,
        timeout=SOCKET_TIMEOUT_S,
        retry=AsyncRetry(_backoff(), RETRIES, supported_errors=_TRANSIENT),
        **_options(url, answer_s),
    )
    client = cast("PatientRedis", PatientRedis.from_pool(pool))
    client.answer_s = answer_s
    return client


def check_schema(client: redis.Redis) -> None:
    """Check that no newer service wrote this Redis's data; note this service's version in an empty Redis.

    Raises:
        SchemaTooNew: if the stored version is newer than this service knows.
        RedisError: if Redis is away.
    """
    client.set(SCHEMA, SCHEMA_VERSION, nx=True)
    _compare_schema(client.get(SCHEMA))


async def check_schema_async(client: redis.asyncio.Redis) -> None:
    """Do the same as `check_schema` with an asynchronous client."""
    await cast("Any", client.set(SCHEMA, SCHEMA_VERSION, nx=True))
    _compare_schema(await cast("Any", client.get(SCHEMA)))


def refuse_newer_schema(url: str) -> None:
    """Check the schema when a process starts. A Redis that is away passes: it is checked again before its first use.

    Raises:
        SchemaTooNew: if the stored version is newer than this service knows.
    """
    with connect(url) as client:
        try:
            check_schema(client)
        except SchemaTooNew:
            raise
        except RedisError:
            return


def _compare_schema(stored: Any) -> None:
    if not str(stored).isdigit() or int(stored) > SCHEMA_VERSION:
        raise SchemaTooNew(
            f"this Redis holds data of schema {stored}; this version of the service knows schema {SCHEMA_VERSION}: "
            f"upgrade this service, or use another Redis (key {SCHEMA})"
        )


def _backoff() -> ExponentialWithJitterBackoff:
    return ExponentialWithJitterBackoff(base=0.05, cap=0.5)


def _options(url: str, answer_s: float) -> dict[str, Any]:
    # No health_check_interval: redis-py connects for its PING, and pings while it connects to a Unix socket, so a Redis
    # that is silent has it nest these without end. A dead connection is found by the command itself just as soon.
    network = {"socket_connect_timeout": CONNECT_TIMEOUT_S, "socket_keepalive": True}
    return {
        **({} if url.startswith("unix:") else network),
        "decode_responses": True,
        "protocol": 2,
        "socket_timeout": min(SOCKET_TIMEOUT_S, answer_s),
        "client_name": "glad",
    }
