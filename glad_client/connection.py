"""The connection to a service, which takes the steps of calls: `Connection` blocks, `AsyncConnection` awaits.

The calls themselves are written once, in `glad_client.calls`; what is different for asyncio stands here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio
import httpx

from glad_client.errors import problem_of
from glad_client.retries import PauseStep, RequestStep, StepResult, Steps
from glad_client.sse import EventReader, ServerEvent

CONNECTIONS = 64
EXAMPLE_URL = "http://127.0.0.1:8000"
T = TypeVar("T")


class Connection:
    """Takes the steps of calls, one after the other. Safe to use from several threads."""

    def __init__(self, url: str, api_key: str | None, timeout_s: float) -> None:
        """Prepare it; the first call connects.

        Raises:
            ValueError: for a URL that is none of a service, or a key that cannot be sent.
        """
        self._http = httpx.Client(**connection_options(url, api_key, timeout_s))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _run(self, steps: Steps[T]) -> T:
        """Take the steps of a call, one after the other, and return the call's value."""
        outcome: StepResult = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as end:
                value: T = end.value
                return value
            outcome = self._step(step)

    def _step(self, step: RequestStep | PauseStep) -> StepResult:
        if isinstance(step, PauseStep):
            time.sleep(step.seconds)
            return None
        try:
            return self._http.request(step.method, step.path, **step.options)
        except httpx.TransportError as error:
            return error

    def _stream(self, request: RequestStep) -> Iterator[ServerEvent]:
        reader = EventReader()
        with self._http.stream(request.method, request.path, **request.options) as answer:
            if not answer.is_success:
                answer.read()
                raise problem_of(answer)
            for chunk in answer.iter_text():
                yield from reader.feed(chunk)


class AsyncConnection:
    """As `Connection`, for asyncio."""

    def __init__(self, url: str, api_key: str | None, timeout_s: float) -> None:
        """As `Connection`."""
        self._http = httpx.AsyncClient(**connection_options(url, api_key, timeout_s))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _run(self, steps: Steps[T]) -> T:
        outcome: StepResult = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as end:
                value: T = end.value
                return value
            outcome = await self._step(step)

    async def _step(self, step: RequestStep | PauseStep) -> StepResult:
        if isinstance(step, PauseStep):
            await asyncio.sleep(step.seconds)
            return None
        try:
            return await _cleaning_up(self._http.request(step.method, step.path, **step.options))
        except httpx.TransportError as error:
            return error

    async def _stream(self, request: RequestStep) -> AsyncIterator[ServerEvent]:
        reader = EventReader()
        async with self._http.stream(request.method, request.path, **request.options) as answer:
            if not answer.is_success:
                await answer.aread()
                raise problem_of(answer)
            async for chunk in answer.aiter_text():
                for event in reader.feed(chunk):
                    yield event


async def _cleaning_up(call: Coroutine[Any, Any, T]) -> T:
    """Await a call of httpx. If the caller is cancelled, the call is so in the way of anyio, and ends first.

    httpx shields its cleaning up from that way only: cancelled as asyncio does, in the wrong moment, a call keeps its
    place among the `CONNECTIONS` for ever.
    """
    scope = anyio.CancelScope()

    async def in_scope() -> T:
        with scope:
            return await call
        raise asyncio.CancelledError

    calling = asyncio.ensure_future(in_scope())
    try:
        return await asyncio.shield(calling)
    except asyncio.CancelledError:
        scope.cancel()
        await asyncio.wait({calling})
        if not calling.cancelled():
            calling.exception()  # else asyncio logs that nobody asked for it
        raise


def connection_options(url: str, api_key: str | None, timeout_s: float) -> dict[str, Any]:
    """Return what both kinds of httpx client are made with.

    Raises:
        ValueError: for a URL that is none of a service, or a key that cannot be sent.
    """
    if httpx.URL(url).scheme not in {"http", "https"}:
        raise ValueError(f"url is {url!r}: give the service's address with http:// or https://, as {EXAMPLE_URL}")
    if api_key and not (api_key.isascii() and api_key.isprintable()):
        raise ValueError("api_key holds characters that no API key has: give it as `glad key create` printed it")
    return {
        "base_url": url,
        "headers": {"Authorization": f"Bearer {api_key}"} if api_key else {},
        "timeout": timeout_s,
        "limits": httpx.Limits(max_connections=CONNECTIONS),
    }
