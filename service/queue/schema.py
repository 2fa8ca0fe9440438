"""Which version of the keys a Redis holds: a service never works on what a newer one has written.

The version stands in one key that no version renames. Old and new services may share a Redis while an upgrade is under
way only if their versions are equal; a higher one is written by the first new service, and stops the old ones at their
next start.
"""

from __future__ import annotations

from typing import Any, cast

import redis
import redis.asyncio
from redis.exceptions import RedisError

from service.queue.connection import connect

VERSION = 1
KEY = "glad:schema"


class SchemaTooNew(RedisError):
    """This Redis was used by a newer version of the service. As good as away: nothing is read or written."""


def check(client: redis.Redis) -> None:
    """SchemaTooNew if a newer service was here; else notes this one's version. RedisError if Redis is away."""
    client.set(KEY, VERSION, nx=True)
    _compare(client.get(KEY))


def refuse_newer(url: str) -> None:
    """At a process's start: SchemaTooNew. A Redis that is away is looked at again before its first use."""
    with connect(url) as client:
        try:
            check(client)
        except SchemaTooNew:
            raise
        except RedisError:
            return


async def check_async(client: redis.asyncio.Redis) -> None:
    """As `check`."""
    await cast("Any", client.set(KEY, VERSION, nx=True))
    _compare(await cast("Any", client.get(KEY)))


def _compare(found: Any) -> None:
    if not str(found).isdigit() or int(found) > VERSION:
        raise SchemaTooNew(
            f"this Redis holds data of schema {found}; this version of the service knows schema {VERSION}: "
            f"upgrade this service, or use another Redis (key {KEY})"
        )
