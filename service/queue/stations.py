"""Stations: the product and defaults of images whose camera knows one address only. Every change is kept; the last one
is in force.

A change is an entry of the station's stream, so what was in force at a time can be told later: a part that was
inspected before a changeover is judged by what was expected then.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

import redis.asyncio

from glad_client.answers import StationChange
from service.queue import keys

MOST_CHANGES = 1000
"""Number of changes that are kept of a station."""
MOST_STATIONS = 1000
"""Number of stations that are set at a time."""


class StationsFull(Exception):
    """There are `MOST_STATIONS` stations, and this one would be a further one."""


class Stations:
    """Reads and writes stations. Methods raise RedisError if Redis is away."""

    def __init__(self, client: redis.asyncio.Redis, *, keep_removed_s: int) -> None:
        """Make them.

        Args:
            client: of the service's Redis.
            keep_removed_s: how long a removed station's changes are kept: as long as results that they may decide on.
        """
        self._redis, self._keep_removed_s = client, keep_removed_s

    async def change(self, station: str, change: StationChange) -> None:
        """Put a change into force.

        Raises:
            StationsFull: if it would make a station too many.
            RedisError: if Redis is away.
        """
        if change.settings is not None and await self._is_one_too_many(station):
            raise StationsFull
        key = keys.station(station)
        entry: dict[Any, Any] = {"change": change.model_dump_json()}
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.xadd(key, entry, maxlen=MOST_CHANGES, approximate=True)
            if change.settings is None:
                pipe.srem(keys.STATIONS, station)
                pipe.expire(key, self._keep_removed_s)
            else:
                pipe.sadd(keys.STATIONS, station)
                pipe.persist(key)
            await pipe.execute()

    async def _is_one_too_many(self, station: str) -> bool:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.sismember(keys.STATIONS, station)
            pipe.scard(keys.STATIONS)
            known, count = await pipe.execute()
        return not known and count >= MOST_STATIONS

    async def last_change(self, station: str, before: datetime | None = None) -> StationChange | None:
        """Return the change in force now, or at that time; None if there was none. A removal has no settings."""
        until = "+" if before is None else str(round(before.timestamp() * 1000))
        rows = await cast("Any", self._redis.xrevrange(keys.station(station), max=until, count=1))
        return _read(rows[0]) if rows else None

    async def hold(self, station: str | None) -> str | None:
        """Return why a station is on hold; None if it is not, or is not set, or no station is given."""
        change = None if station is None else await self.last_change(station)
        return None if change is None or change.settings is None else change.settings.hold

    async def changes(self, station: str) -> tuple[StationChange, ...]:
        """Return the station's changes, the latest first; empty for one that never was."""
        rows = await cast("Any", self._redis.xrevrange(keys.station(station), count=MOST_CHANGES))
        # A change whose reply was lost was sent twice; it carries the same time.
        return tuple(dict.fromkeys(_read(row) for row in rows))

    async def names(self) -> tuple[str, ...]:
        """Return the names of all stations, sorted."""
        return tuple(sorted(await cast("Any", self._redis.smembers(keys.STATIONS))))


def _read(row: tuple[str, dict[str, str]]) -> StationChange:
    return StationChange.model_validate_json(row[1]["change"])
