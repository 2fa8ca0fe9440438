"""Shifts: the times of day at which they begin, in the plant's time zone, and the spans between them.

A shift lasts from one beginning to the next, by the clock on the wall: on the days on which clocks change, one of them
is an hour shorter or longer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import cache
from itertools import islice
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator

MOST_SHIFTS = 24
"""Beginnings in a day."""
HOUR_MS, QUARTER_MS = 3_600_000, 900_000
EXAMPLE_SHIFTS = "06:00,14:00,22:00"


@dataclass(frozen=True)
class Shift:
    """A shift, from `since` to before `until`."""

    name: str
    """Beginning and end by the clock on the wall: `06:00-14:00`."""
    since: datetime
    until: datetime


def parse_shifts(text: str) -> tuple[time, ...]:
    """Return the times of day at which shifts begin, in order, from the text of GLAD_SHIFTS.

    Raises:
        ValueError: if one has another form than 06:00, or stands there twice.
    """
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", word):
            raise ValueError(f"{word!r} is no time of day: write such as {EXAMPLE_SHIFTS}")
    if len(set(words)) != len(words) or len(words) > MOST_SHIFTS:
        raise ValueError(f"a time stands there twice, or there are more than {MOST_SHIFTS}: write such as 06:00,14:00")
    return tuple(time.fromisoformat(word) for word in sorted(words))


def check_shifts(text: str) -> str:
    """Return the text of GLAD_SHIFTS unchanged.

    Raises:
        ValueError: as `parse_shifts`.
    """
    parse_shifts(text)
    return text


def check_zone(name: str) -> str:
    """Return the name of a time zone unchanged.

    Raises:
        ValueError: if this machine does not know it.
    """
    find_zone(name)
    return name


def find_zone(name: str) -> tzinfo:
    """Return the time zone of this name.

    Raises:
        ValueError: if this machine does not know it.
    """
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            f"{name!r} is no time zone that this machine knows: write such as Europe/Berlin or Asia/Shanghai; if it "
            "is a new one, update the package tzdata (pip install --upgrade tzdata)"
        ) from error


ShiftTimes = Annotated[str, AfterValidator(check_shifts)]
ZoneName = Annotated[str, AfterValidator(check_zone)]


def last_shifts(times: tuple[time, ...], zone: tzinfo, now: datetime, count: int) -> tuple[Shift, ...]:
    """Return the shift of this moment and those before it, the newest first.

    Args:
        times: when shifts begin, at least one.
        zone: of the plant.
        now: this moment, with its time zone.
        count: of shifts.
    """
    return tuple(islice((shift for shift in _shifts_backwards(times, zone, now) if shift.since <= now), count))


def wall_hours(zone: tzinfo) -> Callable[[int], int]:
    """Return a function: moment -> beginning of its hour by the clock on the wall, both in ms since 1970."""

    @cache
    def offset_ms(quarter: int) -> int:
        """Return how far the clock on the wall is ahead of UTC; it is put at a whole quarter of an hour."""
        offset = datetime.fromtimestamp(quarter * QUARTER_MS / 1000, zone).utcoffset()
        assert offset is not None, "a time zone has an offset at any time"
        return round(offset.total_seconds() * 1000)

    def hour_of(moment_ms: int) -> int:
        offset = offset_ms(moment_ms // QUARTER_MS)
        return (moment_ms + offset) // HOUR_MS * HOUR_MS - offset

    return hour_of


def _shifts_backwards(times: tuple[time, ...], zone: tzinfo, now: datetime) -> Iterator[Shift]:
    """Yield shifts, beginning with one that has not begun yet."""
    day = now.astimezone(zone).date() + timedelta(days=2)
    until, end = _beginnings(day, times, zone)[0]
    while True:
        day -= timedelta(days=1)
        for since, start in reversed(_beginnings(day, times, zone)):
            yield Shift(f"{start:%H:%M}-{end:%H:%M}", since, until)
            until, end = since, start


def _beginnings(day: date, times: tuple[time, ...], zone: tzinfo) -> list[tuple[datetime, time]]:
    """Return the moments of a day at which shifts begin, in UTC, in order, with the time of day that is meant.

    A time that the clock leaves out is as long after the leap as it would have been after the hour before; of one that
    comes twice, the first is meant. Two that fall together are one.
    """
    moments = {datetime.combine(day, at, zone).astimezone(UTC): at for at in reversed(times)}
    return sorted(moments.items())
