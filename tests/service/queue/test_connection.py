"""Timeouts and retries are said aloud: a client's defaults change from version to version."""

from __future__ import annotations

import asyncio
import random
import signal

import pytest
import redis
import redis.asyncio
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.queue.connection import LONGEST_BLOCK_MS, RETRIES, SOCKET_TIMEOUT_S, connect, connect_async
from service.queue.patience import ANSWER_LIMIT_S
from tests.support.redis_server import RedisServer
from tests.support.wire import Wire


@pytest.mark.parametrize("url", ["redis://localhost:1/0", "unix:///nowhere.sock?db=0"])
def test_threads_and_the_event_loop_wait_and_try_again_alike(url: str) -> None:
    for client in (connect(url), connect_async(url)):
        found = client.connection_pool.connection_kwargs
        assert found["socket_timeout"] == SOCKET_TIMEOUT_S
        assert found["retry"].get_retries() == RETRIES


def test_no_blocking_read_outlasts_the_sockets_timeout() -> None:
    assert LONGEST_BLOCK_MS / 1000 < SOCKET_TIMEOUT_S < ANSWER_LIMIT_S


def test_a_silent_redis_is_not_tried_again_once_the_time_is_over(
    client: redis.Redis, shared_redis: RedisServer
) -> None:
    with Wire(shared_redis.url) as wire, connect(wire.url, answer_s=0.3) as caller:
        assert caller.ping()
        wire.silence()
        with pytest.raises(RedisTimeoutError):
            caller.ping()
        assert wire.connections <= 2  # one attempt takes all the time; four of them would be four connections
        wire.mend()
        assert caller.ping()


def test_a_redis_that_is_away_for_a_moment_is_tried_again(client: redis.Redis, shared_redis: RedisServer) -> None:
    with Wire(shared_redis.url) as wire, connect(wire.url) as caller:
        assert caller.ping()
        wire.cut()
        with pytest.raises(redis.exceptions.ConnectionError):
            caller.ping()
        assert wire.connections > RETRIES


async def test_every_one_of_many_commands_ends_in_time_while_redis_is_stopped(own_redis: RedisServer) -> None:
    # They start within a few milliseconds: as the first are cut off, the next find their connections just before their
    # own time is over. redis-py swallowed one of some hundred cancellations there, and that command never ended.
    for _ in range(4):
        async with connect_async(own_redis.url, answer_s=0.5) as caller:
            await caller.set("a", "b")
            own_redis.signal(signal.SIGSTOP)
            try:
                async with asyncio.timeout(30):
                    answers = await asyncio.gather(*(_get_late(caller) for _ in range(200)), return_exceptions=True)
            finally:
                own_redis.signal(signal.SIGCONT)
            assert {type(answer) for answer in answers} == {RedisTimeoutError}


async def test_a_caller_that_gives_up_leaves_no_command_behind(own_redis: RedisServer) -> None:
    async with connect_async(own_redis.url, answer_s=5) as caller:
        await caller.set("a", "b")
        own_redis.signal(signal.SIGSTOP)
        try:
            for _ in range(20):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(random.uniform(0.0, 0.02)):
                        await caller.get("a")
        finally:
            own_redis.signal(signal.SIGCONT)
        assert len(asyncio.all_tasks()) == 1
        assert await caller.get("a") == "b"


async def _get_late(caller: redis.asyncio.Redis) -> object:
    await asyncio.sleep(random.uniform(0.0, 0.005))
    return await caller.get("a")
