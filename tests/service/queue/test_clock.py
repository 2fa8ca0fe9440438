"""What is known of this machine's clock from one look at Redis's."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import redis
import redis.asyncio

from service.queue.clock import ClockReading, from_ms, read_clock, redis_now


@pytest.mark.parametrize(
    ("before_s", "redis_s", "after_s", "offset_s"),
    [
        (10.0, 10.5, 11.0, 0.0),  # anywhere between the two looks: nothing is known to be wrong
        (10.0, 10.0, 40.0, 0.0),  # a slow answer is no wrong clock
        (13.0, 10.0, 13.5, 3.0),  # at least: it read 13 when Redis had not read 10 yet
        (10.0, 13.0, 10.25, -2.75),  # at least: it read 10.25 when Redis had read 13 already
    ],
)
def test_a_clock_is_off_by_what_the_round_trip_does_not_explain(
    before_s: float, redis_s: float, after_s: float, offset_s: float
) -> None:
    assert ClockReading(before_s, redis_s, after_s).offset_s == offset_s


@pytest.mark.parametrize(
    ("offset_s", "said"), [(1.0, ""), (-1.0, ""), (1.5, "1.5 s ahead of that of Redis"), (-2.0, "2.0 s behind that")]
)
def test_more_than_a_second_is_a_problem_and_says_what_to_do(offset_s: float, said: str) -> None:
    problem = ClockReading(100 + offset_s, 100, 100 + offset_s).problem
    assert bool(problem) is bool(said)
    assert said in problem
    assert not said or "synchronise" in problem


async def test_redis_is_asked_between_two_looks_at_the_own_clock(async_client: redis.asyncio.Redis) -> None:
    looks = iter([50.0, 51.0])
    reading = await read_clock(async_client, own_clock=lambda: next(looks))
    assert (reading.before_s, reading.after_s) == (50.0, 51.0)
    assert abs(reading.redis_s - (await redis_now(async_client)).timestamp()) < 60


def test_a_moment_keeps_its_millisecond() -> None:
    assert from_ms(1_700_000_000_123) == datetime(2023, 11, 14, 22, 13, 20, 123_000, tzinfo=UTC)
