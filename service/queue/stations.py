"""Stations: the product and defaults of images whose camera knows one address only. Every change is kept; the last one
is in force.

A change is an entry of the station's stream, so what was in force at a time can be told later: a part that was
inspected before a changeover is judged by what was expected then. Each is made from the one before it: if another call
came in between, it is made again, so that a changeover never lifts a hold that was set a moment ago.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, cast

import redis.asyncio

from glad_client.answers import CheckHold, StationChange, StationSettings
from glad_client.events import EventType
from glad_client.results import FailedSample, LimitSampleKind
from service.contract import Event
from service.queue import keys
from service.queue.scripts import load

MOST_CHANGES = 1000
"""Number of changes that are kept of a station."""
MOST_STATIONS = 1000
"""Number of stations that are set at a time."""
MOST_EARLIER_CHECKS = 20
"""Number of checks by limit samples that are kept of a station, beside the last one."""
MOST_TRIES = 100
"""So often a step is made again because something else changed: each time another call has got through."""


class StationsFull(Exception):
    """There are `MOST_STATIONS` stations, and this one would be a further one."""


@dataclass(frozen=True)
class StationPin:
    """What a station gives to an image when it is accepted."""

    hold: str | None = None
    takt_ms: int | None = None
    limit_sample: LimitSampleKind | None = None
    """The image shows a limit sample: hold and takt do not count for it."""
    hold_sample: FailedSample | None = None
    """The limit sample that put the station on hold."""


@dataclass(frozen=True)
class StationRecord:
    """What is stored of a station, as texts, and what was read from it."""

    last: str
    """Id of the last change; "" if there was none."""
    change: StationChange | None
    plan: str
    """JSON of the limit samples; "" if there were none."""
    check: str
    """JSON of the last check by them; "" if there was none."""

    @property
    def settings(self) -> StationSettings | None:
        """The settings in force; None for a station that is not set."""
        return None if self.change is None else self.change.settings


class StepOutcome(StrEnum):
    """Outcome of a step of station.lua."""

    RECORDED = "recorded"
    REPEATED = "repeated"
    CHANGED = "changed"
    FULL = "full"


@dataclass(frozen=True)
class StationTimeline:
    """The changes of a station, the latest first, each with the time of its entry in ms since 1970."""

    changes: tuple[tuple[int, StationChange], ...]

    @property
    def expects_views(self) -> bool:
        """Return whether the station ever expected a view."""
        return any(change.settings and change.settings.expected_views for _, change in self.changes)

    def change_at(self, moment_ms: int) -> StationChange | None:
        """Return the change that was in force, as `Stations.last_change` does."""
        return next((change for at_ms, change in self.changes if at_ms <= moment_ms), None)


class Stations:
    """Reads and writes stations. Methods raise RedisError if Redis is away."""

    def __init__(self, client: redis.asyncio.Redis, *, keep_removed_s: int, max_events: int = 1_000_000) -> None:
        """Make them.

        Args:
            client: of the service's Redis.
            keep_removed_s: how long a removed station's changes are kept: as long as results that they may decide on.
            max_events: length of the event stream.
        """
        self._redis, self._keep_removed_s, self._max_events = client, keep_removed_s, max_events
        self._script = client.register_script(load("events", "station"))

    async def change(
        self, station: str, make: Callable[[StationSettings | None], StationChange | None]
    ) -> StationChange | None:
        """Put a change into force, with an event if it sets or lifts a hold; return what is in force then.

        Args:
            station: its name.
            make: returns the change from the settings in force, which are None where the station is not set; None:
                nothing is to change. It may be called again.

        Raises:
            StationsFull: if it would make a station too many.
            RedisError: if Redis is away.
        """
        for _ in range(MOST_TRIES):
            record = await self.read(station)
            made = make(record.settings)
            if made is None:
                return record.change
            change = with_hold(record, made)
            outcome = await self.apply(station, self.change_step(record, change), hold_events(station, record, change))
            if outcome is StepOutcome.FULL:
                raise StationsFull
            if outcome is not StepOutcome.CHANGED:
                return change
        raise redis.RedisError(f"station {station!r} changes all the time: try again later")

    def change_step(self, record: StationRecord, change: StationChange) -> dict[str, Any]:
        """Return what station.lua needs to put this change behind the one that was read."""
        removed = {"removed_ms": self._keep_removed_s * 1000} if change.settings is None else {}
        return {"read_last": record.last, "change": change.model_dump_json(), **removed}

    async def apply(self, station: str, step: dict[str, Any], events: Sequence[Event] = ()) -> StepOutcome:
        """Take a step of station.lua, with its events."""
        whole = {
            **step,
            "station": station,
            "events": [event.to_json() for event in events],
            "max_events": self._max_events,
            "most_changes": MOST_CHANGES,
            "most_stations": MOST_STATIONS,
            "most_checks": MOST_EARLIER_CHECKS,
        }
        script_keys = [
            keys.station(station),
            keys.STATIONS,
            keys.limit_samples(station),
            keys.limit_serials(station),
            keys.limit_checks(station),
            keys.LIMIT_ENDED,
            keys.EVENTS,
        ]
        return StepOutcome(await cast("Any", self._script(keys=script_keys, args=[json.dumps(whole)])))

    async def read(self, station: str) -> StationRecord:
        """Return what is stored of a station, all of one moment."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.xrevrange(keys.station(station), count=1)
            pipe.hmget(keys.limit_samples(station), ["plan", "check"])
            rows, (plan, check) = await pipe.execute()
        return StationRecord(rows[0][0] if rows else "", _read(rows[0]) if rows else None, plan or "", check or "")

    async def last_change(self, station: str, before: datetime | None = None) -> StationChange | None:
        """Return the change in force now, or at that time; None if there was none. A removal has no settings."""
        until = "+" if before is None else str(round(before.timestamp() * 1000))
        rows = await cast("Any", self._redis.xrevrange(keys.station(station), max=until, count=1))
        return _read(rows[0]) if rows else None

    async def pin(self, station: str | None, serial: str | None) -> StationPin:
        """Return what a station gives to an image that is accepted now; nothing where it is not set."""
        if station is None:
            return StationPin()
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.xrevrange(keys.station(station), count=1)
            if serial is not None:
                pipe.hget(keys.limit_serials(station), serial)
            rows, *kinds = await pipe.execute()
        change = _read(rows[0]) if rows else None
        settings = change.settings if change else None
        if change is None or settings is None:
            return StationPin()
        if kinds and kinds[0]:
            return StationPin(limit_sample=kinds[0])
        return StationPin(settings.hold, settings.takt_ms, hold_sample=change.held_sample)

    async def changes(self, station: str) -> tuple[StationChange, ...]:
        """Return the station's changes, the latest first; empty for one that never was."""
        rows = await cast("Any", self._redis.xrevrange(keys.station(station), count=MOST_CHANGES))
        # A change whose reply was lost may have been sent twice; it carries the same time.
        return tuple(dict.fromkeys(_read(row) for row in rows))

    async def timelines(self, stations: Iterable[str]) -> dict[str, StationTimeline]:
        """Return each of the stations with its changes, for questions about many moments."""
        names = list(stations)
        async with self._redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.xrevrange(keys.station(name), count=MOST_CHANGES)
            found = await pipe.execute()
        return {
            name: StationTimeline(tuple((int(row[0].partition("-")[0]), _read(row)) for row in rows))
            for name, rows in zip(names, found, strict=True)
        }

    async def names(self) -> tuple[str, ...]:
        """Return the names of all stations, sorted."""
        return tuple(sorted(await cast("Any", self._redis.smembers(keys.STATIONS))))


def with_hold(record: StationRecord, change: StationChange) -> StationChange:
    """Return a change of the settings that says since when the station is on hold: if the reason stays, since it was
    set. A person's hold does not replace that of a failed check: that stays behind it, and returns when it is lifted.
    """
    if change.settings is None:
        return change
    before, present = record.change, record.settings.hold if record.settings else None
    if change.settings.hold == present:
        return _with_hold_of(before, change)
    behind = before.check_hold if before else None
    if change.settings.hold is None:
        return change if behind is None else _held_by_check(change, behind)
    if before and present is not None and before.held_sample is not None:
        at = before.held_at or before.at
        behind = CheckHold(reason=present, sample=before.held_sample, at=at, by=before.held_by)
    return change.model_copy(update={"held_at": change.at, "held_by": change.by, "check_hold": behind})


def with_failed_check(record: StationRecord, change: StationChange, reason: str, sample: FailedSample) -> StationChange:
    """Return the change of a station by a failed check: on hold for this reason, unless a person holds it. Then theirs
    stays, with this one behind it.
    """
    before, present = record.change, record.settings.hold if record.settings else None
    hold = CheckHold(reason=reason, sample=sample, at=change.at, by=change.by)
    if before is not None and present is not None and before.held_sample is None:
        return _with_hold_of(before, change).model_copy(update={"check_hold": hold})
    return _with_hold_of(before, change) if present == reason else _held_by_check(change, hold)


def _with_hold_of(before: StationChange | None, change: StationChange) -> StationChange:
    kept = ("held_at", "held_by", "held_sample", "check_hold")
    return change if before is None else change.model_copy(update={name: getattr(before, name) for name in kept})


def _held_by_check(change: StationChange, hold: CheckHold) -> StationChange:
    assert change.settings is not None, "only a station that is set is checked"
    settings = change.settings.model_copy(update={"hold": hold.reason})
    held = {"settings": settings, "held_at": hold.at, "held_by": hold.by, "held_sample": hold.sample}
    return change.model_copy(update={**held, "check_hold": None})


def hold_events(station: str, record: StationRecord, change: StationChange) -> list[Event]:
    """Return the event of a change that sets or lifts a hold; of any other, none. Where a failed check's hold comes in
    the place of one that is lifted, the station stays on hold: that is told, and no release.
    """
    before = record.settings.hold if record.settings else None
    if change.settings is None or change.settings.hold == before:
        return []
    kind: EventType = "station.released" if change.settings.hold is None else "station.held"
    reason = before if change.settings.hold is None else change.settings.hold
    released = record.change if change.settings.hold is None else change
    return [station_event(kind, station, change, reason, released.held_sample if released else None)]


def station_event(
    kind: EventType, station: str, change: StationChange, reason: str | None, sample: FailedSample | None = None
) -> Event:
    """Return an event of a station; `change` says when, by whom, and which product was set there."""
    assert change.settings is not None, "only a station that is set has events"
    return Event(
        type=kind,
        inspection_id=None,
        product=change.settings.product,
        station=station,
        reason=reason,
        hold_sample=sample,
        by=change.by,
        at=change.at,
    )


def _read(row: tuple[str, dict[str, str]]) -> StationChange:
    return StationChange.model_validate_json(row[1]["change"])
