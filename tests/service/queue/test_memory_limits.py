"""What a client can make grow in Redis is bounded, or goes with its inspection: room for images is always left."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
import redis

from glad_client.answers import StationChange, StationSettings
from service.contract import Decision, Result, Review, now
from service.queue import keys
from service.queue.connection import connect, connect_async
from service.queue.redis_health import read_redis_state
from service.queue.results import Results
from service.queue.reviews import MOST_REVIEW_BYTES, MOST_REVIEWS, ReviewOutcome, Reviews
from service.queue.stations import MOST_CHANGES, MOST_STATIONS, Stations, StationsFull
from service.queue.submitter import JobSubmitter
from tests.support.ended import end
from tests.support.line import make_job
from tests.support.redis_server import RedisServer


@pytest.fixture
def client(own_redis: RedisServer) -> Iterator[redis.Redis]:
    """A client of a Redis whose memory a test may limit."""
    with connect(own_redis.url) as found:
        yield found


def fill(client: redis.Redis, share: float) -> None:
    """From now on Redis uses this share of its memory."""
    info: Any = client.info("memory")
    client.config_set("maxmemory", round(info["used_memory"] / share))


def add_events(client: redis.Redis, count: int) -> None:
    with client.pipeline(transaction=False) as pipe:
        for number in range(count):
            pipe.xadd(keys.EVENTS, {"id": str(number), "event": "x" * 1000})
        pipe.execute()


async def review(url: str, inspection_id: str, note: str, count: int = 1) -> list[ReviewOutcome]:
    """What becomes of so many reviews of one inspection."""
    async with connect_async(url) as found, Results(found) as results:
        result = await results.get(inspection_id)
        assert isinstance(result, Result)
        reviews = Reviews(found, max_events=1_000_000)
        made = [Review(decision=Decision.OK, by="a", note=f"{number:03}{note}", at=now()) for number in range(count)]
        return [await reviews.add(result, one) for one in made]


async def test_reviews_of_one_inspection_are_bounded_in_number_and_in_bytes_and_go_with_it(
    own_redis: RedisServer, client: redis.Redis
) -> None:
    short, long = await asyncio.to_thread(end, client, 2)
    assert (await review(own_redis.url, short, "", 60)).count(ReviewOutcome.RECORDED) == MOST_REVIEWS
    # A note may have a thousand characters, of at most four bytes each; around it are some hundred.
    recorded = (await review(own_redis.url, long, "\U0001f50d" * 997, 20)).count(ReviewOutcome.RECORDED)
    assert recorded == MOST_REVIEW_BYTES // (4 * 997 + 3 + 100)
    kept: Any = client.hget(keys.inspection(long), "reviews")
    assert len(kept.encode()) <= MOST_REVIEW_BYTES
    assert 0 < client.ttl(keys.inspection(long)) <= 7 * 86_400


async def test_events_that_nobody_needs_make_room_where_memory_is_short(
    own_redis: RedisServer, client: redis.Redis
) -> None:
    (inspection_id,) = await asyncio.to_thread(end, client, 1)
    add_events(client, 3000)
    fill(client, 0.75)
    await review(own_redis.url, inspection_id, "", 40)
    assert 1000 <= client.xlen(keys.EVENTS) < 3000
    info: Any = client.info("memory")
    assert info["used_memory"] < 0.73 * info["maxmemory"]


async def test_events_that_a_sink_still_needs_stay(own_redis: RedisServer, client: redis.Redis) -> None:
    (inspection_id,) = await asyncio.to_thread(end, client, 1)
    client.xgroup_create(keys.EVENTS, keys.outbox_group("mqtt"), id="0")
    add_events(client, 3000)
    fill(client, 0.75)
    await review(own_redis.url, inspection_id, "", 40)
    assert client.xlen(keys.EVENTS) == 1 + 3000 + 40


async def test_reviews_leave_the_last_memory_to_images(own_redis: RedisServer, client: redis.Redis) -> None:
    (inspection_id,) = await asyncio.to_thread(end, client, 1)
    fill(client, 0.9)
    assert await review(own_redis.url, inspection_id, "") == [ReviewOutcome.NO_MEMORY]
    async with connect_async(own_redis.url) as found:
        assert (await JobSubmitter(found).submit(make_job())).admission == "admitted"


async def test_results_that_go_before_their_time_are_counted(own_redis: RedisServer, client: redis.Redis) -> None:
    await asyncio.to_thread(end, client, 1001)
    async with connect_async(own_redis.url) as found:
        assert (await read_redis_state(found, ["default"])).forgotten == {"number": 0, "memory": 0}
    fill(client, 0.75)
    await asyncio.to_thread(end, client, 1)  # a thousand stay: of 1002, two go
    async with connect_async(own_redis.url) as found:
        assert (await read_redis_state(found, ["default"])).forgotten == {"number": 0, "memory": 2}
    assert client.zcard(keys.HISTORY) == 1000


async def test_stations_are_bounded_and_a_removed_one_is_forgotten(own_redis: RedisServer, client: redis.Redis) -> None:
    numbers = count()

    def change(present: StationSettings | None) -> StationChange:
        return StationChange(at=now(), by=f"mes {next(numbers)}", settings=StationSettings(product="toy"))

    def removal(present: StationSettings | None) -> StationChange:
        return StationChange(at=now(), settings=None)

    async with connect_async(own_redis.url) as found:
        stations = Stations(found, keep_removed_s=86_400)
        for _ in range(MOST_CHANGES + 500):
            await stations.change("line-1", change)
        assert client.xlen(keys.station("line-1")) < MOST_CHANGES + 200  # whole nodes of the stream go
        client.sadd(keys.STATIONS, *(f"station-{number}" for number in range(MOST_STATIONS - 1)))
        with pytest.raises(StationsFull):
            await stations.change("line-2", change)
        await stations.change("line-1", change)
        await stations.change("line-1", removal)
        assert 0 < client.ttl(keys.station("line-1")) <= 86_400
        await stations.change("line-2", change)
        with pytest.raises(StationsFull):
            await stations.change("line-1", change)
        await stations.change("line-2", removal)
        await stations.change("line-1", change)
        assert client.ttl(keys.station("line-1")) == -1
