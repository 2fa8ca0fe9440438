"""Limits of request bodies, whatever their headers say: bytes of one body, bytes of all bodies together, and speed."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import NoReturn

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.dependencies import Services
from service.api.middleware.observability import count_refusal
from service.api.problems import problem_answer
from service.api.uploads.decoding import UploadBudget
from service.errors import BodyTooLarge, BodyTooSlow, ServiceError, TooManyUploads

SLOWEST_BYTES_PER_S = 16 << 10
"""A body that comes at least this fast may take as long as its allowed size needs."""
MAX_JSON_BYTES = 256 << 10
"""Limit of a call that takes no image: a station of 32 expected views with every letter escaped has 50 KB."""
_IMAGE_PATHS = ("/inspections", "/inspections:batch", "/infer")
"""Ends of the paths whose bodies hold images."""


@dataclass(frozen=True)
class BodyLimits:
    """Limits of one request's body."""

    max_bytes: int
    """Of a body that holds images; other bodies may have `MAX_JSON_BYTES`."""
    timeout_s: float
    """Longest wait for a body, all waits added up; it grows by the bytes received / `SLOWEST_BYTES_PER_S`."""

    def max_bytes_of(self, path: str) -> int:
        """Return the most bytes that a body sent to this path may have."""
        return self.max_bytes if path.endswith(_IMAGE_PATHS) else min(self.max_bytes, MAX_JSON_BYTES)


class _BodyRefused(Exception):
    """Ends the application where it reads on."""


class BodyLimitMiddleware:
    """ASGI middleware: counts the bytes that really arrive, and the time that the service waits for them."""

    def __init__(self, app: ASGIApp, limits: BodyLimits) -> None:
        self._app, self._limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 408, 413 or 429."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        services: Services = scope["app"].state.services
        budget = services.upload_budget
        body = _Body(receive, self._limits, budget, self._limits.max_bytes_of(scope["path"]))
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and int(announced) > body.max_bytes:
            await self._refuse(scope, receive, send, body.too_large(f"{announced} bytes"))
            return
        try:
            await self._read(scope, body, send)
        finally:
            budget.release(body.received)

    async def _read(self, scope: Scope, body: _Body, send: Send) -> None:
        answering = False

        async def send_unless_refused(message: Message) -> None:
            nonlocal answering
            # FastAPI turns an exception while it reads a body into an answer of its own: ours goes instead.
            if body.refusal is not None and not answering:
                raise _BodyRefused
            answering = True
            await send(message)

        try:
            await self._app(scope, body.receive, send_unless_refused)
        except _BodyRefused:
            if not answering and body.refusal is not None:
                await self._refuse(scope, body.receive, send, body.refusal)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, error: ServiceError) -> None:
        count_refusal(scope, error)
        answer = problem_answer(error, scope["path"])
        answer.headers["Connection"] = "close"  # the rest of the body is not read
        await answer(scope, receive, send)


class _Body:
    """The body of one request, while it is being received."""

    def __init__(self, receive: Receive, limits: BodyLimits, budget: UploadBudget, max_bytes: int) -> None:
        self._receive, self._limits, self._budget, self.max_bytes = receive, limits, budget, max_bytes
        self._waited_s, self._complete = 0.0, False
        self.received = 0
        """Bytes so far, all of them reserved in the budget."""
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
        if self.received + count > self.max_bytes:
            self._refuse(self.too_large("more"))
        try:
            self._budget.reserve(count)
        except TooManyUploads as error:
            self._refuse(error)
        self.received += count

    async def _receive_in_time(self) -> Message:
        began = time.monotonic()
        left_s = self._limits.timeout_s + self.received / SLOWEST_BYTES_PER_S - self._waited_s
        try:
            return await asyncio.wait_for(self._receive(), max(0.0, left_s))
        except TimeoutError:
            self._refuse(self._too_slow())
        finally:
            self._waited_s += time.monotonic() - began

    def _refuse(self, error: ServiceError) -> NoReturn:
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
