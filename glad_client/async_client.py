"""The Python client for asyncio: `AsyncClient` has the methods of `Client`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime
from typing import Any

import httpx

from glad_client.answers import (
    InspectionPage,
    Part,
    ProductView,
    Readiness,
    SessionView,
    StationHistory,
    StationSettings,
    StationView,
    ThresholdsView,
)
from glad_client.calls import HISTORY_PAGE, ApiCalls, Image, image_bytes, submission_path
from glad_client.connection import AsyncConnection
from glad_client.errors import ApiError
from glad_client.evaluations import EvaluationList, EvaluationView
from glad_client.fields import ArtifactName, ScreenPictureName
from glad_client.limit_samples import LimitSample, LimitSamplesView
from glad_client.part_statistics import ShiftList, Statistics
from glad_client.product_answers import GateDistribution, GateLimitsView, ProductChanges, ScoreDistribution
from glad_client.results import Decision, Result
from glad_client.retries import EventCursor, Patience
from glad_client.reviewing import AsyncReviewing, ReviewCalls
from glad_client.sse import ServerEvent


class AsyncClient(AsyncConnection):
    """As `Client`, for asyncio."""

    def __init__(
        self, url: str, *, api_key: str | None = None, patience_s: float = 60.0, timeout_s: float = 10.0
    ) -> None:
        """As `Client`."""
        super().__init__(url, api_key, timeout_s)
        self._calls = ApiCalls(Patience(url, patience_s), timeout_s)
        self.url = url
        self.reviews = AsyncReviewing(self._run, ReviewCalls(self._calls.patience, timeout_s))
        """As `Client.reviews`."""

    async def submit(
        self,
        product: str | None,
        image: Image,
        *,
        station: str | None = None,
        idempotency_key: str | None = None,
        wait_s: int = 0,
        fields: Mapping[str, str] | None = None,
    ) -> Result:
        """As `Client.submit`."""
        address = submission_path(product, station)
        content = await asyncio.to_thread(image_bytes, image)
        return await self._run(self._calls.submit(address, content, idempotency_key, wait_s, fields))

    async def inspect(
        self,
        product: str | None,
        image: Image,
        *,
        station: str | None = None,
        idempotency_key: str | None = None,
        seconds: float = 60.0,
        fields: Mapping[str, str] | None = None,
    ) -> Result:
        """As `Client.inspect`."""
        address = submission_path(product, station)
        content = await asyncio.to_thread(image_bytes, image)
        return await self._run(self._calls.inspect(address, content, idempotency_key, seconds, fields))

    async def products(self) -> tuple[str, ...]:
        """As `Client.products`."""
        return await self._run(self._calls.products())

    async def product(self, name: str) -> ProductView:
        """As `Client.product`."""
        return await self._run(self._calls.product(name))

    async def get(self, inspection_id: str) -> Result:
        """As `Client.get`."""
        return await self._run(self._calls.get(inspection_id))

    async def wait(self, inspection_id: str, seconds: float = 60.0, every_s: float = 0.25) -> Result:
        """As `Client.wait`."""
        return await self._run(self._calls.wait(inspection_id, seconds, every_s))

    async def artifact(self, inspection_id: str, name: ArtifactName | ScreenPictureName) -> bytes:
        """As `Client.artifact`."""
        return await self._run(self._calls.artifact(inspection_id, name))

    async def review(
        self,
        inspection_id: str,
        decision: Decision,
        *,
        by: str,
        note: str | None = None,
        defect_code: str | None = None,
    ) -> Result:
        """As `Client.review`."""
        return await self._run(self._calls.review(inspection_id, decision, by, note, defect_code))

    async def part(self, serial: str, *, expected_views: Sequence[str] = ()) -> Part:
        """As `Client.part`."""
        return await self._run(self._calls.part(serial, expected_views))

    async def statistics(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        product: str | None = None,
        station: str | None = None,
    ) -> Statistics:
        """As `Client.statistics`."""
        return await self._run(self._calls.statistics(since, until, product, station))

    async def shifts(self, count: int = 6) -> ShiftList:
        """As `Client.shifts`."""
        return await self._run(self._calls.shifts(count))

    async def change_thresholds(
        self,
        product: str,
        changes: Mapping[str, float | None],
        *,
        version: str | None = None,
        by: str | None = None,
        preview: bool = False,
        last: int = 1000,
        revision: int | None = None,
        note: str | None = None,
    ) -> ThresholdsView:
        """As `Client.change_thresholds`."""
        return await self._run(
            self._calls.change_thresholds(
                product, changes, version=version, by=by, preview=preview, last=last, revision=revision, note=note
            )
        )

    async def scores(self, product: str, *, version: str | None = None, last: int = 5000) -> ScoreDistribution:
        """As `Client.scores`."""
        return await self._run(self._calls.scores(product, version, last))

    async def gate(self, product: str, *, version: str | None = None, last: int = 1000) -> GateDistribution:
        """As `Client.gate`."""
        return await self._run(self._calls.gate(product, version, last))

    async def change_gate_limits(
        self,
        product: str,
        limits: Mapping[str, float | None],
        *,
        version: str | None = None,
        by: str | None = None,
        note: str | None = None,
        preview: bool = False,
        last: int = 1000,
        revision: int | None = None,
    ) -> GateLimitsView:
        """As `Client.change_gate_limits`."""
        return await self._run(
            self._calls.change_gate_limits(
                product, limits, version=version, by=by, note=note, preview=preview, last=last, revision=revision
            )
        )

    async def product_changes(self, product: str) -> ProductChanges:
        """As `Client.product_changes`."""
        return await self._run(self._calls.product_changes(product))

    async def evaluations(self, product: str, version: str) -> EvaluationList:
        """As `Client.evaluations`."""
        return await self._run(self._calls.evaluations(product, version))

    async def record_evaluation(
        self,
        product: str,
        version: str,
        record: Mapping[str, Any],
        *,
        by: str | None = None,
        note: str | None = None,
    ) -> EvaluationView:
        """As `Client.record_evaluation`."""
        return await self._run(self._calls.record_evaluation(product, version, record, by, note))

    async def remove_evaluation(self, product: str, version: str, evaluation: str, *, by: str | None = None) -> None:
        """As `Client.remove_evaluation`."""
        await self._run(self._calls.remove_evaluation(product, version, evaluation, by))

    async def stations(self) -> tuple[StationView, ...]:
        """As `Client.stations`."""
        return await self._run(self._calls.stations())

    async def station(self, name: str) -> StationHistory:
        """As `Client.station`."""
        return await self._run(self._calls.station(name))

    async def set_station(self, name: str, settings: StationSettings, *, by: str | None = None) -> StationView:
        """As `Client.set_station`."""
        return await self._run(self._calls.set_station(name, settings, by))

    async def hold_station(
        self, name: str, reason: str | None, *, by: str | None = None, lifted: str | None = None
    ) -> StationView:
        """As `Client.hold_station`."""
        return await self._run(self._calls.hold_station(name, reason, by, lifted))

    async def limit_samples(self, name: str) -> LimitSamplesView:
        """As `Client.limit_samples`."""
        return await self._run(self._calls.limit_samples(name))

    async def set_limit_samples(
        self, name: str, samples: Sequence[LimitSample], *, by: str | None = None
    ) -> LimitSamplesView:
        """As `Client.set_limit_samples`."""
        return await self._run(self._calls.set_limit_samples(name, samples, by))

    async def start_limit_check(self, name: str, *, by: str | None = None) -> LimitSamplesView:
        """As `Client.start_limit_check`."""
        return await self._run(self._calls.start_limit_check(name, by))

    async def cancel_limit_check(self, name: str, *, by: str | None = None) -> LimitSamplesView:
        """As `Client.cancel_limit_check`."""
        return await self._run(self._calls.cancel_limit_check(name, by))

    async def remove_station(self, name: str, *, by: str | None = None) -> None:
        """As `Client.remove_station`."""
        return await self._run(self._calls.remove_station(name, by))

    async def session(self) -> SessionView:
        """As `Client.session`."""
        return await self._run(self._calls.session())

    async def ready(self) -> Readiness:
        """As `Client.ready`."""
        return await self._run(self._calls.ready())

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
        cursor = EventCursor(self._calls.patience, self._calls.timeout_s, last_event_id, product, station)
        while True:
            failure: httpx.TransportError | ApiError | None = None
            try:
                async for event in self._stream(cursor.request()):
                    if cursor.advance_to(event):
                        yield event
            except (httpx.TransportError, ApiError) as error:
                failure = error
            await asyncio.sleep(cursor.pause_s(failure))
