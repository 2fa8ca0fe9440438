"""Operators' reviews: kept, in order, told, and never instead of what the service found."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import redis
import redis.asyncio

from service.auth.api_keys import KeyStore
from service.auth.scopes import Scope
from service.contract import Decision, Event, Review, new_inspection_id, now
from service.queue import keys
from service.queue.jobs import JobQueue
from service.queue.reviews import ReviewOutcome, Reviews
from service.queue.submitter import JobSubmitter
from tests.service.conftest import Running
from tests.support.line import make_job, result_of

MakeQueue = Callable[..., JobQueue]


@pytest.fixture
async def ended(submitter: JobSubmitter, make_queue: MakeQueue) -> str:
    """An inspection that ended with `fail`."""
    await submitter.submit(make_job(station="s1"))
    queue = make_queue()
    [claimed] = queue.claim(1)
    queue.complete(claimed, result_of(claimed, 1.5))
    return claimed.id


def events(client: redis.Redis) -> list[Event]:
    """Every event so far."""
    rows: Any = client.xrange(keys.EVENTS)
    return [Event.model_validate_json(fields["event"]) for _, fields in rows]


async def test_reviews_are_shown_with_the_inspection_and_in_the_history(
    api: Running, ended: str, client: redis.Redis
) -> None:
    url = f"/v1/inspections/{ended}"
    given = [
        {"decision": "defect", "by": "a.meier"},
        {"decision": "ok", "by": "b.kim", "note": "dust,\u2028„wiped“ off"},
    ]
    for fields in given:
        answer = await api.http.post(f"{url}/review", json=fields)
        assert answer.status_code == 200
    shown = (await api.http.get(url)).json()
    assert answer.json() == shown
    assert [{key: one[key] for key in fields} for one, fields in zip(shown["reviews"], given, strict=True)] == given
    assert (shown["verdict"], shown["score"]) == ("fail", 1.5)
    assert (await api.http.get("/v1/inspections")).json()["inspections"] == [shown]
    assert client.ttl(keys.inspection(ended)) > 0


@pytest.mark.usefixtures("keys_read_at_once")
async def test_a_review_names_the_key_that_it_came_with_beside_who_judged(
    api: Running, ended: str, client: redis.Redis
) -> None:
    url = f"/v1/inspections/{ended}/review"
    await api.http.post(url, json={"decision": "ok", "by": "a.meier"})
    key = KeyStore(client).create("bench-2", [Scope.REVIEW])
    answer = await api.http.post(url, json={"decision": "defect", "by": "b.kim"}, headers={"X-API-Key": key})
    assert [(one["by"], one["key"]) for one in answer.json()["reviews"]] == [("a.meier", None), ("b.kim", "bench-2")]
    forged = await api.http.post(
        url, json={"decision": "ok", "by": "b.kim", "key": "chief"}, headers={"X-API-Key": key}
    )
    assert forged.status_code == 422
    assert [event.review.key for event in events(client) if event.review] == [None, "bench-2"]


async def test_a_review_is_an_event(api: Running, ended: str, client: redis.Redis) -> None:
    await api.http.post(f"/v1/inspections/{ended}/review", json={"decision": "ok", "by": "a.meier"})
    done, reviewed = events(client)
    assert (done.type, reviewed.type) == ("inspection.done", "inspection.reviewed")
    assert reviewed.review is not None
    assert (reviewed.review.decision, reviewed.review.by) == (Decision.OK, "a.meier")
    assert (reviewed.inspection_id, reviewed.station, reviewed.verdict, reviewed.score) == (ended, "s1", "fail", 1.5)
    assert reviewed.at == reviewed.review.at > done.at


async def test_a_repeated_call_is_one_review(
    api: Running, ended: str, async_client: redis.asyncio.Redis, client: redis.Redis
) -> None:
    reviews = Reviews(async_client, max_events=100)
    result = await api.services.results.get(ended)
    assert result is not None
    first, second = (Review(decision=Decision.OK, by=by, at=now()) for by in ("a", "b"))
    for review in (first, second, first, second, first):
        assert await reviews.add(result, review) is ReviewOutcome.RECORDED
    found = await api.services.results.get(ended)
    assert found is not None
    assert found.reviews == (first, second)
    assert len(events(client)) == 3


async def test_fifty_reviews_at_once_are_all_kept_and_no_more(api: Running, ended: str) -> None:
    url = f"/v1/inspections/{ended}/review"
    answers = await asyncio.gather(*(api.http.post(url, json={"decision": "ok", "by": f"o{n}"}) for n in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    refused = await api.http.post(url, json={"decision": "ok", "by": "one too many"})
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:glad:problem:not-reviewable")
    shown = (await api.http.get(f"/v1/inspections/{ended}")).json()
    assert {one["by"] for one in shown["reviews"]} == {f"o{n}" for n in range(50)}


async def test_what_has_not_ended_or_is_unknown_is_not_reviewed(api: Running, submitter: JobSubmitter) -> None:
    job = make_job()
    await submitter.submit(job)
    review = {"decision": "ok", "by": "a"}
    unfinished = await api.http.post(f"/v1/inspections/{job.id}/review", json=review)
    assert (unfinished.status_code, unfinished.json()["type"]) == (409, "urn:glad:problem:not-reviewable")
    unknown = await api.http.post(f"/v1/inspections/{new_inspection_id()}/review", json=review)
    assert (unknown.status_code, unknown.json()["type"]) == (404, "urn:glad:problem:unknown-inspection")


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("decision", {"by": "a"}),
        ("decision", {"decision": "pass", "by": "a"}),
        ("by", {"decision": "ok"}),
        ("by", {"decision": "ok", "by": "a\nb"}),
        ("note", {"decision": "ok", "by": "a", "note": "x" * 1001}),
        ("notes", {"decision": "ok", "by": "a", "notes": "x"}),
    ],
)
async def test_a_review_that_is_none_is_refused(api: Running, ended: str, field: str, body: dict[str, Any]) -> None:
    answer = await api.http.post(f"/v1/inspections/{ended}/review", json=body)
    assert answer.status_code == 422
    assert [one["field"] for one in answer.json()["errors"]] == [field]


@pytest.mark.parametrize("body", [b"\xff\xfe", b"{", b"[]", b""])
async def test_a_body_that_is_no_json_object_is_refused(api: Running, ended: str, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    answer = await api.http.post(f"/v1/inspections/{ended}/review", content=body, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:glad:problem:invalid-fields")
