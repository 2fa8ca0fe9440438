"""Statistics count parts as `GET /v1/parts` judges them, and change with a review."""

from __future__ import annotations

import asyncio
import csv
import io
import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
import redis

from service.api.routes import statistics
from service.contract import Failure, State, now
from service.queue import keys, summaries
from service.queue.history import position_at
from service.queue.jobs import JobQueue
from service.queue.submitter import JobSubmitter
from tests.service.conftest import Running, StartApp
from tests.support.line import make_job, result_of
from tests.support.redis_server import RedisServer

MakeQueue = Callable[..., JobQueue]
End = Callable[..., Any]
URL = "/v1/statistics"
LONG_AGO = {"since": "2026-01-01T00:00:00Z"}


@pytest.fixture
def end(submitter: JobSubmitter, make_queue: MakeQueue) -> End:
    """Ends one inspection: with this score (review from 0.5, fail from 1), or expired without; returns its id."""
    queue = make_queue()

    async def end(score: float | None, **fields: Any) -> str:
        await submitter.submit(make_job(**fields))
        [claimed] = queue.claim(1)
        if score is None:
            queue.fail(claimed, Failure(code="deadline_passed", detail="too late"), state=State.EXPIRED)
        else:
            queue.complete(claimed, result_of(claimed, score))
        return claimed.id

    return end


async def count(api: Running, **query: str) -> dict[str, Any]:
    """The statistics of all that ended lately: of more than the present shift, which may have begun a moment ago."""
    lately = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=8)
    answer = await api.http.get(URL, params={"since": lately.isoformat()} | query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def review(api: Running, inspection_id: str, decision: str, **fields: str) -> None:
    """An operator's decision."""
    answer = await api.http.post(
        f"/v1/inspections/{inspection_id}/review", json={"decision": decision, "by": "a.meier"} | fields
    )
    assert answer.status_code == 200, answer.text


def verdicts(counted: dict[str, Any]) -> tuple[int, int, int, int]:
    """Parts, and how many of them pass, are for review, fail."""
    return counted["parts"], counted["pass"], counted["review"], counted["fail"]


async def test_parts_are_counted_by_verdict_station_and_product(api: Running, end: End) -> None:
    await end(0.1, serial="A", view="top", station="s1")
    await end(0.1, serial="A", view="side", station="s2")  # A: both pass
    await end(0.1, serial="B", view="top", station="s1")
    await end(1.5, serial="B", view="side", station="s2")  # B: pass at s1, fail at s2
    await end(0.7, serial="C", view="top", station="s1")  # C: review
    await end(None, serial="D", view="top", station="s1", product="other")  # D: expired
    await end(2.0)  # without a serial: a part of its own, of no station
    await end(2.0)
    found = await count(api)
    assert (found["images"], verdicts(found), found["no_result"]) == (8, (6, 1, 2, 3), 1)
    assert found["yield"] == pytest.approx(1 / 6)
    assert {one["name"]: (*verdicts(one), one["no_result"]) for one in found["by_station"]} == {
        None: (2, 0, 0, 2, 0),
        "s1": (4, 2, 2, 0, 1),  # A and B pass, C and D are for review
        "s2": (2, 1, 0, 1, 0),
    }
    assert [one["name"] for one in found["by_station"]] == [None, "s2", "s1"]  # most rejects first
    assert {one["name"]: verdicts(one) for one in found["by_product"]} == {"toy": (5, 1, 1, 3), "other": (1, 0, 1, 0)}
    assert found["by_defect_code"] == [{"code": None, "parts": 3}]
    assert sum(one["parts"] for one in found["by_hour"]) == 6


async def test_a_station_or_a_product_can_be_asked_for_alone(api: Running, end: End) -> None:
    await end(0.1, serial="A", view="top", station="s1")
    await end(1.5, serial="A", view="side", station="s2")
    await end(0.7, serial="B", view="top", station="s1", product="other")
    at_s1 = await count(api, station="s1")
    assert (at_s1["images"], verdicts(at_s1)) == (2, (2, 1, 1, 0))  # that A fails was seen at s2
    toys = await count(api, product="toy")
    assert (toys["images"], verdicts(toys)) == (2, (1, 0, 0, 1))
    assert verdicts(await count(api, product="other", station="s2")) == (0, 0, 0, 0)
    assert (await count(api, product="other", station="s2"))["yield"] is None


async def test_of_every_part_it_counts_what_the_part_itself_answers(api: Running, end: End) -> None:
    """Some hundred images of twenty parts, of three views, at two stations of which one expects two views."""
    station = {"product": "toy", "expected_views": ["top", "side"]}
    assert (await api.http.put("/v1/stations/s1", json=station)).status_code == 200
    chance = random.Random(7)
    for _ in range(100):
        inspection = await end(
            chance.choice([0.1, 0.1, 0.7, 1.5, None]),
            serial=f"SN-{chance.randrange(20)}",
            view=chance.choice(["top", "side", None]),
            station=chance.choice(["s1", "s2", None]),
            product=chance.choice(["toy", "toy", "other"]),
        )
        if chance.random() < 0.2:
            await review(api, inspection, chance.choice(["ok", "defect"]))
    parts = [(await api.http.get(f"/v1/parts/SN-{number}")).json() for number in range(20)]
    expected = Counter(part["verdict"] for part in parts if "verdict" in part)
    found = await count(api)
    assert {name: found[name] for name in ("pass", "review", "fail")} == dict(expected)
    assert min(expected.values()) > 0, "each verdict occurs, else this test says little"


async def test_the_last_accepted_image_of_a_view_counts(
    api: Running, submitter: JobSubmitter, make_queue: MakeQueue
) -> None:
    queue = make_queue()
    for _ in range(2):
        await submitter.submit(make_job(serial="A", view="top"))
    first, again = queue.claim(2)
    queue.complete(again, result_of(again, 0.1))
    queue.complete(first, result_of(first, 2.0))  # accepted earlier, ended later
    assert verdicts(await count(api)) == (1, 1, 0, 0)


async def test_a_part_whose_image_waits_is_not_counted_yet(
    api: Running, end: End, submitter: JobSubmitter, make_queue: MakeQueue
) -> None:
    await end(0.1, serial="A", view="top")
    await submitter.submit(make_job(serial="A", view="side"))
    found = await count(api)
    assert (verdicts(found), found["unfinished"]) == ((0, 0, 0, 0), 1)
    [side] = make_queue("later").claim(1)
    make_queue("later").complete(side, result_of(side, 0.7))
    found = await count(api)
    assert (verdicts(found), found["unfinished"]) == ((1, 0, 1, 0), 0)


async def test_a_review_changes_the_numbers_of_an_hour_that_was_read_before(api: Running, end: End) -> None:
    inspection = await end(1.5, serial="A")
    await end(0.1, serial="B")
    assert verdicts(await count(api)) == (2, 1, 0, 1)
    await review(api, inspection, "ok")
    assert verdicts(await count(api)) == (2, 2, 0, 0)
    await review(api, inspection, "defect")
    found = await count(api)
    assert (verdicts(found), found["yield"]) == ((2, 1, 0, 1), 0.5)


async def test_a_review_that_is_withdrawn_no_longer_counts(api: Running, end: End) -> None:
    inspection = await end(1.5, serial="A")
    await review(api, inspection, "ok")
    assert verdicts(await count(api)) == (1, 1, 0, 0)
    assert (await api.http.delete(f"/v1/inspections/{inspection}/review", params={"by": "a.meier"})).status_code == 200
    assert verdicts(await count(api)) == (1, 0, 0, 1)


async def test_rejects_are_counted_by_the_codes_of_their_reviews(api: Running, end: End) -> None:
    top, side, other = [await end(1.5, serial=serial, view=view) for serial, view in ("At", "As", "Bt")]
    await end(1.5, serial="C")
    await review(api, top, "defect", defect_code="scratch")
    await review(api, side, "defect", defect_code="dent")
    await review(api, other, "defect", defect_code="scratch")
    # A has two codes and counts for each; nobody gave C one.
    assert (await count(api))["by_defect_code"] == [
        {"code": "scratch", "parts": 2},
        {"code": None, "parts": 1},
        {"code": "dent", "parts": 1},
    ]
    await review(api, other, "ok")
    assert (await count(api))["by_defect_code"][0] == {"code": None, "parts": 1}


async def test_what_becomes_of_parts_is_counted_by_parts(api: Running, end: End) -> None:
    for serial, view in ("At", "As", "Bt", "Ct"):
        await end(1.5, serial=serial, view=view)
    for serial, disposition in (("A", "rework"), ("B", "scrap"), ("C", "scrap"), ("C", None)):
        answer = await api.http.put(f"/v1/parts/{serial}/disposition", json={"disposition": disposition, "by": "mes"})
        assert answer.status_code == 200, answer.text
    assert (await count(api))["dispositions"] == {"scrap": 1, "rework": 1, "use_as_is": 0}
    answer = await api.http.get(URL, headers={"Accept": "text/csv"})
    rows = csv.DictReader(io.StringIO(answer.text, newline=""))
    assert {row["serial"]: row["disposition"] for row in rows} == {"A": "rework", "B": "scrap", "C": ""}


async def test_what_ended_before_there_were_summaries_counts_by_its_result(
    api: Running, end: End, client: redis.Redis
) -> None:
    ids = [
        await end(score, serial=serial, view=view, station="s1")
        for score, serial, view in [(0.1, "A", "top"), (1.5, "A", "side"), (None, "B", "top"), (0.7, None, None)]
    ]
    await review(api, ids[1], "ok")
    with_summaries = await count(api)
    for inspection in ids:
        assert client.hdel(keys.inspection(inspection), "summary") == 1
    api.services.summaries._hours.clear()
    found = await count(api)
    assert {**found, "until": None} == {**with_summaries, "until": None}
    assert verdicts(found) == (3, 1, 2, 0)  # A passes by its review; B expired; the nameless is for review


async def test_an_hour_is_read_once_and_only_what_ended_since_is_read_again(
    api: Running, end: End, client: redis.Redis
) -> None:
    first = await end(0.1, serial="A")
    assert verdicts(await count(api)) == (1, 1, 0, 0)
    client.delete(keys.inspection(first))  # whoever read it again would find nothing
    await end(1.5, serial="B")
    assert verdicts(await count(api)) == (2, 1, 0, 1)
    client.zrem(keys.HISTORY, first)  # let go, as beyond GLAD_MAX_RESULTS
    assert verdicts(await count(api)) == (1, 0, 0, 1)


async def test_many_are_read_a_chunk_at_a_time(api: Running, end: End, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summaries, "CHUNK", 3)
    for number in range(10):
        await end(0.1, serial=f"SN-{number}")
    assert verdicts(await count(api)) == (10, 10, 0, 0)
    await end(1.5, serial="SN-0", view="side")
    assert verdicts(await count(api)) == (10, 9, 0, 1)


async def test_hours_that_were_not_asked_for_longest_are_read_again(
    api: Running, end: End, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summaries, "MOST_KEPT_LETTERS", 120)
    now = datetime.now(UTC)
    for hour in range(3):
        inspection = await end(0.1, serial=f"SN-{hour}")
        client.zadd(keys.HISTORY, {inspection: position_at(now - timedelta(hours=hour))})
    since = {"since": (now - timedelta(hours=5)).isoformat()}
    for _ in range(2):
        assert verdicts(await count(api, **since)) == (3, 3, 0, 0)
    assert len(api.services.summaries._hours) == 1  # a line has some eighty letters


async def test_limit_samples_are_left_out(api: Running, end: End) -> None:
    await end(0.1, serial="A")
    await end(1.5, serial="MASTER-BAD", limit_sample="bad")
    found = await count(api)
    assert (found["images"], verdicts(found)) == (1, (1, 1, 0, 0))


async def test_a_part_that_runs_beyond_its_takt_is_told_and_counted_once_it_has_ended(
    api: Running, submitter: JobSubmitter, make_queue: MakeQueue
) -> None:
    long_ago = now() - timedelta(seconds=1)
    late = {"accepted_at": long_ago, "takt_ms": 200, "station": "line-3"}
    for view in ("top", "side"):
        await submitter.submit(make_job(serial="SN-1", view=view, **late))
    await submitter.submit(make_job(**late))
    await submitter.submit(make_job(serial="SN-3", station="line-3", takt_ms=3_600_000))
    await submitter.submit(make_job(serial="SN-4", station="line-3"))
    counted = await count(api)
    assert (counted["overtime"], *verdicts(counted)) == (2, 0, 0, 0, 0)  # SN-1, and the image without a serial
    assert (await count(api, station="line-3", product="toy"))["overtime"] == 2
    assert (await count(api, station="line-4"))["overtime"] == 0
    assert (await count(api, product="other"))["overtime"] == 0
    # Its takt was over 0.2 s after the acceptance: in no span that ends before.
    before = {"since": (long_ago - timedelta(days=1)).isoformat(), "until": long_ago.isoformat()}
    assert (await count(api, **before))["overtime"] == 0
    queue = make_queue()
    for claimed in queue.claim(3):
        queue.complete(claimed, result_of(claimed, 0.25))
    counted = await count(api)
    assert (counted["overtime"], *verdicts(counted)) == (0, 2, 0, 2, 0)  # two that passed too late


async def test_a_replay_is_the_same_part(api: Running, end: End) -> None:
    first = await end(None)
    second = await end(None, replay_of=first)
    await end(0.1, replay_of=second)
    found = await count(api)
    assert (found["images"], verdicts(found)) == (3, (1, 1, 0, 0))


async def test_the_span_takes_its_first_moment_and_not_its_last(api: Running, end: End, client: redis.Redis) -> None:
    day = (datetime.now(UTC) - timedelta(days=2)).date()  # results are kept for seven days
    begins = datetime.combine(day, time(5), UTC)
    for at in (begins - timedelta(milliseconds=1), begins, begins + timedelta(hours=8)):
        inspection = await end(0.1)
        client.zadd(keys.HISTORY, {inspection: position_at(at)})
    found = await count(api, since=f"{day}T06:00:00+01:00", until=f"{day}T14:00:00+01:00")
    assert (found["since"], found["until"]) == (f"{day}T05:00:00.000Z", f"{day}T13:00:00.000Z")
    assert verdicts(found) == (1, 1, 0, 0)


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-11-23", 24)])
async def test_a_day_has_as_many_hours_as_the_clock_on_the_wall_shows(
    start_app: StartApp, client: redis.Redis, shared_redis: RedisServer, end: End, *, day: str, hours: int
) -> None:
    api: Running = await start_app(shared_redis.url, time_zone="Europe/Berlin", shifts="00:00")
    midnight = datetime.fromisoformat(f"{day}T00:00").astimezone(UTC)
    begins = midnight - timedelta(hours=2 if hours == 25 else 1)  # summer and winter time
    ends = begins + timedelta(hours=hours)
    inspection = await end(1.5)
    client.zadd(keys.HISTORY, {inspection: position_at(ends - timedelta(minutes=1))})
    found = await count(api, since=begins.isoformat(), until=ends.isoformat())
    assert len(found["by_hour"]) == hours
    assert [verdicts(one)[0] for one in found["by_hour"]] == [0] * (hours - 1) + [1]
    last = (ends - timedelta(hours=1)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert found["by_hour"][-1]["at"] == last


async def test_without_a_span_it_is_the_present_shift_up_to_now(
    start_app: StartApp, client: redis.Redis, shared_redis: RedisServer, end: End
) -> None:
    api: Running = await start_app(shared_redis.url, time_zone="Asia/Shanghai", shifts="00:00,12:00")
    await end(0.1)
    answer = await api.http.get("/v1/shifts", params={"count": 2})
    assert answer.json()["time_zone"] == "Asia/Shanghai"
    [present, before] = answer.json()["shifts"]
    assert before["until"] == present["since"]
    found = (await api.http.get(URL)).json()
    assert (found["since"], verdicts(found)) == (present["since"], (1, 1, 0, 0))


async def test_the_parts_as_csv_are_text_for_every_spreadsheet(api: Running, end: End) -> None:
    hostile = '=HYPERLINK("http://x","1"),<b>'
    await end(0.1, serial=hostile, view="top", station="s1")
    worst = await end(1.5, serial=hostile, view='si"de', station="-2+3")
    await end(None)
    answer = await api.http.get(URL, headers={"Accept": "text/csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"].startswith('attachment; filename="parts-')
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [row["serial"] for row in rows] == [f"'{hostile}", ""]
    assert (rows[0]["verdict"], rows[0]["station"], rows[0]["view"]) == ("fail", "'-2+3", 'si"de')
    assert (rows[0]["views"], rows[0]["inspection_id"], rows[0]["no_result"]) == ("2", worst, "")
    assert (rows[1]["verdict"], rows[1]["no_result"]) == ("review", "yes")
    assert answer.text.count("\r\n") == 3


async def test_two_spans_are_held_in_memory_at_a_time_and_the_next_call_waits(api: Running, end: End) -> None:
    await end(0.1)
    counts = api.services.summaries.counts
    async with counts, counts:
        third = asyncio.create_task(api.http.get(URL))
        done, _ = await asyncio.wait({third}, timeout=0.5)
        assert not done
    assert (await third).json()["parts"] == 1


async def test_no_cell_becomes_a_formula_where_a_semicolon_parts_cells_or_signs_are_wide(
    api: Running, end: End
) -> None:
    await end(0.1, serial="a;=cmd|'/c calc'!A0;b; +1", station="＝1+1", view="x-1;y=2")
    answer = await api.http.get(URL, headers={"Accept": "text/csv"})
    [row] = csv.DictReader(io.StringIO(answer.text, newline=""))
    assert row["serial"] == "a;'=cmd|'/c calc'!A0;b;' +1"
    assert (row["station"], row["view"]) == ("'＝1+1", "x-1;y=2")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"until": "0001-01-01T00:00:00Z"}, "until: lies before 1970-01-02"),
        ({"since": "0001-01-01T00:00:00Z", "until": "0001-01-02T00:00:00Z"}, "since: lies before 1970-01-02"),
        ({"since": "9999-12-31T00:00:00Z"}, "lies after `until`"),
        ({"since": "2026-11-24T00:00:00Z", "until": "2026-11-23T00:00:00Z"}, "lies after `until`"),
        ({"since": "2026-01-01T00:00:00Z", "until": "2026-03-01T00:00:00Z"}, "more than 32 days before it"),
        ({"since": "yesterday"}, "is no time of RFC 3339"),
        ({"sinse": "2026-11-23T00:00:00Z"}, "is not a field of this call"),
    ],
)
async def test_a_span_that_cannot_be_counted_is_refused(api: Running, query: dict[str, str], said: str) -> None:
    answer = await api.http.get(URL, params=query)
    assert (answer.status_code, said in answer.text) == (422, True), answer.text


async def test_a_span_with_too_many_inspections_is_refused(
    api: Running, end: End, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "MOST_IMAGES", 1)
    for _ in range(2):
        await end(0.1)
    answer = await api.http.get(URL)
    assert answer.status_code == 422
    assert "2 inspections ended in this span; at most 1 are counted" in answer.json()["detail"]
