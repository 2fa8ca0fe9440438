"""Why a part is for review: one list says it, the same in the inspection, its event and the part."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import redis
import redis.asyncio

from service.contract import Failure, Job, Quality, Result, State, now, unfit_result
from service.queue import keys
from service.queue.claims import ClaimedJob
from service.queue.jobs import JobQueue
from service.queue.overtime import OvertimeWatch
from service.queue.submitter import JobSubmitter
from tests.service.conftest import Running
from tests.support.line import findings, make_job, result_of

MakeQueue = Callable[..., JobQueue]
PASS, REVIEW, FAIL = 0.25, 0.75, 1.5
"""Scores: the thresholds are 0.5 and 1."""


def held_job(**fields: Any) -> Job:
    """A job of a station on hold, as it is accepted there."""
    job = make_job(hold="lens is dirty", **fields)
    return job.model_copy(update={"thresholds": job.thresholds.on_hold})


def late_job() -> Job:
    """A job whose takt is over: accepted a second ago, with 200 ms."""
    return make_job(serial="SN-1", accepted_at=now() - timedelta(seconds=1), takt_ms=200)


def unfit(claimed: ClaimedJob) -> Result:
    """What the gate says of an image that cannot be inspected."""
    timings = findings().timings_ms
    return unfit_result(
        claimed.job, Quality(passed=False), timings, started_at=claimed.started_at, attempts=claimed.attempt
    )


def scored(score: float) -> Callable[[ClaimedJob], Result]:
    """The end of an inspection with this score."""
    return lambda claimed: result_of(claimed, score)


@pytest.mark.parametrize(
    ("job", "end", "reasons"),
    [
        (make_job(serial="SN-1"), scored(REVIEW), ["score"]),
        (make_job(serial="SN-1"), unfit, ["quality"]),
        # Of a held image only the fail limit was asked, so whether the score was in between is not known.
        (held_job(serial="SN-1"), scored(PASS), ["station_held"]),
        (held_job(serial="SN-1"), unfit, ["station_held", "quality"]),
        (late_job(), scored(PASS), ["overtime"]),
        (late_job(), scored(REVIEW), ["overtime", "score"]),
        (make_job(serial="SN-1"), scored(PASS), []),
        (held_job(serial="SN-1"), scored(FAIL), []),
        (late_job(), scored(FAIL), []),
    ],
)
async def test_inspection_event_and_part_give_the_same_reasons(
    api: Running,
    submitter: JobSubmitter,
    make_queue: MakeQueue,
    client: redis.Redis,
    *,
    job: Job,
    end: Callable[[ClaimedJob], Result],
    reasons: list[str],
) -> None:
    queue = make_queue()
    await submitter.submit(job)
    [claimed] = queue.claim(1)
    queue.complete(claimed, end(claimed))
    shown = (await api.http.get(f"/v1/inspections/{job.id}")).json()
    part = (await api.http.get("/v1/parts/SN-1")).json()
    assert shown["review_reasons"] == part["review_reasons"] == part["views"][0]["review_reasons"] == reasons
    rows: Any = client.xrevrange(keys.EVENTS, count=1)
    assert json.loads(rows[0][1]["event"]).get("review_reasons", []) == reasons


async def test_without_a_verdict_a_person_has_to_look_and_an_operator_answers_every_reason(
    api: Running, submitter: JobSubmitter, make_queue: MakeQueue
) -> None:
    queue = make_queue()
    await submitter.submit(make_job(serial="SN-1"))
    [claimed] = queue.claim(1)
    queue.fail(claimed, Failure(code="deadline_passed", detail="too late"), state=State.EXPIRED)
    part = (await api.http.get("/v1/parts/SN-1", params={"expected_view": "top"})).json()
    assert part["review_reasons"] == ["no_result", "missing"]
    await api.http.post(f"/v1/inspections/{claimed.id}/review", json={"decision": "ok", "by": "a.meier"})
    part = (await api.http.get("/v1/parts/SN-1")).json()
    assert (part["verdict"], part["review_reasons"], part["views"][0]["review_reasons"]) == ("pass", [], [])
    shown = (await api.http.get(f"/v1/inspections/{claimed.id}")).json()
    assert shown["review_reasons"] == ["no_result"]  # what the service found stays


async def test_who_has_no_verdict_in_the_takt_is_for_review_for_this_reason_while_it_runs(
    api: Running, submitter: JobSubmitter, async_client: redis.asyncio.Redis, client: redis.Redis
) -> None:
    job = late_job()
    await submitter.submit(job)
    seconds, _ = await async_client.time()
    await OvertimeWatch(async_client, max_events=1000).note_due(int(seconds) * 1000 + 1000)
    shown = (await api.http.get(f"/v1/inspections/{job.id}")).json()
    part = (await api.http.get("/v1/parts/SN-1")).json()
    assert (shown["verdict"], shown["review_reasons"], part["review_reasons"]) == (None, ["overtime"], ["overtime"])
    rows: Any = client.xrange(keys.EVENTS)
    assert [json.loads(fields["event"])["review_reasons"] for _, fields in rows] == [["overtime"]]


async def test_a_result_of_an_older_version_has_its_reasons_too(
    api: Running, submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis
) -> None:
    queue = make_queue()
    await submitter.submit(held_job())
    [claimed] = queue.claim(1)
    queue.complete(claimed, result_of(claimed, PASS))
    stored = json.loads(str(client.hget(keys.inspection(claimed.id), "result")))
    stored.pop("review_reasons", None)
    client.hset(keys.inspection(claimed.id), "result", json.dumps(stored))
    assert (await api.http.get(f"/v1/inspections/{claimed.id}")).json()["review_reasons"] == ["station_held"]
