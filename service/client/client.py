"""The Python client: submit an image, wait for its inspection, fetch its pictures, follow the events.

with Client("http://127.0.0.1:8000") as client:
    inspection = client.submit("bracket", Path("part.png").read_bytes(), wait_s=10)
    inspection = client.wait(inspection.id)
    print(inspection.verdict, inspection.score)
    Path("overlay.png").write_bytes(client.artifact(inspection.id, "overlay.png"))

`AsyncClient` has the same methods for asyncio. Both retry every request that is safe to retry. Their errors are listed
in `service.client.retries`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from service.client.retries import (
    ApiCalls,
    ApiError,
    ClientError,
    EventCursor,
    InspectionPage,
    NotFinished,
    PauseStep,
    RequestStep,
    StepResult,
    Steps,
    Unreachable,
    problem_of,
    submission_path,
)
from service.client.sse import EventReader, ServerEvent
from service.contract import ArtifactName, Result

__all__ = [
    "ApiError",
    "AsyncClient",
    "Client",
    "ClientError",
    "InspectionPage",
    "NotFinished",
    "ServerEvent",
    "Unreachable",
]

CONNECTIONS = 64
HISTORY_PAGE = 500

T = TypeVar("T")


class Client:
    """A client of one service. Safe to use from several threads."""

    def __init__(
        self, url: str, *, api_key: str | None = None, patience_s: float = 60.0, timeout_s: float = 10.0
    ) -> None:
        """Make a client; the first call connects.

        Args:
            url: base address of the service.
            patience_s: how long one call keeps retrying, in seconds.
            timeout_s: how long one attempt waits for bytes, in seconds.
        """
        self._http = httpx.Client(**_options(url, api_key, timeout_s))
        self._calls = ApiCalls(url, patience_s, timeout_s)
        self.url = url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def submit(
        self,
        product: str | None,
        image: bytes,
        *,
        station: str | None = None,
        idempotency_key: str | None = None,
        wait_s: int = 0,
        fields: Mapping[str, str] | None = None,
    ) -> Result:
        """Submit one image and return its inspection, which may still be queued.

        A retry never makes a second inspection: all attempts of a call send the same idempotency key.

        Args:
            product: product to inspect the image as; None: the product that is set for `station`.
            image: the bytes of an image file.
            station: the station that took the image; only with None for the product. A product's station goes into
                `fields`.
            idempotency_key: calls with the same key are one inspection; None: each call has a key of its own.
            wait_s: how long the service holds its answer until the result is there, in seconds.
            fields: serial, lot, view, station and the other fields of the REST contract.

        Raises:
            ApiError: if the service refuses the image.
            Unreachable: if the service does not take it within the client's patience.
        """
        address = submission_path(product, station)
        return self._run(self._calls.submit(address, image, idempotency_key, wait_s, fields))

    def products(self) -> tuple[str, ...]:
        """Return the names of the products that can be inspected."""
        return self._run(self._calls.products())

    def get(self, inspection_id: str) -> Result:
        """Return the inspection in its current state."""
        return self._run(self._calls.get(inspection_id))

    def wait(self, inspection_id: str, seconds: float = 60.0, every_s: float = 0.25) -> Result:
        """Return the inspection once it has ended; ask for it every `every_s` seconds.

        Raises:
            NotFinished: if it has not ended in that many seconds.
        """
        return self._run(self._calls.wait(inspection_id, seconds, every_s))

    def artifact(self, inspection_id: str, name: ArtifactName) -> bytes:
        """Return the bytes of one picture of an inspection, or of its anomaly map."""
        return self._run(self._calls.artifact(inspection_id, name))

    def history_page(
        self, *, after: str | None = None, limit: int = 100, filters: Mapping[str, str] | None = None
    ) -> InspectionPage:
        """Return one page of ended inspections.

        Args:
            after: cursor of the page before; None: from the start of the history.
            filters: product, serial, lot, station, verdict, state, since, until, and order.
        """
        return self._run(self._calls.history_page(after, limit, filters))

    def history(self, *, after: str | None = None, filters: Mapping[str, str] | None = None) -> Iterator[Result]:
        """Yield the ended inspections after the cursor, page by page, to the current end of the history."""
        more = True
        while more:
            page = self.history_page(after=after, limit=HISTORY_PAGE, filters=filters)
            yield from page.inspections
            after, more = page.next, page.more

    def events(
        self, *, last_event_id: str | None = None, product: str | None = None, station: str | None = None
    ) -> Iterator[ServerEvent]:
        """Yield the events after `last_event_id`, or from now on, without end; each comes at least once.

        A connection that breaks is opened again at the same event. To continue after a restart of your program, store
        the `id` of the last event that you have handled.

        Raises:
            Unreachable: if the service gives no stream for longer than the client's patience.
        """
        cursor = EventCursor(self._calls, last_event_id, product, station)
        while True:
            failure: httpx.TransportError | ApiError | None = None
            try:
                for event in self._stream(cursor.request()):
                    if cursor.advance_to(event):
                        yield event
            except (httpx.TransportError, ApiError) as error:
                failure = error
            time.sleep(cursor.pause_s(failure))

    def _stream(self, request: RequestStep) -> Iterator[ServerEvent]:
        reader = EventReader()
        with self._http.stream(request.method, request.path, **request.options) as answer:
            if not answer.is_success:
                answer.read()
                raise problem_of(answer)
            for chunk in answer.iter_text():
                yield from reader.feed(chunk)

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


class AsyncClient:
    """As `Client`, for asyncio."""

    def __init__(
        self, url: str, *, api_key: str | None = None, patience_s: float = 60.0, timeout_s: float = 10.0
    ) -> None:
        """As `Client`."""
        self._http = httpx.AsyncClient(**_options(url, api_key, timeout_s))
        self._calls = ApiCalls(url, patience_s, timeout_s)
        self.url = url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def submit(
        self,
        product: str | None,
        image: bytes,
        *,
        station: str | None = None,
        idempotency_key: str | None = None,
        wait_s: int = 0,
        fields: Mapping[str, str] | None = None,
    ) -> Result:
        """As `Client.submit`."""
        address = submission_path(product, station)
        return await self._run(self._calls.submit(address, image, idempotency_key, wait_s, fields))

    async def products(self) -> tuple[str, ...]:
        """As `Client.products`."""
        return await self._run(self._calls.products())

    async def get(self, inspection_id: str) -> Result:
        """As `Client.get`."""
        return await self._run(self._calls.get(inspection_id))

    async def wait(self, inspection_id: str, seconds: float = 60.0, every_s: float = 0.25) -> Result:
        """As `Client.wait`."""
        return await self._run(self._calls.wait(inspection_id, seconds, every_s))

    async def artifact(self, inspection_id: str, name: ArtifactName) -> bytes:
        """As `Client.artifact`."""
        return await self._run(self._calls.artifact(inspection_id, name))

    async def history_page(
        self, *, after: str | None = None, limit: int = 100, filters: Mapping[str, str] | None = None
    ) -> InspectionPage:
        """As `Client.history_page`."""
        return await self._run(self._calls.history_page(after, limit, filters))

    async def history(
        self, *, after: str | None = None, filters: Mapping[str, str] | None = None
    ) -> AsyncGenerator[Result, None]:
        """As `Client.history`."""
        more = True
        while more:
            page = await self.history_page(after=after, limit=HISTORY_PAGE, filters=filters)
            for inspection in page.inspections:
                yield inspection
            after, more = page.next, page.more

    async def events(
        self, *, last_event_id: str | None = None, product: str | None = None, station: str | None = None
    ) -> AsyncGenerator[ServerEvent, None]:
        """As `Client.events`."""
        cursor = EventCursor(self._calls, last_event_id, product, station)
        while True:
            failure: httpx.TransportError | ApiError | None = None
            try:
                async for event in self._stream(cursor.request()):
                    if cursor.advance_to(event):
                        yield event
            except (httpx.TransportError, ApiError) as error:
                failure = error
            await asyncio.sleep(cursor.pause_s(failure))

    async def _stream(self, request: RequestStep) -> AsyncIterator[ServerEvent]:
        reader = EventReader()
        async with self._http.stream(request.method, request.path, **request.options) as answer:
            if not answer.is_success:
                await answer.aread()
                raise problem_of(answer)
            async for chunk in answer.aiter_text():
                for event in reader.feed(chunk):
                    yield event

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
            return await self._http.request(step.method, step.path, **step.options)
        except httpx.TransportError as error:
            return error


def _options(url: str, api_key: str | None, timeout_s: float) -> dict[str, Any]:
    return {
        "base_url": url,
        "headers": {"Authorization": f"Bearer {api_key}"} if api_key else {},
        "timeout": timeout_s,
        "limits": httpx.Limits(max_connections=CONNECTIONS),
    }
