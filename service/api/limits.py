"""What a body may be, whatever its headers say: so many bytes, and not slower than so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import problem_answer
from service.errors import BodyTooLarge, BodyTooSlow, ServiceError

SLOWEST_BYTES_PER_S = 16 << 10
"""A body that comes no slower than this may be of any allowed size."""


class _Refused(Exception):
    """Raised into the application where it reads on."""


class BodyLimit:
    """ASGI middleware: counts the bytes that really arrive, and the time that they keep us waiting: 413, 408."""

    def __init__(self, app: ASGIApp, max_bytes: int, patience_s: float, refused: Callable[[str, Scope], None]) -> None:
        """`patience_s`: a body may keep us waiting so long, and longer by what it has brought at
        SLOWEST_BYTES_PER_S. `refused`: told the slug of every refusal."""
        self._app, self._max_bytes, self._patience_s, self._refused = app, max_bytes, patience_s, refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers 413 or 408."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and int(announced) > self._max_bytes:
            await self._refuse(scope, receive, send, self._too_large(f"{announced} bytes"))
            return
        await self._read(scope, receive, send)

    async def _read(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = _Body(receive, self._max_bytes, self._patience_s)
        answering = False

        async def watched(message: Message) -> None:
            nonlocal answering
            # Whatever the application made of the exception: the answer is ours.
            if (body.too_large or body.too_slow) and not answering:
                raise _Refused
            answering = True
            await send(message)

        try:
            await self._app(scope, body.receive, watched)
        except _Refused:
            if not answering:
                error = self._too_large("more") if body.too_large else self._too_slow()
                await self._refuse(scope, receive, send, error)

    def _too_large(self, given: str) -> ServiceError:
        return BodyTooLarge(
            f"the body has {given}; at most {self._max_bytes} bytes are allowed: send a smaller image, or raise "
            "GLAD_MAX_IMAGE_BYTES"
        )

    def _too_slow(self) -> ServiceError:
        return BodyTooSlow(
            f"the body kept the service waiting for more than {self._patience_s:g} s and came with less than "
            f"{SLOWEST_BYTES_PER_S >> 10} KiB a second: send it faster, or raise GLAD_BODY_TIMEOUT_S"
        )

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, error: ServiceError) -> None:
        self._refused(error.slug, scope)
        answer = problem_answer(error, scope["path"])
        answer.headers["Connection"] = "close"  # the rest of the body is not read
        await answer(scope, receive, send)


class _Body:
    """One request's body while it comes."""

    def __init__(self, receive: Receive, max_bytes: int, patience_s: float) -> None:
        self._receive, self._max_bytes, self._patience_s = receive, max_bytes, patience_s
        self._received, self._waited_s, self._complete = 0, 0.0, False
        self.too_large = self.too_slow = False

    async def receive(self) -> Message:
        """The next message. After the body there is only the client's goodbye, which may take any time."""
        if self._complete:
            return await self._receive()
        message = await self._in_time()
        self._received += len(message.get("body", b""))
        self._complete = not message.get("more_body", False)
        if self._received > self._max_bytes:
            self.too_large = True
            raise _Refused
        return message

    async def _in_time(self) -> Message:
        began = time.monotonic()
        left_s = self._patience_s + self._received / SLOWEST_BYTES_PER_S - self._waited_s
        try:
            return await asyncio.wait_for(self._receive(), max(0.0, left_s))
        except TimeoutError:
            self.too_slow = True
            raise _Refused from None
        finally:
            self._waited_s += time.monotonic() - began
