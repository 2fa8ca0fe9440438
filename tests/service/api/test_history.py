"""The history: in the order of ending, nothing skipped, nothing kept for ever."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
import redis.asyncio

from service.api.routes.history import read_cursor, write_cursor
from service.contract import Failure, State, Verdict
from service.queue import keys
from service.queue.history import History, HistoryFilter, HistoryPage
from service.queue.jobs import JobQueue
from service.queue.results import Retention
from service.queue.submitter import JobSubmitter
from tests.service.conftest import Running
from tests.support.ended import end as end_many
from tests.support.line import make_job, picture, result_of

MakeQueue = Callable[..., JobQueue]
URL = "/v1/inspections"


async def end(submitter: JobSubmitter, queue: JobQueue, score: float | None = 0.25, **fields: Any) -> str:
    """One inspection from submission to its end: with this score, or expired without."""
    job = make_job(**fields)
    await submitter.submit(job)
    [claimed] = queue.claim(1)
    if score is None:
        queue.fail(claimed, Failure(code="deadline_passed", detail="too late"), state=State.EXPIRED)
    else:
        queue.complete(claimed, result_of(claimed, score))
    return job.id


def ids(page: HistoryPage) -> list[str]:
    """Which inspections."""
    return [result.id for result in page.results]


@pytest.fixture
def history(async_client: redis.asyncio.Redis) -> History:
    """The reading side."""
    return History(async_client)


async def test_inspections_come_in_the_order_in_which_they_ended(
    submitter: JobSubmitter, make_queue: MakeQueue, history: History
) -> None:
    jobs = [make_job() for _ in range(3)]
    for job in jobs:
        await submitter.submit(job)
    queue = make_queue()
    first, second, third = queue.claim(3)
    queue.complete(third, result_of(third))
    queue.complete(first, result_of(first))
    assert ids(await history.page(HistoryFilter())) == [third.id, first.id]
    queue.complete(second, result_of(second))
    assert ids(await history.page(HistoryFilter())) == [third.id, first.id, second.id]
    assert ids(await history.page(HistoryFilter(), newest_first=True)) == [second.id, first.id, third.id]


async def test_a_reader_who_keeps_the_position_sees_a_late_finisher_once(
    submitter: JobSubmitter, make_queue: MakeQueue, history: History
) -> None:
    queue = make_queue()
    await submitter.submit(make_job())
    [late] = queue.claim(1)
    early = [await end(submitter, queue) for _ in range(3)]
    seen: list[str] = []
    page = await history.page(HistoryFilter(), limit=2)
    while page.results:
        seen += ids(page)
        page = await history.page(HistoryFilter(), after=page.position, limit=2)
    assert seen == early
    queue.complete(late, result_of(late))
    assert ids(await history.page(HistoryFilter(), after=page.position, limit=2)) == [late.id]


async def test_every_filter_selects_and_several_must_all_hold(
    submitter: JobSubmitter, make_queue: MakeQueue, history: History
) -> None:
    queue = make_queue()
    a = await end(submitter, queue, 0.25, serial="SN-1", lot="L-1", station="s1")
    b = await end(submitter, queue, 0.75, serial="SN-2", lot="L-1", station="s2")
    c = await end(submitter, queue, 1.25, serial="SN-1", lot="L-2", station="s1", product="other")
    d = await end(submitter, queue, None, lot="L-1")
    expected = {
        HistoryFilter(product="toy"): [a, b, d],
        HistoryFilter(serial="SN-1"): [a, c],
        HistoryFilter(lot="L-1"): [a, b, d],
        HistoryFilter(station="s1"): [a, c],
        HistoryFilter(verdict=Verdict.PASS): [a],  # 0.25 < 0.5
        HistoryFilter(verdict=Verdict.REVIEW): [b],  # 0.5 <= 0.75 < 1
        HistoryFilter(verdict=Verdict.FAIL): [c],  # 1 <= 1.25
        HistoryFilter(state=State.DONE): [a, b, c],
        HistoryFilter(state=State.EXPIRED): [d],
        HistoryFilter(state=State.FAILED): [],
        HistoryFilter(lot="L-1", station="s1"): [a],
        HistoryFilter(lot="L-1", state=State.DONE): [a, b],
        HistoryFilter(lot="L-1", verdict=Verdict.FAIL): [],
        HistoryFilter(product="toy", serial="SN-1", lot="L-1", station="s1", verdict=Verdict.PASS): [a],
    }
    for wanted, found in expected.items():
        assert ids(await history.page(wanted)) == found, wanted


async def test_rare_matches_are_found_a_bounded_part_at_a_time(
    submitter: JobSubmitter, make_queue: MakeQueue, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = make_queue()
    for number in range(7):
        await end(submitter, queue, lot="L-1", station=f"s{number}")
    wanted = await end(submitter, queue, lot="L-1", station="s0")
    for _ in range(9):
        await end(submitter, queue, station="s0")
    # Station s0 has 11 entries, lot L-1 has 8: the lot is walked, two ids at a time, at most four a page.
    monkeypatch.setattr("service.queue.history.CHUNK", 2)
    monkeypatch.setattr("service.queue.history.MOST_SCANNED", 4)
    query = HistoryFilter(lot="L-1", station="s0")
    first = await history.page(query, limit=2)
    assert (len(first.results), first.more) == (1, True)
    second = await history.page(query, after=first.position, limit=2)
    assert ids(second) == [wanted]
    assert not (await history.page(query, after=second.position, limit=2)).more


async def test_times_bound_the_history(
    submitter: JobSubmitter, make_queue: MakeQueue, history: History, client: redis.Redis
) -> None:
    queue = make_queue()
    before = await end(submitter, queue)
    time.sleep(0.002)
    now: Any = client.time()
    seconds, micros = now
    moment = datetime.fromtimestamp(seconds, UTC) + timedelta(milliseconds=micros // 1000)
    after = await end(submitter, queue)
    assert ids(await history.page(HistoryFilter(until=moment))) == [before]
    assert ids(await history.page(HistoryFilter(since=moment))) == [after]
    first = await history.page(HistoryFilter(since=moment - timedelta(hours=1)), limit=1)
    assert ids(first) == [before]
    assert ids(await history.page(HistoryFilter(since=moment), after=first.position)) == [after]
    assert ids(await history.page(HistoryFilter(until=moment), after=first.position)) == []


async def test_positions_grow_even_if_the_clock_went_back(
    submitter: JobSubmitter, make_queue: MakeQueue, history: History, client: redis.Redis
) -> None:
    ahead = (int(time.time()) + 3600) * 1000 * 1024
    client.zadd(keys.HISTORY, {"from-the-future": ahead})
    await end(submitter, make_queue())
    page = await history.page(HistoryFilter())
    assert page.position == ahead + 1


async def test_positions_grow_even_if_the_clock_went_back_and_the_history_was_emptied(
    submitter: JobSubmitter, make_queue: MakeQueue, history: History, client: redis.Redis
) -> None:
    """A reader's cursor from before would miss what gets a smaller position."""
    ahead = (int(time.time()) + 3600) * 1000 * 1024
    client.zadd(keys.HISTORY, {"from-the-future": ahead})
    await end(submitter, make_queue())
    client.delete(*_all_keys(client, "glad:v1:history*"), *_all_keys(client, "glad:v1:inspection:*"))
    await end(submitter, make_queue())
    page = await history.page(HistoryFilter())
    assert page.position == ahead + 2


async def test_results_beyond_the_limit_go_with_every_trace(
    submitter: JobSubmitter, make_queue: MakeQueue, history: History, client: redis.Redis
) -> None:
    queue = make_queue(retention=Retention(max_results=2))
    job = make_job(serial="SN-0", lot="L-0", station="s0")
    await submitter.submit(job, idempotency_key="k", fingerprint="f")
    [claimed] = queue.claim(1)
    queue.complete(claimed, result_of(claimed, 1.5))
    kept = [await end(submitter, queue, serial=f"SN-{number}") for number in (1, 2)]
    assert ids(await history.page(HistoryFilter())) == kept
    left = [key for key in _all_keys(client) if any(word in key for word in (job.id, "SN-0", "L-0", "s0", "fail"))]
    assert left == []
    assert _all_keys(client, "glad:v1:idempotency:*") == []


async def test_beyond_most_of_redis_memory_the_oldest_results_go_but_for_a_thousand(
    submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis
) -> None:
    """A Redis of a gigabyte is full of a quarter of the million results that may be kept: it would accept no image."""
    begun = int(time.time()) * 1000 * 1024
    client.zadd(keys.HISTORY, {f"older-{number}": begun - 1030 + number for number in range(1030)})
    queue = make_queue()
    await end(submitter, queue)
    assert client.zcard(keys.HISTORY) == 1031  # there is no limit of memory
    counts = []
    try:
        for share in (0.5, 0.85, 0.85):
            client.config_set("maxmemory", round(client.info("memory")["used_memory"] / share))
            await end(submitter, queue)
            counts.append(client.zcard(keys.HISTORY))
    finally:
        client.config_set("maxmemory", 0)
    assert counts == [1032, 1013, 1000]  # twenty at once, and then no further than a thousand
    oldest: Any = client.zrange(keys.HISTORY, 0, 0)
    assert oldest == ["older-34"]


async def test_an_expired_result_leaves_no_index_entry(
    submitter: JobSubmitter, make_queue: MakeQueue, history: History, client: redis.Redis
) -> None:
    short = make_queue(retention=Retention(result_ttl_s=60))
    gone = await end(submitter, short, serial="SN-1", lot="L-1")
    for key in _all_keys(client, "glad:v1:history*"):
        assert 0 < client.pttl(key) <= 60_000
    # As a minute later, while other inspections keep the index of the lot alive:
    long_ago = (int(time.time()) - 61) * 1000 * 1024
    for key in _all_keys(client, "glad:v1:history*"):
        client.zadd(key, {gone: long_ago})
    client.delete(keys.inspection(gone))
    assert ids(await history.page(HistoryFilter(lot="L-1"))) == []
    kept = await end(submitter, short, lot="L-1")
    assert client.zrange(keys.history("lot", "L-1"), 0, -1) == [kept]
    assert client.zrange(keys.HISTORY, 0, -1) == [kept]


async def test_a_repeated_completion_is_in_the_history_once(
    submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis
) -> None:
    await submitter.submit(make_job())
    queue = make_queue()
    [claimed] = queue.claim(1)
    result = result_of(claimed)
    assert [queue.complete(claimed, result) for _ in range(3)] == [True] * 3
    assert client.zcard(keys.HISTORY) == 1


async def test_the_history_over_http(api: Running, submitter: JobSubmitter, make_queue: MakeQueue) -> None:
    queue = make_queue()
    ended = [await end(submitter, queue, station="line 3 / Süd") for _ in range(3)]
    await end(submitter, queue, station="other")
    first = (await api.http.get(URL, params={"station": "line 3 / Süd", "limit": 2})).json()
    assert [one["id"] for one in first["inspections"]] == ended[:2]
    assert first["more"] is True
    second = (await api.http.get(URL, params={"station": "line 3 / Süd", "after": first["next"]})).json()
    assert [one["id"] for one in second["inspections"]] == ended[2:]
    assert second["more"] is False
    assert second["inspections"][0] == (await api.http.get(f"{URL}/{ended[2]}")).json()
    newest = (await api.http.get(URL, params={"order": "newest", "limit": 1, "station": "line 3 / Süd"})).json()
    assert [one["id"] for one in newest["inspections"]] == ended[2:]


async def test_an_empty_history_gives_a_cursor_to_poll_with(
    api: Running, submitter: JobSubmitter, make_queue: MakeQueue
) -> None:
    empty = (await api.http.get(URL)).json()
    assert (empty["inspections"], empty["more"]) == ([], False)
    ended = await end(submitter, make_queue())
    then = (await api.http.get(URL, params={"after": empty["next"]})).json()
    assert [one["id"] for one in then["inspections"]] == [ended]


def test_a_cursor_is_read_as_it_was_written() -> None:
    assert read_cursor(write_cursor(7_356_000_000_000_123)) == 7_356_000_000_000_123


@pytest.mark.parametrize(
    "params",
    [
        {"after": "x"},
        {"after": "aDE6"},
        {"after": base64.urlsafe_b64encode(b"h1:-1").decode()},
        {"after": base64.urlsafe_b64encode(b"h1:9007199254740993").decode()},
        {"after": "ä"},
        {"limit": 0},
        {"limit": 501},
        {"verdict": "ok"},
        {"state": "running"},
        {"since": "2026-11-23T08:15:30"},
        {"seriel": "SN-1"},
        {"product": "../etc"},
    ],
)
async def test_what_is_no_query_is_refused(api: Running, params: dict[str, Any]) -> None:
    answer = await api.http.get(URL, params=params)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"][0]["field"] == next(iter(params))


def _all_keys(client: redis.Redis, pattern: str = "*") -> list[str]:
    found: Any = client.keys(pattern)
    return list(found)


async def test_images_are_accepted_before_many_long_pages_are_read(api: Running, client: redis.Redis) -> None:
    await asyncio.to_thread(end_many, client, 500)
    read_before = []
    for _ in range(3):  # once must do: a disk that stands still holds up images, and no pages
        pages = [asyncio.create_task(api.http.get(URL, params={"limit": 500})) for _ in range(12)]
        await asyncio.sleep(0.05)  # all have come
        for _ in range(2):
            assert (await api.http.post("/v1/products/toy/inspections", content=picture())).status_code == 202
        read_before.append(sum(page.done() for page in pages))
        for answer in await asyncio.gather(*pages):
            assert len(answer.json()["inspections"]) == 500
        if read_before[-1] < 6:
            break
    assert min(read_before) < 6
