"""Every call of both clients against a real service: what an integrator does, and what the service answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest
import redis

from glad_client import (
    ApiError,
    AsyncClient,
    BlindInspection,
    Client,
    Decision,
    DefectKind,
    Disposition,
    NotFinished,
    Result,
    ReviewPlanSettings,
    ServerEvent,
    State,
    StationSettings,
    UnexpectedAnswer,
    Unreachable,
    Verdict,
)
from service.queue import keys
from service.queue.jobs import JobQueue
from service.settings import Settings
from tests.support.evaluations import measured_quality
from tests.support.http_server import server_on
from tests.support.line import picture, result_of
from tests.support.processes import eventually
from tests.support.redis_server import RedisServer
from tests.support.wire import Wire
from tests.support.working import working

MakeQueue = Callable[..., JobQueue]


class BlockingAsyncClient:
    """An `AsyncClient` whose calls are run to their end, so that one test is for both kinds of client."""

    def __init__(self, url: str, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = AsyncClient(url, **options)

    def __getattr__(self, name: str) -> Any:
        return _BlockingCalls(self, self._client.reviews) if name == "reviews" else self.blocking(self._client, name)

    def blocking(self, owner: object, name: str) -> Callable[..., Any]:
        """A call that is run to its end."""

        def call(*words: Any, **options: Any) -> Any:
            made = getattr(owner, name)(*words, **options)
            return self._each(made) if isinstance(made, AsyncGenerator) else self._loop.run_until_complete(made)

        return call

    def _each(self, values: AsyncGenerator[Any, None]) -> Iterator[Any]:
        try:
            while True:
                yield self._loop.run_until_complete(anext(values))
        except StopAsyncIteration:
            return
        finally:
            self._loop.run_until_complete(values.aclose())

    def end(self) -> None:
        """Close the client and its loop."""
        self._loop.run_until_complete(self._client.close())
        self._loop.close()


class _BlockingCalls:
    def __init__(self, client: BlockingAsyncClient, owner: object) -> None:
        self._client, self._owner = client, owner

    def __getattr__(self, name: str) -> Any:
        return self._client.blocking(self._owner, name)


Connect = Callable[..., Client]


@pytest.fixture(params=["Client", "AsyncClient"])
def connect_client(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Makes clients of one kind, and closes them."""
    made: list[Client | BlockingAsyncClient] = []

    def connect(url: str, **options: Any) -> Client:
        made.append(Client(url, **options) if request.param == "Client" else BlockingAsyncClient(url, **options))
        return cast("Client", made[-1])

    yield connect
    for one in made:
        one.close() if isinstance(one, Client) else one.end()


@pytest.fixture
def api(connect_client: Connect, url: str) -> Client:
    """A client of either kind, of the real service."""
    return connect_client(url, patience_s=20)


@pytest.fixture
def worker(settings: Settings) -> Iterator[None]:
    """Ends the first inspection with a score of 0.25, the next one with 0.5: `pass`, and `review`."""
    with working(settings):
        yield


@pytest.mark.usefixtures("worker")
def test_an_image_is_inspected_and_all_that_is_kept_of_it_can_be_read(api: Client) -> None:
    image = picture()
    made = api.inspect("toy", image, fields={"serial": "SN-1", "view": "top"})
    assert (made.state, made.verdict, made.score, made.serial) == (State.DONE, Verdict.PASS, 0.25, "SN-1")
    assert api.get(made.id) == made == api.wait(made.id)
    assert (api.artifact(made.id, "image"), api.artifact(made.id, "overlay.png")) == (image, picture())
    page = api.history_page(filters={"serial": "SN-1"})
    assert (page.inspections, page.more) == ((made,), False)
    assert list(api.history(filters={"serial": "SN-2"})) == []
    with closing(cast("Generator[ServerEvent, None, None]", api.events(last_event_id="0"))) as events:
        event = next(events)
    assert (event.type, event.event.inspection_id, event.event.verdict) == ("inspection.done", made.id, Verdict.PASS)


@pytest.mark.usefixtures("worker")
def test_a_part_has_the_worst_verdict_of_its_views_until_an_operator_decides(api: Client) -> None:
    seen = api.inspect("toy", picture(), fields={"serial": "SN-1", "view": "top"})
    part = api.part("SN-1", expected_views=["top", "bottom"])
    assert [(view.view, view.reason) for view in part.views] == [("bottom", "missing"), ("top", "score")]
    assert part.verdict is Verdict.REVIEW
    judged = api.review(seen.id, Decision.DEFECT, by="a.meier", note="a crack", defect_code="crack")
    (review,) = judged.reviews
    assert (review.decision, review.by, review.note, review.defect_code) == (
        Decision.DEFECT,
        "a.meier",
        "a crack",
        "crack",
    )
    assert api.part("SN-1").verdict is Verdict.FAIL


def test_a_station_is_set_held_released_and_removed(api: Client) -> None:
    settings = StationSettings(product="toy", lot="L-1", expected_views=("top", "bottom"))
    assert api.set_station("line 3", settings, by="mes").changed_by == "mes"
    held = api.hold_station("line 3", "images are blurred", by="a.meier")
    assert (held.hold, held.lot, held.expected_views) == ("images are blurred", "L-1", ("top", "bottom"))
    assert api.set_station("line 3", StationSettings(product="toy")).hold == "images are blurred", "a changeover"
    assert api.submit(None, picture(), station="line 3").hold == "images are blurred"
    assert api.hold_station("line 3", None).hold is None
    assert [station.station for station in api.stations()] == ["line 3"]
    assert [change.by for change in api.station("line 3").changes][-2:] == ["a.meier", "mes"]
    api.remove_station("line 3", by="mes")
    assert api.stations() == ()


def test_products_and_readiness_are_told(api: Client) -> None:
    assert api.products() == ("bracket", "toy"), "the shipped one, and that of the store"
    assert api.product("toy").active.thresholds.fail == 1.0
    readiness = api.ready()
    assert (readiness.status, readiness.checks["worker"].ok) == ("degraded", False), "there is no worker"


def test_evaluations_are_recorded_listed_and_removed(api: Client) -> None:
    measured = measured_quality(api.product("toy").active.hash).model_dump(mode="json", exclude_none=True)
    made = api.record_evaluation("toy", "1", measured, by="ann", note="week 48")
    assert (made.by, made.note, made.minus_yardstick is not None) == ("ann", "week 48", True)
    assert api.evaluations("toy", "1").evaluations == [made]
    assert api.product("toy").active.evaluations == [made]
    api.remove_evaluation("toy", "1", made.id, by="bob")
    assert api.evaluations("toy", "1").evaluations == []
    with pytest.raises(ApiError, match="has no evaluation"):
        api.remove_evaluation("toy", "1", made.id)


def test_a_service_that_is_not_ready_is_an_answer_too(
    connect_client: Connect, own_redis: RedisServer, toy_store: Path, tmp_path: Path
) -> None:
    settings = Settings(redis_url=own_redis.url, store=str(toy_store), data_dir=tmp_path / "data")
    with server_on(settings) as url:
        own_redis.kill()
        readiness = connect_client(url).ready()
    assert (readiness.status, readiness.checks["redis"].ok) == ("unavailable", False)


def test_an_inspection_that_takes_longer_is_named_and_goes_on(api: Client, make_queue: MakeQueue) -> None:
    with pytest.raises(NotFinished, match=r"inspection \S+ is queued after 0 s: wait longer"):
        api.inspect("toy", picture(), seconds=0.0)
    (claimed,) = make_queue().claim(1)
    make_queue().complete(claimed, result_of(claimed, 0.25))
    assert api.wait(claimed.job.id).verdict is Verdict.PASS


def test_a_refusal_carries_the_problem_with_its_type(api: Client) -> None:
    with pytest.raises(ApiError) as refused:
        api.submit("brackt", picture())
    assert (refused.value.status, refused.value.type) == (404, "urn:glad:problem:unknown-product")
    assert refused.value.title == "Unknown product"
    assert "toy" in refused.value.detail, "it says what there is"


def test_an_image_whose_answer_was_lost_is_one_inspection(
    connect_client: Connect, url: str, client: redis.Redis
) -> None:
    with Wire(url) as wire:
        wire.lose_replies()

        def mend_after_the_second_attempt_began() -> None:
            eventually(lambda: wire.connections == 2)
            wire.mend()

        mending = threading.Thread(target=mend_after_the_second_attempt_began)
        mending.start()
        accepted = connect_client(wire.url, patience_s=30, timeout_s=1).submit("toy", picture())
        mending.join()
    assert set(client.scan_iter(f"{keys.INSPECTION_PREFIX}*")) == {keys.inspection(accepted.id)}


def test_nobody_there_and_somebody_else_are_told_apart(connect_client: Connect, url: str) -> None:
    with pytest.raises(Unreachable, match="gave no answer"):
        connect_client("http://127.0.0.1:9").ready()
    with pytest.raises(UnexpectedAnswer, match="check the address"):
        connect_client(f"{url}/health/live?").get("x")


@pytest.mark.usefixtures("worker")
def test_images_are_reviewed_one_after_the_other_and_a_mistake_is_taken_back(api: Client) -> None:
    plan = ReviewPlanSettings(audit_share=1.0, defect_codes=(DefectKind(code="dent", title="Dent", key="t"),))
    assert api.reviews.set_plan("toy", plan, by="q").revision == api.reviews.plan("toy").revision == 1
    audited = api.inspect("toy", picture(), fields={"serial": "SN-1"})
    api.reviews.set_plan("toy", plan.model_copy(update={"audit_share": 0.0}), revision=1)
    with pytest.raises(ApiError, match="revision 2"):
        api.reviews.set_plan("toy", plan, revision=1)
    queued = api.inspect("toy", picture(), fields={"serial": "SN-1"})
    lost = api.reviews.next("ann", product="toy", desk="tablet-1")  # before a restart of the program
    first = api.reviews.next("ann", product="toy", desk="tablet-1")
    assert lost is not None
    assert first is not None
    assert lost.claim != first.claim
    assert isinstance(first.inspection, Result)
    assert (first.inspection, first.task) == (queued, "queue")
    assert api.reviews.renew(first.claim).until >= first.until
    seen = api.reviews.answer(first, Decision.DEFECT, by="ann", defect_code="dent", regions=[(1, 2, 3, 4)])
    assert isinstance(seen, Result)
    assert (seen.reviews[0].defect_code, seen.reviews[0].regions) == ("dent", ((1, 2, 3, 4),))
    withdrawn = api.reviews.withdraw(queued.id, by="ann")
    assert isinstance(withdrawn, Result)
    assert withdrawn.counting_review is None
    blind = api.reviews.next("ann", skip=[queued.id])
    assert blind is not None
    assert isinstance(blind.inspection, BlindInspection)
    api.reviews.give_back(blind.claim)
    again = api.reviews.next("ann", inspection_id=audited.id)
    assert again is not None
    assert (again.inspection.id, again.task) == (audited.id, "audit")
    assert isinstance(api.reviews.answer(again, Decision.OK, by="ann"), BlindInspection)
    assert api.reviews.next("ann", skip=[queued.id]) is None
    summary = api.reviews.summary(product="toy")
    assert (summary.reviewed, summary.withdrawn, summary.waiting.review) == (1, 1, 1)
    assert (summary.agreement.passed.ok, summary.agreement.fail.defect) == (1, 0)
    part = api.reviews.dispose("SN-1", Disposition.REWORK, by="mes")
    assert part.disposition is not None
    assert api.reviews.dispose("SN-1", None).disposition is None
