"""Timeouts and retries are said aloud: a client's defaults change from version to version."""

from __future__ import annotations

import pytest
import redis
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
