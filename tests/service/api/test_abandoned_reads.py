"""A read whose client has left is not worked on: others do not wait behind it."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from service.api.middleware.abandoned_reads import AbandonedReadMiddleware
from service.queue.history import PAGES_AT_A_TIME
from service.queue.summaries import COUNTS_AT_A_TIME
from tests.service.conftest import Running

PATIENCE_S = 20.0


def request_of(method: str, path: str) -> dict[str, Any]:
    """A request as a server passes it on."""
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1")],
        "client": ("127.0.0.1", 5000),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }


class Leaver:
    """A client that sends its request and leaves when it is told to."""

    def __init__(self) -> None:
        self.leave = asyncio.Event()
        self.got: list[dict[str, Any]] = []
        self._sent = False

    async def receive(self) -> dict[str, Any]:
        """What it sends, and that it left."""
        if not self._sent:
            self._sent = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.leave.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        """What it is sent."""
        self.got.append(message)


@pytest.mark.parametrize("path", ["/v1/statistics", "/v1/inspections"])
async def test_a_read_that_waits_for_its_turn_ends_when_its_client_leaves(api: Running, path: str) -> None:
    app = api.http._transport.app  # type: ignore[attr-defined]
    turns, places = (
        (api.services.summaries.counts, COUNTS_AT_A_TIME)
        if path == "/v1/statistics"
        else (api.services.history._pages, PAGES_AT_A_TIME)
    )
    for _ in range(places):  # others are at work
        await turns.acquire()
    clients = [Leaver() for _ in range(5)]
    calls = [asyncio.ensure_future(app(request_of("GET", path), one.receive, one.send)) for one in clients]
    done, _ = await asyncio.wait(calls, timeout=0.2)
    assert not done, "they wait for their turn"
    for one in clients:
        one.leave.set()
    done, waiting = await asyncio.wait(calls, timeout=PATIENCE_S)
    for call in waiting:
        call.cancel()
    assert (len(done), [one.got for one in clients]) == (5, [[]] * 5)
    for _ in range(places):
        turns.release()
    assert (await api.http.get(path)).status_code == 200


@pytest.mark.parametrize(("method", "ends"), [("GET", True), ("HEAD", True), ("POST", False), ("DELETE", False)])
async def test_what_may_change_something_goes_on_without_its_client(method: str, ends: bool) -> None:
    go_on, outcome = asyncio.Event(), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await go_on.wait()
            outcome.append("done")
        except asyncio.CancelledError:
            outcome.append("ended")
            raise

    client = Leaver()
    client.leave.set()
    call = asyncio.ensure_future(AbandonedReadMiddleware(app)(request_of(method, "/"), client.receive, client.send))
    await asyncio.wait({call}, timeout=PATIENCE_S if ends else 0.2)
    go_on.set()
    await asyncio.wait({call}, timeout=PATIENCE_S)
    assert outcome == (["ended"] if ends else ["done"])
    assert (type(call.exception()).__name__ == "ClientDisconnect") is ends


async def test_an_error_and_an_answer_pass_through() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "http.request"
        if scope["path"] == "/wrong":
            raise LookupError("as it was")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"whole"})

    transport = httpx.ASGITransport(AbandonedReadMiddleware(app))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        assert (await http.get("/")).text == "whole"
        with pytest.raises(LookupError, match="as it was"):
            await http.get("/wrong")
