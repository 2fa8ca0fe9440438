"""Limits of requests, whatever headers say: bytes of one body, bytes of all requests and answers together, and speed.

One more is no fault of the client: the time that a request may wait for Redis.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import NoReturn

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.dependencies import Services
from service.api.middleware.observability import count_refusal
from service.api.problems import problem_answer
from service.api.uploads.budget import HeldBytes
from service.auth.scopes import takes_images
from service.errors import BodyTooLarge, BodyTooSlow, ServiceError, TooManyUploads
from service.queue.patience import sharing_patience

SLOWEST_BYTES_PER_S = 16 << 10
"""A body that comes at least this fast may take as long as its allowed size needs."""
MAX_JSON_BYTES = 256 << 10
"""Limit of a call that takes no image: a station of 32 expected views with every letter escaped has 50 KB."""
PIECE_BYTES = 64 << 10
"""What is sent of an answer at a time: only so much waits in the socket for a client that does not read."""


@dataclass(frozen=True)
class BodyLimits:
    """Limits of one request's body."""

    max_bytes: int
    """Of a body that holds images; other bodies may have `MAX_JSON_BYTES`."""
    timeout_s: float
    """Longest silence. Waits add up; each byte that comes takes 1 / `SLOWEST_BYTES_PER_S` seconds off the sum."""

    def max_bytes_of(self, scope: Scope) -> int:
        """Return the most bytes that the body of this request may have."""
        route = scope.get("route")
        if route is not None and takes_images(scope["method"], route.path_format):
            return self.max_bytes
        return min(self.max_bytes, MAX_JSON_BYTES)


class PatienceMiddleware:
    """ASGI middleware: all that a request asks of Redis takes at most GLAD_REDIS_ANSWER_S, or a little more.

    An answer that has begun may go on for hours, as the event stream does: it has as much time for each further part.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        services: Services = scope["app"].state.services
        with sharing_patience(services.settings.redis_answer_s) as patience:

            async def renewing_send(message: Message) -> None:
                await send(message)
                patience.renew()

            await self._app(scope, receive, renewing_send)


class _BodyRefused(Exception):
    """Ends the application where it reads on."""


class BodyLimitMiddleware:
    """ASGI middleware: counts the bytes that really arrive and leave, and the time that the service waits for them."""

    def __init__(self, app: ASGIApp, limits: BodyLimits) -> None:
        self._app, self._limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 408, 413 or 429."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        services: Services = scope["app"].state.services
        with services.upload_budget.open(scope["state"]["caller"].id) as held:
            scope["state"]["held"] = held
            body = _Body(receive, self._limits, held, self._limits.max_bytes_of(scope))
            announced = Headers(scope=scope).get("content-length", "")
            # An address that does not exist takes no body: that it does not exist is what its caller must know.
            if scope.get("route") and announced.isdecimal() and int(announced) > body.max_bytes:
                await self._refuse(scope, receive, send, body.too_large(f"{announced} bytes"))
                return
            await self._answer(scope, body, _Answer(send, held, body))

    async def _answer(self, scope: Scope, body: _Body, answer: _Answer) -> None:
        try:
            await self._app(scope, body.receive, answer.send)
        except _BodyRefused:
            if not answer.begun and body.refusal is not None:
                await self._refuse(scope, body.receive, answer.send_as_it_is, body.refusal)
        except ClientDisconnect:
            scope["state"]["client_left"] = True  # nobody is there to be answered

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, error: ServiceError) -> None:
        count_refusal(scope, error)
        answer = problem_answer(error, scope["path"])
        answer.headers["Connection"] = "close"  # the rest of the body is not read
        await answer(scope, receive, send)


class _Body:
    """The body of one request, while it is being received."""

    def __init__(self, receive: Receive, limits: BodyLimits, held: HeldBytes, max_bytes: int) -> None:
        self._receive, self._limits, self._held, self.max_bytes = receive, limits, held, max_bytes
        self._waited_s, self._complete = 0.0, False
        self._received = 0
        self.refusal: ServiceError | None = None

    async def receive(self) -> Message:
        """Return the next message.

        Raises:
            _BodyRefused: if the body is too large or too slow; `refusal` says which.
        """
        if self._complete:
            return await self._receive()  # after the body comes only the disconnect: it may take any time
        message = await self._receive_in_time()
        self._complete = not message.get("more_body", False)
        self._count(len(message.get("body", b"")))
        return message

    def _count(self, count: int) -> None:
        if self._received + count > self.max_bytes:
            self.refuse(self.too_large("more"))
        try:
            self._held.reserve(count)
        except TooManyUploads as error:
            self.refuse(error)
        self._received += count
        self._waited_s = max(0.0, self._waited_s - count / SLOWEST_BYTES_PER_S)

    async def _receive_in_time(self) -> Message:
        began = time.monotonic()
        try:
            return await asyncio.wait_for(self._receive(), max(0.0, self._limits.timeout_s - self._waited_s))
        except TimeoutError:
            self.refuse(self._too_slow())
        finally:
            self._waited_s += time.monotonic() - began

    def refuse(self, error: ServiceError) -> NoReturn:
        """End the application; it is answered with this error, unless its own answer has begun."""
        self.refusal = error
        raise _BodyRefused from None

    def too_large(self, given: str) -> ServiceError:
        """Return the refusal of a body that has `given` bytes, or "more" than allowed."""
        way_out = (
            "this call takes a short one"
            if self.max_bytes < self._limits.max_bytes
            else "send a smaller image, or raise GLAD_MAX_IMAGE_BYTES"
        )
        return BodyTooLarge(f"the body has {given}; at most {self.max_bytes} bytes are allowed: {way_out}")

    def _too_slow(self) -> ServiceError:
        return BodyTooSlow(
            f"the body kept the service waiting for more than {self._limits.timeout_s:g} s and came with less than "
            f"{SLOWEST_BYTES_PER_S >> 10} KiB a second: send it faster, or raise GLAD_BODY_TIMEOUT_S"
        )


class _Answer:
    """The answer to one request, while it is being sent: in small pieces, and counted as long as it is held."""

    def __init__(self, send: Send, held: HeldBytes, body: _Body) -> None:
        self.send_as_it_is, self._held, self._body = send, held, body
        self._head: Message | None = None
        self.begun = False
        """Its head is on its way: no other answer can be given any more."""

    async def send(self, message: Message) -> None:
        """Pass a message on.

        Raises:
            _BodyRefused: if the request's body was refused, or the answer exceeds what the process may hold.
        """
        # FastAPI turns an exception while it reads a body into an answer of its own: ours goes instead.
        if self._body.refusal is not None and not self.begun:
            raise _BodyRefused
        if message["type"] == "http.response.start":
            self._head = message  # until it is certain that there is room for what follows
        elif len(message.get("body", b"")) > PIECE_BYTES:
            await self._send_in_pieces(message)
        else:
            await self._begin()
            await self.send_as_it_is(message)

    async def _begin(self) -> None:
        if self._head is not None:
            head, self._head, self.begun = self._head, None, True
            await self.send_as_it_is(head)

    async def _send_in_pieces(self, message: Message) -> None:
        content = memoryview(message["body"])
        held = 0 if self.begun else len(content)  # what comes later is a piece of a stream: few are there at a time
        try:
            self._held.reserve(held)
        except TooManyUploads as error:
            self._body.refuse(error)
        await self._begin()
        for start in range(0, len(content), PIECE_BYTES):
            more = start + PIECE_BYTES < len(content) or message.get("more_body", False)
            piece = bytes(content[start : start + PIECE_BYTES])
            await self.send_as_it_is({"type": "http.response.body", "body": piece, "more_body": more})
        self._held.release(held)
