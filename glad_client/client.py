"""The Python client: inspect an image, fetch its pictures, read the history, follow the events, set stations.

    with Client("http://127.0.0.1:8000") as client:
        inspection = client.inspect("bracket", "part.png")
        print(inspection.verdict, inspection.score)

`glad_client.async_client.AsyncClient` has the same methods for asyncio. Both retry every request that is safe to
retry. Their errors are listed in `glad_client.errors`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
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
from glad_client.connection import Connection
from glad_client.errors import ApiError
from glad_client.evaluations import EvaluationList, EvaluationView
from glad_client.fields import ArtifactName, ScreenPictureName
from glad_client.limit_samples import LimitSample, LimitSamplesView
from glad_client.part_statistics import ShiftList, Statistics
from glad_client.product_answers import GateDistribution, GateLimitsView, ProductChanges, ScoreDistribution
from glad_client.results import Decision, Result
from glad_client.retries import EventCursor, Patience
from glad_client.reviewing import ReviewCalls, Reviewing
from glad_client.sse import ServerEvent


class Client(Connection):
    """A client of one service. Safe to use from several threads."""

    def __init__(
        self, url: str, *, api_key: str | None = None, patience_s: float = 60.0, timeout_s: float = 10.0
    ) -> None:
        """Make a client; the first call connects.

        Args:
            url: base address of the service.
            api_key: sent with every request, where the service asks for one.
            patience_s: how long one call keeps retrying, in seconds.
            timeout_s: how long one attempt waits for bytes, in seconds.
        """
        super().__init__(url, api_key, timeout_s)
        self._calls = ApiCalls(Patience(url, patience_s), timeout_s)
        self.url = url
        self.reviews = Reviewing(self._run, ReviewCalls(self._calls.patience, timeout_s))
        """For people who review images: see `glad_client.reviewing`."""

    def submit(
        self,
        product: str | None,
        image: Image,
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
            image: the bytes of an image file, or its path.
            station: the station that took the image; only with None for the product. A product's station goes into
                `fields`.
            idempotency_key: calls with the same key are one inspection; None: each call has a key of its own.
            wait_s: how long the service holds its answer until the result is there, in seconds.
            fields: serial, lot, view, station and the other fields of the REST contract.

        Raises:
            ApiError: if the service refuses the image.
            Unreachable: if the service does not take it within the client's patience.
            OSError: if the file cannot be read.
        """
        address = submission_path(product, station)
        return self._run(self._calls.submit(address, image_bytes(image), idempotency_key, wait_s, fields))

    def inspect(
        self,
        product: str | None,
        image: Image,
        *,
        station: str | None = None,
        idempotency_key: str | None = None,
        seconds: float = 60.0,
        fields: Mapping[str, str] | None = None,
    ) -> Result:
        """Submit one image, wait for its inspection to end, and return it: `done`, `failed` or `expired`.

        Args:
            product: as for `submit`, like all others but `seconds`.
            seconds: how long to wait for the end after the service has taken the image.

        Raises:
            ApiError: if the service refuses the image.
            Unreachable: if the service does not take it within the client's patience.
            NotFinished: if it has not ended in that many seconds. It goes on: `wait` again.
        """
        address = submission_path(product, station)
        return self._run(self._calls.inspect(address, image_bytes(image), idempotency_key, seconds, fields))

    def products(self) -> tuple[str, ...]:
        """Return the names of the products that can be inspected."""
        return self._run(self._calls.products())

    def product(self, name: str) -> ProductView:
        """Return a product's versions, the thresholds in force, and its quality gate."""
        return self._run(self._calls.product(name))

    def get(self, inspection_id: str) -> Result:
        """Return the inspection in its current state."""
        return self._run(self._calls.get(inspection_id))

    def wait(self, inspection_id: str, seconds: float = 60.0, every_s: float = 0.25) -> Result:
        """Return the inspection once it has ended; ask for it every `every_s` seconds.

        Raises:
            NotFinished: if it has not ended in that many seconds.
        """
        return self._run(self._calls.wait(inspection_id, seconds, every_s))

    def artifact(self, inspection_id: str, name: ArtifactName | ScreenPictureName) -> bytes:
        """Return the bytes of one picture of an inspection, or of its anomaly map."""
        return self._run(self._calls.artifact(inspection_id, name))

    def review(
        self,
        inspection_id: str,
        decision: Decision,
        *,
        by: str,
        note: str | None = None,
        defect_code: str | None = None,
    ) -> Result:
        """Add an operator's decision to an ended inspection, and return it. The last review counts.

        A retry after a lost answer may record the decision twice, which changes nothing.

        Args:
            decision: `Decision.OK` or `Decision.DEFECT`.
            by: who judged.
            note: for people.
            defect_code: of the plant's list in the product's review plan.
        """
        return self._run(self._calls.review(inspection_id, decision, by, note, defect_code))

    def part(self, serial: str, *, expected_views: Sequence[str] = ()) -> Part:
        """Return the verdict of a part that is seen from several sides: the worst of its views.

        Args:
            serial: the part's serial number.
            expected_views: views that the part must have, beside those that its stations expect.
        """
        return self._run(self._calls.part(serial, expected_views))

    def statistics(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        product: str | None = None,
        station: str | None = None,
    ) -> Statistics:
        """Return how many parts of a time span pass, are for review and fail, by station, product, code and hour.

        Args:
            since: images that ended at this time or later; None: since the present shift began.
            until: images that ended before this time; None: now.
            product: only views of this product.
            station: only views of this station.

        Raises:
            ApiError: 422 for a span of more than 32 days or 250,000 inspections.
        """
        return self._run(self._calls.statistics(since, until, product, station))

    def shifts(self, count: int = 6) -> ShiftList:
        """Return the present shift and those before it, at most 100 together."""
        return self._run(self._calls.shifts(count))

    def change_thresholds(
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
        """Change a version's thresholds for images that come from now on, or show what a change would do.

        Args:
            product: its name.
            changes: review, fail, pixel: those left out stay; None restores the calibrated value.
            version: None: the active one.
            by: who; None: the name of the API key.
            preview: only show the effect.
            last: inspections to try the change on, at most 5000.
            revision: change only if the product is still at this one, which an earlier answer showed.
            note: why.

        Raises:
            ApiError: 412 if it is not; 422 if review would lie above fail.
        """
        return self._run(
            self._calls.change_thresholds(
                product, changes, version=version, by=by, preview=preview, last=last, revision=revision, note=note
            )
        )

    def scores(self, product: str, *, version: str | None = None, last: int = 5000) -> ScoreDistribution:
        """Return how the scores of a version's last inspections lie, beside its thresholds."""
        return self._run(self._calls.scores(product, version, last))

    def gate(self, product: str, *, version: str | None = None, last: int = 1000) -> GateDistribution:
        """Return a version's quality gate, and how the measures of its last images lie beside the limits."""
        return self._run(self._calls.gate(product, version, last))

    def change_gate_limits(
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
        """Change limits of a version's quality gate for images that come from now on, or show what a change would do.

        Args:
            product: its name.
            limits: darkest, brightest, black_share, white_share, sharpness, likeness: those left out stay; None
                restores what good images set.
            version, by, preview, last, revision: as of `change_thresholds`.
            note: why.

        Raises:
            ApiError: as `change_thresholds`; 409 if the version has no gate.
        """
        return self._run(
            self._calls.change_gate_limits(
                product, limits, version=version, by=by, note=note, preview=preview, last=last, revision=revision
            )
        )

    def product_changes(self, product: str) -> ProductChanges:
        """Return who changed what of a product and when, with the values before."""
        return self._run(self._calls.product_changes(product))

    def evaluations(self, product: str, version: str) -> EvaluationList:
        """Return what was measured of a version on labelled images, beside the yardstick."""
        return self._run(self._calls.evaluations(product, version))

    def record_evaluation(
        self,
        product: str,
        version: str,
        record: Mapping[str, Any],
        *,
        by: str | None = None,
        note: str | None = None,
    ) -> EvaluationView:
        """Record what was measured of a version, in place of an earlier evaluation on the same images.

        Args:
            product: its name.
            version: the one that was measured.
            record: what stands under `record` in the JSON file of `glad evaluate`.
            by: who records it.
            note: shown beside it.
        """
        return self._run(self._calls.record_evaluation(product, version, record, by, note))

    def remove_evaluation(self, product: str, version: str, evaluation: str, *, by: str | None = None) -> None:
        """Remove an evaluation of a version; recording it again brings it back."""
        self._run(self._calls.remove_evaluation(product, version, evaluation, by))

    def stations(self) -> tuple[StationView, ...]:
        """Return all stations that are set."""
        return self._run(self._calls.stations())

    def station(self, name: str) -> StationHistory:
        """Return a station's settings, and the changes that they went through."""
        return self._run(self._calls.station(name))

    def set_station(self, name: str, settings: StationSettings, *, by: str | None = None) -> StationView:
        """Replace a station's settings, as at a changeover.

        Args:
            settings: what is left out gets its default; but a hold or takt that is not named stays.
            by: who changes them; None: the name of the API key.
        """
        return self._run(self._calls.set_station(name, settings, by))

    def hold_station(
        self, name: str, reason: str | None, *, by: str | None = None, lifted: str | None = None
    ) -> StationView:
        """Put a station on hold: nothing passes there until it is lifted. Its settings stay.

        Args:
            name: the station's.
            reason: why; None: lift the hold. If a failed check's hold stood behind it, that one is in force then.
            by: who; None: the name of the API key.
            lifted: the `hold` to lift, as it was read: if another one is in force, it stays; None: any.
        """
        return self._run(self._calls.hold_station(name, reason, by, lifted))

    def limit_samples(self, name: str) -> LimitSamplesView:
        """Return a station's limit samples, the last check by them, and the checks before."""
        return self._run(self._calls.limit_samples(name))

    def set_limit_samples(
        self, name: str, samples: Sequence[LimitSample], *, by: str | None = None
    ) -> LimitSamplesView:
        """Replace the limit samples of a station: known parts, by their serials."""
        return self._run(self._calls.set_limit_samples(name, samples, by))

    def start_limit_check(self, name: str, *, by: str | None = None) -> LimitSamplesView:
        """Start a check: the samples are shown from now on, and the first wrong verdict holds the station."""
        return self._run(self._calls.start_limit_check(name, by))

    def cancel_limit_check(self, name: str, *, by: str | None = None) -> LimitSamplesView:
        """End the check that runs, without an outcome."""
        return self._run(self._calls.cancel_limit_check(name, by))

    def remove_station(self, name: str, *, by: str | None = None) -> None:
        """Remove a station: its address takes no images any more."""
        return self._run(self._calls.remove_station(name, by))

    def session(self) -> SessionView:
        """Return the name of the client's API key and what it may do; and whether a key is needed at all."""
        return self._run(self._calls.session())

    def ready(self) -> Readiness:
        """Return whether the service accepts and keeps images now, and why not. It is asked once, without retries."""
        return self._run(self._calls.ready())

    def history_page(
        self, *, after: str | None = None, limit: int = 100, filters: Mapping[str, str] | None = None
    ) -> InspectionPage:
        """Return one page of ended inspections.

        Args:
            after: cursor of the page before; None: from the start of the history.
            limit: at most so many inspections, up to 500.
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
        cursor = EventCursor(self._calls.patience, self._calls.timeout_s, last_event_id, product, station)
        while True:
            failure: httpx.TransportError | ApiError | None = None
            try:
                for event in self._stream(cursor.request()):
                    if cursor.advance_to(event):
                        yield event
            except (httpx.TransportError, ApiError) as error:
                failure = error
            time.sleep(cursor.pause_s(failure))
