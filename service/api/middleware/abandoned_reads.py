"""Reads whose client has left end at once: nobody waits for the answer, and others wait for their turn behind it.

Statistics and pages of the history are made a few at a time. A display that gives up after a second and asks again
would otherwise fill the line with calls that nobody reads, and keep it full. Only calls that change nothing end so: of
any other a client that left may have meant it.
"""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.cancelling import cancel_and_wait


class AbandonedReadMiddleware:
    """ASGI middleware: ends a GET or HEAD when its client has left."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on.

        Raises:
            ClientDisconnect: if the client left before it was answered.
        """
        if not _is_plain_read(scope):
            await self._app(scope, receive, send)
            return
        client = _Client(receive, await receive())
        answering = asyncio.ensure_future(self._app(scope, client.receive, send))
        leaving = asyncio.ensure_future(client.wait_until_left())
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            has_left = not answering.done()
            try:
                await cancel_and_wait(answering)
            finally:
                await cancel_and_wait(leaving)
        if has_left:
            raise ClientDisconnect
        answering.result()


class _Client:
    """The client of a request without a body."""

    def __init__(self, receive: Receive, first: Message) -> None:
        self._receive, self._first = receive, first
        self._given, self._left = False, asyncio.Event()
        if first["type"] == "http.disconnect":
            self._left.set()

    async def receive(self) -> Message:
        """Return the request's empty body, and later that the client has left."""
        if not self._given:
            self._given = True
            return self._first
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def wait_until_left(self) -> None:
        """Return when the client has left, or was answered."""
        while not self._left.is_set():
            if (await self._receive())["type"] == "http.disconnect":
                self._left.set()


def _is_plain_read(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] not in {"GET", "HEAD"}:
        return False
    headers = Headers(scope=scope)
    return "content-length" not in headers and "transfer-encoding" not in headers
