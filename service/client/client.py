"""The Python client: submit an image, wait for its inspection, fetch its pictures, follow what ends.

with Client("http://127.0.0.1:8000") as client:
    inspection = client.submit("bracket", Path("part.png").read_bytes(), wait_s=10)
    inspection = client.wait(inspection.id)
    print(inspection.verdict, inspection.score)
    Path("overlay.png").write_bytes(client.artifact(inspection.id, "overlay.png"))

`AsyncClient` has the same methods for asyncio. Both retry whatever is safe to retry; what they raise is drawn in
`service.client.retries`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from service.client.retries import (
    ApiError,
    Calls,
    ClientError,
    HistoryPage,
    NotFinished,
    Outcome,
    Pause,
    Send,
    Steps,
    Trail,
    Unreachable,
    address_of,
    problem_of,
)
from service.client.sse import EventReader, ServerEvent
from service.contract import ArtifactName, Result

__all__ = [
    "ApiError",
    "AsyncClient",
    "Client",
    "ClientError",
    "HistoryPage",
    "NotFinished",
    "ServerEvent",
    "Unreachable",
]

CONNECTIONS = 64
HISTORY_PAGE = 500

T = TypeVar("T")


class Client:
    """Speaks to one service. Safe to use from several threads."""

    def __init__(
        self, url: str, *, api_key: str | None = None, patience_s: float = 60.0, timeout_s: float = 10.0
    ) -> None:
        """`patience_s`: how long one call goes on retrying. `timeout_s`: how long one attempt waits for bytes."""
        self._http = httpx.Client(**_options(url, api_key, timeout_s))
        self._calls = Calls(url, patience_s, timeout_s)
        self.url = url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
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
        """Submits one image; with `wait_s`, the service holds the answer that long for the result.

        A retry never makes a second inspection: without a key of yours, each call has its own. `fields`: serial, lot,
        view, station and the other fields of the REST contract. With None for the product, `station` is the address:
        the image is of the product that the station is set to.
        """
        address = address_of(product, station)
        return self._take(self._calls.submit(address, image, idempotency_key, wait_s, fields))

    def products(self) -> tuple[str, ...]:
        """Names of the products that can be inspected."""
        return self._take(self._calls.products())

    def get(self, inspection_id: str) -> Result:
        """The inspection as it stands."""
        return self._take(self._calls.get(inspection_id))

    def wait(self, inspection_id: str, seconds: float = 60.0, every_s: float = 0.25) -> Result:
        """The ended inspection; NotFinished if it has not ended in that time."""
        return self._take(self._calls.wait(inspection_id, seconds, every_s))

    def artifact(self, inspection_id: str, name: ArtifactName) -> bytes:
        """One picture of an inspection, or its map."""
        return self._take(self._calls.artifact(inspection_id, name))

    def history_page(
        self, *, after: str | None = None, limit: int = 100, filters: Mapping[str, str] | None = None
    ) -> HistoryPage:
        """One page of ended inspections behind the cursor `after`. `filters`: product, serial, lot, station, verdict,
        state, since, until, and order."""
        return self._take(self._calls.history_page(after, limit, filters))

    def history(self, *, after: str | None = None, filters: Mapping[str, str] | None = None) -> Iterator[Result]:
        """Every ended inspection behind the cursor, page by page, to the end that the history has by then."""
        more = True
        while more:
            page = self.history_page(after=after, limit=HISTORY_PAGE, filters=filters)
            yield from page.inspections
            after, more = page.next, page.more

    def events(
        self, *, last_event_id: str | None = None, product: str | None = None, station: str | None = None
    ) -> Iterator[ServerEvent]:
        """What ends, as it ends, without end; behind `last_event_id`, or from now on. A cut connection is opened again
        where it broke. Keep the `id` of what you have dealt with, to go on there after a restart.

        Each event comes at least once. Unreachable: the service gave no stream for longer than the client's patience.
        """
        trail = Trail(self._calls, last_event_id, product, station)
        while True:
            failure: httpx.TransportError | ApiError | None = None
            try:
                for event in self._stream(trail.request()):
                    if trail.passes(event):
                        yield event
            except (httpx.TransportError, ApiError) as error:
                failure = error
            time.sleep(trail.pause_s(failure))

    def _stream(self, request: Send) -> Iterator[ServerEvent]:
        reader = EventReader()
        with self._http.stream(request.method, request.path, **request.options) as answer:
            if not answer.is_success:
                answer.read()
                raise problem_of(answer)
            for chunk in answer.iter_text():
                yield from reader.feed(chunk)

    def _take(self, steps: Steps[T]) -> T:
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as end:
                value: T = end.value
                return value
            outcome = self._step(step)

    def _step(self, step: Send | Pause) -> Outcome:
        if isinstance(step, Pause):
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
        self._calls = Calls(url, patience_s, timeout_s)
        self.url = url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
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
        address = address_of(product, station)
        return await self._take(self._calls.submit(address, image, idempotency_key, wait_s, fields))

    async def products(self) -> tuple[str, ...]:
        """As `Client.products`."""
        return await self._take(self._calls.products())

    async def get(self, inspection_id: str) -> Result:
        """As `Client.get`."""
        return await self._take(self._calls.get(inspection_id))

    async def wait(self, inspection_id: str, seconds: float = 60.0, every_s: float = 0.25) -> Result:
        """As `Client.wait`."""
        return await self._take(self._calls.wait(inspection_id, seconds, every_s))

    async def artifact(self, inspection_id: str, name: ArtifactName) -> bytes:
        """As `Client.artifact`."""
        return await self._take(self._calls.artifact(inspection_id, name))

    async def history_page(
        self, *, after: str | None = None, limit: int = 100, filters: Mapping[str, str] | None = None
    ) -> HistoryPage:
        """As `Client.history_page`."""
        return await self._take(self._calls.history_page(after, limit, filters))

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
        trail = Trail(self._calls, last_event_id, product, station)
        while True:
            failure: httpx.TransportError | ApiError | None = None
            try:
                async for event in self._stream(trail.request()):
                    if trail.passes(event):
                        yield event
            except (httpx.TransportError, ApiError) as error:
                failure = error
            await asyncio.sleep(trail.pause_s(failure))

    async def _stream(self, request: Send) -> AsyncIterator[ServerEvent]:
        reader = EventReader()
        async with self._http.stream(request.method, request.path, **request.options) as answer:
            if not answer.is_success:
                await answer.aread()
                raise problem_of(answer)
            async for chunk in answer.aiter_text():
                for event in reader.feed(chunk):
                    yield event

    async def _take(self, steps: Steps[T]) -> T:
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as end:
                value: T = end.value
                return value
            outcome = await self._step(step)

    async def _step(self, step: Send | Pause) -> Outcome:
        if isinstance(step, Pause):
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
