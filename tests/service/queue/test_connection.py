"""Timeouts and retries are said aloud: a client's defaults change from version to version."""

from __future__ import annotations

import pytest

from service.queue.connection import LONGEST_BLOCK_MS, RETRIES, SOCKET_TIMEOUT_S, connect, connect_async


@pytest.mark.parametrize("url", ["redis://localhost:1/0", "unix:///nowhere.sock?db=0"])
def test_threads_and_the_event_loop_wait_and_try_again_alike(url: str) -> None:
    for client in (connect(url), connect_async(url)):
        found = client.connection_pool.connection_kwargs
        assert found["socket_timeout"] == SOCKET_TIMEOUT_S
        assert found["retry"].get_retries() == RETRIES


def test_no_blocking_read_outlasts_the_sockets_timeout() -> None:
    assert LONGEST_BLOCK_MS / 1000 < SOCKET_TIMEOUT_S
