"""The first thing that a request meets: its body may have so many bytes and no more, whatever its headers say."""

from __future__ import annotations

from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import PROBLEM_JSON, BodyTooLarge


class _TooLarge(Exception):
    """Raised into the application where it reads on."""


class BodyLimit:
    """ASGI middleware: counts the bytes that really arrive and answers 413 beyond the limit."""

    def __init__(self, app: ASGIApp, max_bytes: int, refused: Callable[[], None]) -> None:
        """`refused`: told of every 413."""
        self._app, self._max_bytes, self._refused = app, max_bytes, refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers 413."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and int(announced) > self._max_bytes:
            await self._refuse(scope, send, f"{announced} bytes")
            return
        await self._count(scope, receive, send)

    async def _count(self, scope: Scope, receive: Receive, send: Send) -> None:
        received = 0
        answering = False

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise _TooLarge
            return message

        async def watched(message: Message) -> None:
            nonlocal answering
            # Whatever the application made of the exception: the answer is 413.
            if received > self._max_bytes and not answering:
                raise _TooLarge
            answering = True
            await send(message)

        try:
            await self._app(scope, counted, watched)
        except _TooLarge:
            if not answering:
                await self._refuse(scope, send, "more")

    async def _refuse(self, scope: Scope, send: Send, given: str) -> None:
        self._refused()
        error = BodyTooLarge(
            f"the body has {given}; at most {self._max_bytes} bytes are allowed: send a smaller image, or raise "
            "GLAD_MAX_IMAGE_BYTES"
        )
        body = error.problem(scope["path"]).model_dump_json(exclude_none=True).encode()
        headers = [
            (b"content-type", PROBLEM_JSON.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),  # the rest of the body is not read
        ]
        await send({"type": "http.response.start", "status": int(error.status), "headers": headers})
        await send({"type": "http.response.body", "body": body})
