"""What a body may be, whatever its headers say: so many bytes, all bodies together so many, and not slower than so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import problem_answer
from service.api.uploads.memory_budget import Held
from service.errors import BodyTooLarge, BodyTooSlow, ServiceError, TooManyUploads

SLOWEST_BYTES_PER_S = 16 << 10
"""A body that comes no slower than this may be of any allowed size."""
MAX_JSON_BYTES = 256 << 10
"""Of a call that takes no image: a station of 32 expected views with every letter escaped has 50 KB."""
_WITH_IMAGES = ("/inspections", "/inspections:batch", "/infer")
"""How the paths end whose bodies hold images."""


@dataclass(frozen=True)
class Limits:
    """What bodies may be."""

    max_bytes: int
    """Of one body that holds images; others may have `MAX_JSON_BYTES`."""
    patience_s: float
    """A body may keep us waiting so long, and longer by what it has brought at SLOWEST_BYTES_PER_S."""

    def of(self, path: str) -> int:
        """The most bytes that a body sent to this path may have."""
        return self.max_bytes if path.endswith(_WITH_IMAGES) else min(self.max_bytes, MAX_JSON_BYTES)


class _Refused(Exception):
    """Raised into the application where it reads on."""


class BodyLimit:
    """ASGI middleware: counts the bytes that really arrive, and the time that they keep us waiting: 413, 429, 408."""

    def __init__(
        self, app: ASGIApp, limits: Limits, held: Callable[[], Held], refused: Callable[[str, Scope], None]
    ) -> None:
        """`held`: what the process holds, once it has started. `refused`: told the slug of every refusal."""
        self._app, self._limits, self._held, self._refused = app, limits, held, refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers 413, 429 or 408."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        held = self._held()
        body = _Body(receive, self._limits, held, self._limits.of(scope["path"]))
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and int(announced) > body.max_bytes:
            await self._refuse(scope, receive, send, body.too_large(f"{announced} bytes"))
            return
        try:
            await self._read(scope, body, send)
        finally:
            held.give_back(body.received)

    async def _read(self, scope: Scope, body: _Body, send: Send) -> None:
        answering = False

        async def watched(message: Message) -> None:
            nonlocal answering
            # Whatever the application made of the exception: the answer is ours.
            if body.refusal is not None and not answering:
                raise _Refused
            answering = True
            await send(message)

        try:
            await self._app(scope, body.receive, watched)
        except _Refused:
            if not answering and body.refusal is not None:
                await self._refuse(scope, body.receive, send, body.refusal)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, error: ServiceError) -> None:
        self._refused(error.slug, scope)
        answer = problem_answer(error, scope["path"])
        answer.headers["Connection"] = "close"  # the rest of the body is not read
        await answer(scope, receive, send)


class _Body:
    """One request's body while it comes."""

    def __init__(self, receive: Receive, limits: Limits, held: Held, max_bytes: int) -> None:
        self._receive, self._limits, self._held, self.max_bytes = receive, limits, held, max_bytes
        self._waited_s, self._complete = 0.0, False
        self.received = 0
        """Bytes, all of them held."""
        self.refusal: ServiceError | None = None

    async def receive(self) -> Message:
        """The next message. After the body there is only the client's goodbye, which may take any time."""
        if self._complete:
            return await self._receive()
        message = await self._in_time()
        self._complete = not message.get("more_body", False)
        self._keep(len(message.get("body", b"")))
        return message

    def _keep(self, count: int) -> None:
        if self.received + count > self.max_bytes:
            self._refuse(self.too_large("more"))
        try:
            self._held.take(count)
        except TooManyUploads as error:
            self._refuse(error)
        self.received += count

    async def _in_time(self) -> Message:
        began = time.monotonic()
        left_s = self._limits.patience_s + self.received / SLOWEST_BYTES_PER_S - self._waited_s
        try:
            return await asyncio.wait_for(self._receive(), max(0.0, left_s))
        except TimeoutError:
            self._refuse(self._too_slow())
        finally:
            self._waited_s += time.monotonic() - began

    def _refuse(self, error: ServiceError) -> NoReturn:
        self.refusal = error
        raise _Refused from None

    def too_large(self, given: str) -> ServiceError:
        """It has so many bytes."""
        way_out = (
            "this call takes a short one"
            if self.max_bytes < self._limits.max_bytes
            else "send a smaller image, or raise GLAD_MAX_IMAGE_BYTES"
        )
        return BodyTooLarge(f"the body has {given}; at most {self.max_bytes} bytes are allowed: {way_out}")

    def _too_slow(self) -> ServiceError:
        return BodyTooSlow(
            f"the body kept the service waiting for more than {self._limits.patience_s:g} s and came with less than "
            f"{SLOWEST_BYTES_PER_S >> 10} KiB a second: send it faster, or raise GLAD_BODY_TIMEOUT_S"
        )
