"""A program that cancels calls of the asyncio client, as `asyncio.timeout` does, keeps a client that works."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

import pytest_asyncio

from glad_client.async_client import AsyncClient
from glad_client.connection import CONNECTIONS

READY = b'{"status": "ready", "checks": {}}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(READY)


class Meeting:
    """A service that answers after some milliseconds, or, once `expected` is set, when so many requests are there."""

    def __init__(self) -> None:
        self.url = ""
        self.expected = 0
        self._there = 0
        self._all_there = asyncio.Event()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers the requests of one connection."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
            while await reader.readuntil(b"\r\n\r\n"):
                await self._wait()
                writer.write(HEAD + READY)
                await writer.drain()

    async def _wait(self) -> None:
        if not self.expected:
            await asyncio.sleep(random.uniform(0.0, 0.003))
            return
        self._there += 1
        if self._there == self.expected:
            self._all_there.set()
        await self._all_there.wait()


@pytest_asyncio.fixture
async def meeting() -> AsyncIterator[Meeting]:
    """On a port of its own."""
    service = Meeting()
    async with await asyncio.start_server(service.answer, "127.0.0.1", 0) as server:
        service.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield service


async def test_calls_that_are_cancelled_give_their_connections_back(meeting: Meeting) -> None:
    # They are cancelled at any moment, also while httpx opens a connection or gives one back: of a hundred it lost two.
    async def give_up(client: AsyncClient) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(random.uniform(0.0, 0.012)):
                await client.ready()

    async with AsyncClient(meeting.url, timeout_s=30, patience_s=0) as client:
        for _ in range(100):
            await asyncio.gather(*(give_up(client) for _ in range(4)))
        meeting.expected = CONNECTIONS
        answers = await asyncio.gather(*(client.ready() for _ in range(CONNECTIONS)))
    assert {answer.status for answer in answers} == {"ready"}
