"""Shifts by the clock on the wall, also on the days on which clocks change."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from service.contract.shifts import Shift, find_zone, last_shifts, parse_shifts, wall_hours
from service.settings import Settings

BERLIN = find_zone("Europe/Berlin")
THREE = (time(6), time(14), time(22))


def hours(shift: Shift) -> float:
    """How long it lasts."""
    return (shift.until - shift.since) / timedelta(hours=1)


def test_the_first_shift_is_the_present_one_and_each_ends_where_the_next_begins() -> None:
    # 05:30 in Berlin, an hour ahead of UTC in November: the night shift of the day before.
    found = last_shifts(THREE, BERLIN, datetime(2026, 11, 23, 4, 30, tzinfo=UTC), 4)
    assert [shift.name for shift in found] == ["22:00-06:00", "14:00-22:00", "06:00-14:00", "22:00-06:00"]
    assert found[0].since == datetime(2026, 11, 22, 21, tzinfo=UTC)
    assert found[0].until == datetime(2026, 11, 23, 5, tzinfo=UTC)
    assert [one.until for one in found[1:]] == [one.since for one in found[:-1]]


def test_a_shift_begins_with_its_first_moment() -> None:
    begins = datetime(2026, 11, 23, 5, tzinfo=UTC)
    [present] = last_shifts(THREE, BERLIN, begins, 1)
    assert (present.name, present.since) == ("06:00-14:00", begins)


@pytest.mark.parametrize(
    ("morning", "night_hours", "day_hours"),
    [
        ((2026, 3, 29), 7, 23),  # at 02:00 the clock is put forward
        ((2026, 10, 25), 9, 25),  # at 03:00 it is put back
        ((2026, 11, 23), 8, 24),
    ],
)
def test_when_clocks_change_one_shift_is_longer_or_shorter(
    morning: tuple[int, int, int], night_hours: int, day_hours: int
) -> None:
    noon = datetime(*morning, 12, tzinfo=BERLIN)
    _, night = last_shifts(THREE, BERLIN, noon, 2)
    assert (night.name, hours(night)) == ("22:00-06:00", night_hours)
    _, day = last_shifts((time(0),), BERLIN, noon + timedelta(days=1), 2)
    assert (day.name, hours(day)) == ("00:00-00:00", day_hours)


def test_a_shift_that_would_begin_in_the_hour_that_is_left_out_begins_after_it() -> None:
    found = last_shifts((time(2, 30), time(14)), BERLIN, datetime(2026, 3, 29, 12, tzinfo=BERLIN), 1)
    assert found[0].since == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)  # 03:30 by the new time


def test_two_beginnings_that_fall_together_are_one() -> None:
    # 02:00 is left out, and is 03:00.
    found = last_shifts((time(2), time(3), time(14)), BERLIN, datetime(2026, 3, 29, 12, tzinfo=BERLIN), 2)
    assert [shift.name for shift in found] == ["02:00-14:00", "14:00-02:00"]


def test_an_hour_that_comes_twice_is_two_hours() -> None:
    hour_of = wall_hours(BERLIN)
    first = datetime(2026, 10, 25, 0, 20, tzinfo=UTC)  # 02:20 summer time
    second = datetime(2026, 10, 25, 1, 20, tzinfo=UTC)  # 02:20 winter time
    begins = [hour_of(round(moment.timestamp() * 1000)) / 1000 for moment in (first, second)]
    assert begins == [(moment - timedelta(minutes=20)).timestamp() for moment in (first, second)]


def test_hours_are_those_of_the_clock_on_the_wall() -> None:
    hour_of = wall_hours(find_zone("Asia/Kolkata"))  # 5:30 ahead of UTC
    moment = datetime(2026, 11, 23, 4, 10, tzinfo=UTC)  # 09:40
    assert hour_of(round(moment.timestamp() * 1000)) / 1000 == datetime(2026, 11, 23, 3, 30, tzinfo=UTC).timestamp()


def test_zones_are_known_where_the_system_has_none_as_on_windows_and_in_slim_containers() -> None:
    known = zoneinfo.TZPATH
    zoneinfo.reset_tzpath(to=())
    zoneinfo.ZoneInfo.clear_cache()
    try:
        assert "Asia/Shanghai" in zoneinfo.available_timezones()
        assert find_zone("Asia/Shanghai").utcoffset(datetime(2026, 11, 30)) == timedelta(hours=8)
    finally:
        zoneinfo.reset_tzpath(to=known)


def test_shifts_are_set_as_text_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLAD_SHIFTS", "14:00, 06:00,22:15")
    monkeypatch.setenv("GLAD_TIME_ZONE", "Asia/Shanghai")
    settings = Settings()
    assert parse_shifts(settings.shifts) == (time(6), time(14), time(22, 15))
    assert settings.time_zone == "Asia/Shanghai"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("shifts", "6:00,14:00", "'6:00' is no time of day: write such as 06:00,14:00,22:00"),
        ("shifts", "24:00", "'24:00' is no time of day"),
        ("shifts", "06:00,06:00", "a time stands there twice"),
        ("shifts", "", "is no time of day"),
        ("time_zone", "Mars/Olympus", "'Mars/Olympus' is no time zone that this machine knows"),
        ("time_zone", "../../etc/passwd", "is no time zone that this machine knows"),
    ],
)
def test_what_is_no_shift_and_no_zone_is_refused_in_words(name: str, text: str, said: str) -> None:
    given: dict[str, Any] = {name: text}
    with pytest.raises(ValidationError) as refused:
        Settings(**given)
    assert said in Settings.describe_errors(refused.value)
