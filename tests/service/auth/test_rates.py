"""How often: a bucket per key or address, counted by all API processes together; 429 says when to come back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis
import redis.asyncio

from service.auth.api_keys import KeyStore
from service.auth.rate_limit import Rate, RateLimiter, client_address
from service.auth.scopes import Scope
from service.queue import keys
from service.queue.scripts import load
from tests.service.conftest import Running, StartApp
from tests.support.line import picture
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.usefixtures("keys_read_at_once")

URL = "/v1/products/toy/inspections"
SLOW = Rate(per_s=0.001, burst=3)
"""A new token each 1000 s: none comes while a test runs."""


async def test_a_bucket_gives_its_burst_and_then_says_how_long_to_wait(async_client: redis.asyncio.Redis) -> None:
    limiter = RateLimiter(async_client)
    waits = [await limiter.count_call("calls", "a", SLOW) for _ in range(4)]
    assert waits[:3] == [0, 0, 0]
    assert 900 <= waits[3] <= 1000  # one token at 0.001 a second, less what the test took
    assert await limiter.count_call("calls", "b", SLOW) == 0
    assert await limiter.count_call("failures", "a", SLOW) == 0


async def test_many_processes_at_once_get_the_burst_together(async_client: redis.asyncio.Redis) -> None:
    limiters = [RateLimiter(async_client) for _ in range(4)]
    waits = await asyncio.gather(*(limiter.count_call("calls", "a", SLOW) for limiter in limiters * 10))
    assert waits.count(0) == 3


def test_a_bucket_fills_at_its_rate_and_no_higher_than_its_burst(client: redis.Redis) -> None:
    take = client.register_script(load("token_bucket"))
    bucket = keys.rate("calls", "a")

    def at(seconds_ago: float, tokens: float) -> int:
        """ms to wait, of a bucket that had so many tokens then; 2 tokens a second, at most 5."""
        seconds, micros = client.time()
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        client.hset(bucket, mapping={"tokens": tokens, "at_ms": int(now_ms - seconds_ago * 1000)})
        return int(take(keys=[bucket], args=[2, 5]))

    assert at(0.5, 0) == 0  # 0.5 s x 2 = 1 token
    assert 1 <= at(0.25, 0) <= 250  # half a token is missing: 0.25 s
    assert at(3600, 0) == 0
    left: Any = client.hget(bucket, "tokens")
    assert float(left) == 4  # 5 at most, less the one taken
    assert 1 <= at(-3600, 0.5) <= 250  # a clock that was set back fills and takes nothing
    assert 0 < client.pttl(bucket) <= 3500  # full again after 2.5 s, and then gone


async def test_without_redis_nothing_is_counted(own_redis: RedisServer) -> None:
    from service.queue.connection import connect_async

    own_redis.kill()
    async with connect_async(own_redis.url) as away:
        assert await RateLimiter(away).count_call("calls", "a", SLOW) == 0


@pytest.mark.parametrize(
    ("client", "who"),
    [
        (("10.0.0.7", 4711), "10.0.0.7"),
        (("::ffff:10.0.0.7", 4711), "10.0.0.7"),
        (("2001:db8:1:2:3:4:5:6", 4711), "2001:db8:1:2::/64"),
        (None, "unknown"),
        (("testclient", 1), "testclient"),
    ],
)
def test_who_calls_is_an_address_or_a_network_of_one_caller(client: tuple[str, int] | None, who: str) -> None:
    assert client_address(client) == who


async def test_calls_beyond_the_rate_are_429_per_key(
    client: redis.Redis, shared_redis: RedisServer, start_app: StartApp
) -> None:
    store = KeyStore(client)
    first, second = (store.create(name, [Scope.SUBMIT]) for name in ("a", "b"))
    running: Running = await start_app(shared_redis.url, rate_per_s=0.001, rate_burst=2)

    async def post(key: str) -> int:
        headers = {"Authorization": f"Bearer {key}"}
        return (await running.http.post(URL, content=picture(), headers=headers)).status_code

    assert [await post(first) for _ in range(3)] == [202, 202, 429]
    assert await post(second) == 202
    refused = await running.http.post(URL, content=picture(), headers={"X-API-Key": first})
    assert refused.json()["type"] == "urn:glad:problem:rate-exceeded"
    assert 990 <= int(refused.headers["retry-after"]) <= 1000
    assert (await running.http.get("/health/live")).status_code == 200
    text = (await running.http.get("/metrics")).text
    assert 'glad_inspections_rejected_total{reason="rate-exceeded"} 2.0' in text


async def test_where_no_key_is_needed_the_address_is_counted(
    client: redis.Redis, shared_redis: RedisServer, start_app: StartApp
) -> None:
    running: Running = await start_app(shared_redis.url, rate_per_s=0.001, rate_burst=1)
    assert [(await running.http.get("/v1/products")).status_code for _ in range(2)] == [200, 429]


async def test_failed_keys_are_limited_by_default_and_a_good_key_from_there_still_passes(
    client: redis.Redis, shared_redis: RedisServer, start_app: StartApp
) -> None:
    key = KeyStore(client).create("mes", [Scope.READ])
    default: Running = await start_app(shared_redis.url)
    assert default.settings.failures_per_minute == 30
    running: Running = await start_app(shared_redis.url, failures_per_minute=1)  # a new token each minute
    first, second = [await running.http.get("/v1/products", headers={"X-API-Key": "guess"}) for _ in range(2)]
    assert (first.status_code, second.status_code) == (401, 429)
    assert 1 <= int(second.headers["retry-after"]) <= 60
    assert "without a valid API key" in second.json()["detail"]
    assert (await running.http.get("/v1/products", headers={"X-API-Key": key})).status_code == 200


async def test_a_service_without_a_rate_counts_nothing(api: Running, client: redis.Redis) -> None:
    for _ in range(50):
        assert (await api.http.get("/v1/products/toy")).status_code == 200
    assert client.keys("glad:v1:rate:*") == []
