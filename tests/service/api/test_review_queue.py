"""The review queue: what waits and in which order, nobody gets what another has, blind looks stay blind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import redis.asyncio

from glad_client.reviews import cohens_kappa
from service.auth.api_keys import KeyStore
from service.auth.scopes import Scope
from service.contract import IMAGE, Failure, Quality, unfit_result
from service.queue import keys
from service.queue.connection import connect_async
from service.queue.history import History, HistoryFilter
from service.queue.jobs import JobQueue
from service.queue.results import Retention
from service.queue.review_queue import MOST_CLAIMS, ReviewQueue
from service.queue.reviews import MOST_REVIEWS, is_drawn
from service.queue.submitter import JobSubmitter
from tests.service.conftest import Running
from tests.support.api_process import running_api
from tests.support.line import findings, make_job, picture, result_of
from tests.support.redis_server import RedisServer

MakeQueue = Callable[..., JobQueue]
PASS, REVIEW, FAIL = 0.25, 0.75, 1.5
"""Scores: the thresholds are 0.5 and 1."""


class Line:
    """A line whose images end with the scores that a test gives."""

    def __init__(self, submitter: JobSubmitter, queue: JobQueue) -> None:
        self._submitter, self._queue = submitter, queue

    async def end(self, score: float | None, **fields: Any) -> str:
        """One inspection from submission to its end: with this score, or failed without."""
        job = make_job(**fields)
        await self._submitter.submit(job)
        [claimed] = self._queue.claim(1)
        if score is None:
            self._queue.fail(claimed, Failure(code="model_error", detail="a model call failed"))
        else:
            self._queue.complete(claimed, result_of(claimed, score))
        return job.id


@pytest.fixture
def line(submitter: JobSubmitter, make_queue: MakeQueue) -> Line:
    """A line on the shared Redis."""
    return Line(submitter, make_queue())


async def ask(api: Running, by: str, **fields: Any) -> dict[str, Any] | None:
    """The next image for this person."""
    answer = await api.http.post("/v1/reviews/next", json={"by": by, **fields})
    assert answer.status_code in {200, 204}, answer.text
    found: dict[str, Any] | None = answer.json() if answer.status_code == 200 else None
    return found


async def decide(api: Running, task: dict[str, Any], decision: str, by: str, **fields: Any) -> dict[str, Any]:
    """The person's answer to a task."""
    body = {"decision": decision, "by": by, "claim": task["claim"], **fields}
    answer = await api.http.post(f"/v1/inspections/{task['inspection']['id']}/review", json=body)
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def order_of(api: Running, by: str = "ann", **fields: Any) -> list[str]:
    """The ids in which images are given, until none waits."""
    found = []
    while (task := await ask(api, by, **fields)) is not None:
        found.append(task["inspection"]["id"])
    return found


async def summary(api: Running, **params: str) -> dict[str, Any]:
    """What the summary says."""
    answer = await api.http.get("/v1/reviews/summary", params=params)
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def set_plan(api: Running, **fields: Any) -> None:
    """A review plan of product toy."""
    answer = await api.http.put("/v1/products/toy/review-plan", json={"by": "q", **fields})
    assert answer.status_code == 200, answer.text


async def test_what_failed_comes_first_then_what_is_for_review_the_oldest_first(api: Running, line: Line) -> None:
    first_review = await line.end(REVIEW)
    first_fail = await line.end(FAIL)
    await line.end(PASS)
    second_review = await line.end(REVIEW)
    second_fail = await line.end(FAIL)
    assert await order_of(api) == [first_fail, second_fail, first_review, second_review]


async def test_what_was_found_without_a_score_or_on_hold_waits_too_and_what_was_not_found_does_not(
    api: Running, submitter: JobSubmitter, make_queue: MakeQueue, line: Line
) -> None:
    api.services.artifacts.remove(api.services.artifacts.put(await line.end(None), IMAGE, picture()))
    queue = make_queue()
    job = make_job()
    await submitter.submit(job)
    [claimed] = queue.claim(1)
    unfit = unfit_result(
        claimed.job,
        Quality(passed=False),
        findings().timings_ms,
        started_at=claimed.started_at,
        attempts=1,
    )
    queue.complete(claimed, unfit)
    held_job = make_job(hold="lens is dirty")
    held = held_job.model_copy(update={"thresholds": held_job.thresholds.on_hold})
    await submitter.submit(held)
    [claimed] = queue.claim(1)
    queue.complete(claimed, result_of(claimed, PASS))
    assert await order_of(api) == [job.id, held.id]


async def test_a_limit_sample_is_no_production_and_waits_for_nobody(api: Running, line: Line) -> None:
    await line.end(FAIL, limit_sample="bad")
    await line.end(PASS, limit_sample="good", audit=0.5)
    assert await order_of(api) == []


async def test_only_images_of_the_product_and_station_that_are_asked_for_are_given(api: Running, line: Line) -> None:
    a = await line.end(FAIL, station="s1")
    b = await line.end(FAIL, station="s2")
    c = await line.end(FAIL, station="s1", product="other")
    for asked, expected in (
        ({"station": "s1", "product": "toy"}, [a]),
        ({"station": "s1"}, [c]),
        ({"product": "other"}, []),
        ({}, [b]),
    ):
        assert await order_of(api, **asked) == expected, asked


async def test_images_that_are_put_off_are_not_given_in_this_call(api: Running, line: Line) -> None:
    a, b = await line.end(FAIL), await line.end(FAIL)
    task = await ask(api, "ann", skip=[a])
    assert task is not None
    assert task["inspection"]["id"] == b


async def test_two_people_at_once_never_get_the_same_image(api: Running, line: Line) -> None:
    ids = [await line.end(FAIL) for _ in range(12)]
    tasks = await asyncio.gather(*(ask(api, f"person-{number % 4}") for number in range(20)))
    given = [task["inspection"]["id"] for task in tasks if task is not None]
    assert sorted(given) == sorted(ids)


async def test_two_api_processes_never_give_the_same_image_and_a_killed_one_takes_none_with_it(
    client: redis.Redis, shared_redis: RedisServer, toy_store: Path, tmp_path: Path, line: Line
) -> None:
    ids = [await line.end(FAIL) for _ in range(12)]
    settings = {"GLAD_REDIS_URL": shared_redis.url, "GLAD_STORE": str(toy_store)}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with ExitStack() as stack:
        apis = [stack.enter_context(running_api(settings, tmp_path / name)) for name in ("a", "b")]
        async with httpx.AsyncClient(timeout=30) as http:

            async def ask_one(number: int) -> str | None:
                url = f"http://127.0.0.1:{apis[number % 2].port}/v1/reviews/next"
                answer = await http.post(url, json={"by": f"person-{number}"})
                return answer.json()["inspection"]["id"] if answer.status_code == 200 else None

            given = await asyncio.gather(*(ask_one(number) for number in range(20)))
            assert sorted(one for one in given if one is not None) == sorted(ids)
            apis[0].child.kill()  # between the claims and the reviews
            assert await ask_one(1) is None
            lost = given[0] or ids[0]
            client.delete(keys.review_claim(lost))  # as after 120 s
            assert await ask_one(1) == lost


async def test_an_image_whose_person_went_away_is_given_again_when_the_claim_ends(
    api: Running, line: Line, client: redis.Redis
) -> None:
    inspection_id = await line.end(FAIL)
    lost = await ask(api, "ann")
    assert lost is not None
    assert await ask(api, "bob") is None
    assert 115_000 < client.pttl(keys.review_claim(inspection_id)) <= 120_000
    client.delete(keys.review_claim(inspection_id))  # as it does by itself after that time
    again = await ask(api, "bob")
    assert again is not None
    assert again["inspection"]["id"] == inspection_id
    # The first person comes back with an answer: it is another one's image now.
    late = {"decision": "ok", "by": "ann", "claim": lost["claim"]}
    refused = await api.http.post(f"/v1/inspections/{inspection_id}/review", json=late)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:glad:problem:claim-lost")
    renewed = await api.http.post(f"/v1/reviews/claims/{lost['claim']}/renew")
    assert (renewed.status_code, renewed.json()["type"]) == (409, "urn:glad:problem:claim-lost")
    await decide(api, again, "ok", "bob")
    assert await ask(api, "cid") is None


async def test_a_claim_ends_by_itself(async_client: redis.asyncio.Redis, line: Line) -> None:
    inspection_id = await line.end(FAIL)
    queue = ReviewQueue(async_client, length_s=0.05)
    first = await queue.next("ann")
    assert first is not None
    await asyncio.sleep(0.1)
    second = await queue.next("bob")
    assert second is not None
    assert (second.inspection_id, second.person) == (inspection_id, "bob")
    assert await queue.find(first.claim) is None


async def test_a_claim_can_be_renewed_and_given_back(api: Running, line: Line, client: redis.Redis) -> None:
    inspection_id = await line.end(FAIL)
    task = await ask(api, "ann")
    assert task is not None
    client.pexpire(keys.review_claim(inspection_id), 1000)
    renewed = await api.http.post(f"/v1/reviews/claims/{task['claim']}/renew")
    assert (renewed.status_code, renewed.json()["claim"]) == (200, task["claim"])
    assert client.pttl(keys.review_claim(inspection_id)) > 100_000
    for _ in range(2):  # the second changes nothing
        assert (await api.http.delete(f"/v1/reviews/claims/{task['claim']}")).status_code == 204
    again = await ask(api, "bob")
    assert again is not None
    # Giving back a claim that has ended does not end that of another.
    await api.http.delete(f"/v1/reviews/claims/{task['claim']}")
    assert await ask(api, "cid") is None


async def test_an_answer_that_is_sent_twice_is_one_review(api: Running, line: Line) -> None:
    await line.end(FAIL)
    task = await ask(api, "ann")
    assert task is not None
    first, second = [await decide(api, task, "defect", "ann") for _ in range(2)]
    assert first == second
    assert len(first["reviews"]) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"decision": "ok"},
        {"decision": "defect", "defect_code": "dent"},
        {"decision": "defect", "defect_code": "scratch", "note": "on the fixture"},
        {"decision": "defect", "defect_code": "scratch", "regions": [[1, 1, 2, 2]]},
    ],
)
async def test_another_answer_to_the_same_claim_is_refused_and_not_dropped(
    api: Running, line: Line, other: dict[str, Any]
) -> None:
    inspection_id = await line.end(FAIL)
    task = await ask(api, "ann")
    assert task is not None
    await decide(api, task, "defect", "ann", defect_code="scratch")
    body = {"by": "ann", "claim": task["claim"], **other}
    refused = await api.http.post(f"/v1/inspections/{inspection_id}/review", json=body)
    assert (refused.status_code, refused.json().get("type")) == (409, "urn:glad:problem:claim-lost")
    assert "otherwise" in refused.json()["detail"]
    [kept] = (await api.http.get(f"/v1/inspections/{inspection_id}")).json()["reviews"]
    assert (kept["decision"], kept["defect_code"]) == ("defect", "scratch")


async def test_who_asks_and_never_answers_does_not_get_all_that_waits(
    api: Running, line: Line, client: redis.Redis
) -> None:
    ids = [await line.end(FAIL) for _ in range(MOST_CLAIMS + 2)]
    tasks = [await ask(api, "greedy") for _ in range(MOST_CLAIMS)]
    refused = await api.http.post("/v1/reviews/next", json={"by": "greedy"})
    assert (refused.status_code, refused.json()["type"]) == (429, "urn:glad:problem:too-many-claims")
    assert refused.headers["Retry-After"] == "120"
    other = await ask(api, "bob")
    assert other is not None
    assert other["inspection"]["id"] == ids[MOST_CLAIMS]
    # An answer, a claim that is given back, and one that has ended make room again.
    given = [task for task in tasks if task is not None]
    await decide(api, given[0], "ok", "greedy")
    await api.http.delete(f"/v1/reviews/claims/{given[1]['claim']}")
    client.delete(keys.review_claim(given[2]["inspection"]["id"]))
    assert [(await ask(api, "greedy") or {})["inspection"]["id"] for _ in range(3)] == [ids[1], ids[2], ids[-1]]
    assert (await api.http.post("/v1/reviews/next", json={"by": "greedy"})).status_code == 429
    assert client.ttl(keys.review_claims("greedy")) <= 120


async def test_what_a_person_has_at_a_desk_is_given_again_there_and_the_old_claim_is_worth_nothing(
    api: Running, line: Line
) -> None:
    first, second = await line.end(FAIL), await line.end(FAIL)
    lost = await ask(api, "ann", desk="tab-1")  # whose answer nobody saw: the page was loaded anew
    again = await ask(api, "ann", desk="tab-1")
    assert lost is not None
    assert again is not None
    assert [lost["inspection"]["id"], again["inspection"]["id"]] == [first, first]
    assert (await api.http.post(f"/v1/reviews/claims/{lost['claim']}/renew")).status_code == 409
    await api.http.delete(f"/v1/reviews/claims/{lost['claim']}")  # of the page that was left, late
    assert (await order_of(api, "bob")) == [second]
    await decide(api, again, "ok", "ann")
    assert await ask(api, "ann", desk="tab-1") is None


async def test_images_of_two_desks_and_those_that_the_desk_names_are_not_given_again(api: Running, line: Line) -> None:
    ids = [await line.end(FAIL) for _ in range(5)]
    asked = [
        ("ann", "tab-1", ()),
        ("ann", "tab-1", ids[:1]),
        ("ann", "tab-2", ()),
        ("bob", "tab-1", ()),
        ("ann", None, ()),
    ]
    given = [await ask(api, by, skip=list(skip), **({"desk": desk} if desk else {})) for by, desk, skip in asked]
    assert [(task or {})["inspection"]["id"] for task in given] == ids
    assert await ask(api, "ann") is None  # without a desk it is as ever
    assert await ask(api, "bob", desk="tab-2") is None
    again = await ask(api, "ann", desk="tab-1")
    assert (again or {})["inspection"]["id"] == ids[0]  # of several the one that was given first
    again = await ask(api, "ann", desk="tab-2", inspection=ids[1])
    assert again is None  # an image that is asked for by its id is somebody's as any other
    again = await ask(api, "ann", desk="tab-1", inspection=ids[1])
    assert (again or {})["inspection"]["id"] == ids[1]


async def test_an_image_that_the_desk_does_not_ask_for_any_more_is_given_back(api: Running, line: Line) -> None:
    left = await line.end(FAIL, station="s1")
    await ask(api, "ann", desk="tab-1", station="s1")
    assert await ask(api, "bob") is None
    assert await ask(api, "ann", desk="tab-1", station="s2") is None
    assert ((await ask(api, "bob")) or {})["inspection"]["id"] == left


async def test_who_has_the_most_images_gets_those_of_the_desk_again_and_no_more(api: Running, line: Line) -> None:
    ids = [await line.end(FAIL) for _ in range(MOST_CLAIMS + 1)]
    for number in range(MOST_CLAIMS):
        await ask(api, "ann", desk="tab-1", skip=ids[:number])
    again = [await ask(api, "ann", desk="tab-1", skip=ids[:number]) for number in range(MOST_CLAIMS)]
    assert [(task or {})["inspection"]["id"] for task in again] == ids[:MOST_CLAIMS]
    full = {"by": "ann", "desk": "tab-1", "skip": ids[:MOST_CLAIMS]}
    assert (await api.http.post("/v1/reviews/next", json=full)).status_code == 429
    assert (await api.http.post("/v1/reviews/next", json={"by": "ann", "desk": "tab-2"})).status_code == 429


async def test_a_blind_image_is_given_again_blind_and_not_to_who_has_judged_it_meanwhile(
    api: Running, line: Line
) -> None:
    inspection_id = await line.end(PASS, audit=0.25)
    await ask(api, "ann", desk="tab-1")
    again = await ask(api, "ann", desk="tab-1")
    assert again is not None
    assert (again["task"], again["blind"], "verdict" in again["inspection"]) == ("audit", True, False)
    openly = {"decision": "ok", "by": "ann"}  # from the history, where everything is seen
    assert (await api.http.post(f"/v1/inspections/{inspection_id}/review", json=openly)).status_code == 200
    assert await ask(api, "ann", desk="tab-1") is None
    assert ((await ask(api, "bob")) or {})["task"] == "audit"


@pytest.mark.parametrize("desk", ["", "tab 1", "x" * 65, "a\nb", 7])
async def test_a_desk_is_a_short_name_of_letters_and_digits(api: Running, desk: object) -> None:
    assert (await api.http.post("/v1/reviews/next", json={"by": "ann", "desk": desk})).status_code == 422


async def test_an_image_that_is_looked_at_long_stays_one_of_the_persons(
    api: Running, line: Line, client: redis.Redis
) -> None:
    await line.end(FAIL)
    task = await ask(api, "ann")
    assert task is not None
    client.delete(keys.review_claims("ann"))  # as two minutes later
    await api.http.post(f"/v1/reviews/claims/{task['claim']}/renew")
    assert client.smembers(keys.review_claims("ann")) == {task["inspection"]["id"]}
    assert 115_000 < client.pttl(keys.review_claims("ann")) <= 120_000


async def test_the_image_of_one_person_is_not_answered_by_another(api: Running, line: Line) -> None:
    inspection_id = await line.end(FAIL)
    task = await ask(api, "ann")
    assert task is not None
    body = {"decision": "ok", "by": "bob", "claim": task["claim"]}
    refused = await api.http.post(f"/v1/inspections/{inspection_id}/review", json=body)
    assert (refused.status_code, [one["field"] for one in refused.json()["errors"]]) == (422, ["by"])


async def test_a_withdrawn_review_does_not_count_and_the_image_is_open_again(
    api: Running, line: Line, client: redis.Redis
) -> None:
    inspection_id = await line.end(REVIEW, serial="SN-1")
    task = await ask(api, "ann")
    assert task is not None
    await decide(api, task, "defect", "ann", defect_code="scratch", regions=[])
    assert (await api.http.get("/v1/parts/SN-1")).json()["verdict"] == "fail"
    assert await ask(api, "ann") is None
    answer = await api.http.delete(f"/v1/inspections/{inspection_id}/review", params={"by": "ann"})
    [review] = answer.json()["reviews"]
    assert (review["withdrawn_by"], review["regions"]) == ("ann", [])
    assert (await api.http.get("/v1/parts/SN-1")).json()["views"][0]["reason"] == "score"
    assert await order_of(api) == [inspection_id]
    for params in ({"defect_code": "scratch"}, {"reviewed": "true"}):
        assert (await api.http.get("/v1/inspections", params=params)).json()["inspections"] == []
    events: Any = client.xrange(keys.EVENTS)
    kinds = [fields["event"].split('"')[3] for _, fields in events]
    assert kinds == ["inspection.done", "inspection.reviewed", "inspection.review_withdrawn"]
    shown = await summary(api)
    assert (shown["reviewed"], shown["withdrawn"], shown["waiting"]["review"]) == (0, 1, 1)


@pytest.mark.usefixtures("keys_read_at_once")
async def test_who_takes_a_blind_decision_back_gets_that_image_again_and_still_blind(api: Running, line: Line) -> None:
    drawn = await line.end(FAIL, audit=0.5)
    await line.end(FAIL)
    task = await ask(api, "ann", inspection=drawn)
    assert task is not None
    assert await ask(api, "bob", inspection=drawn) is None  # ann has it
    await decide(api, task, "ok", "ann")
    assert await ask(api, "ann", inspection=drawn) is None  # it does not wait
    await api.http.delete(f"/v1/inspections/{drawn}/review", params={"by": "ann"})
    again = await ask(api, "ann", inspection=drawn)
    assert again is not None
    assert (again["inspection"]["id"], again["task"], again["blind"]) == (drawn, "audit", True)
    assert again["claim"] != task["claim"]
    assert await ask(api, "ann", inspection="019abc12-3456-7def-8123-456789abcdef") is None


@pytest.mark.parametrize("at", ["2026-11-23T08:15:30.120500Z", "2026-11-23T08:15:30.120+00:00"])
async def test_a_review_whose_time_was_written_otherwise_is_withdrawn(
    api: Running, line: Line, client: redis.Redis, at: str
) -> None:
    inspection = await line.end(FAIL)
    client.hset(keys.inspection(inspection), "reviews", json.dumps({"decision": "ok", "by": "ann", "at": at}) + "\n")
    calls = asyncio.create_task(api.http.delete(f"/v1/inspections/{inspection}/review", params={"by": "ann"}))
    done, _ = await asyncio.wait({calls}, timeout=60)
    assert done, "it is tried again and again"
    assert calls.result().json()["reviews"][0]["withdrawn_by"] == "ann"


async def test_an_image_that_takes_no_further_review_waits_for_none(api: Running, line: Line) -> None:
    await line.end(FAIL, product="toy")
    for _ in range(MOST_REVIEWS):
        task = await ask(api, "ann")
        assert task is not None
        await decide(api, task, "ok", "ann")
        url = f"/v1/inspections/{task['inspection']['id']}/review"
        assert (await api.http.delete(url, params={"by": "ann"})).status_code == 200
    last = await ask(api, "ann")
    assert last is not None
    body = {"decision": "ok", "by": "ann", "claim": last["claim"]}
    refused = await api.http.post(url, json=body)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:glad:problem:not-reviewable")
    await api.http.delete(f"/v1/reviews/claims/{last['claim']}")
    assert await ask(api, "bob") is None
    assert (await summary(api))["waiting"]["fail"] == 0


async def test_a_key_withdraws_its_persons_own_reviews_and_admin_anybodys(
    api: Running, line: Line, client: redis.Redis
) -> None:
    url = f"/v1/inspections/{await line.end(FAIL)}/review"
    store = KeyStore(client)
    reviewer = {"X-API-Key": store.create("bench", [Scope.REVIEW])}
    admin = {"X-API-Key": store.create("chief", [Scope.ADMIN])}
    for by in ("ann", "bob"):
        await api.http.post(url, json={"decision": "ok", "by": by}, headers=reviewer)
    refused = await api.http.delete(url, params={"by": "cid"}, headers=reviewer)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:glad:problem:nothing-to-withdraw")
    own = await api.http.delete(url, params={"by": "ann"}, headers=reviewer)
    assert [one["withdrawn_by"] for one in own.json()["reviews"]] == ["ann", None]
    other = await api.http.delete(url, params={"by": "chief"}, headers=admin)
    assert [one["withdrawn_by"] for one in other.json()["reviews"]] == ["ann", "chief"]


async def test_an_image_drawn_for_the_audit_is_judged_blind_whatever_was_found(api: Running, line: Line) -> None:
    ids = [await line.end(score, audit=0.25, metadata={"line": "fail"}) for score in (PASS, REVIEW, FAIL)]
    seen = []
    for _ in ids:
        task = await ask(api, "ann")
        assert task is not None
        seen.append(task["inspection"]["id"])
        assert (task["task"], task["blind"]) == ("audit", True)
        hidden = {"verdict", "score", "calibrated_score", "regions", "hold", "reviews", "thresholds", "quality"}
        hidden |= {"denoising_step", "unet_evaluations", "near_tie", "seed", "timings_ms", "error", "audit"}
        assert hidden.isdisjoint(task["inspection"])
        assert (set(task["inspection"]["artifacts"]), task["inspection"]["metadata"]) == ({"image"}, None)
        answered = await decide(api, task, "ok", "ann")
        assert hidden.isdisjoint(answered)  # so that an undo stays blind
    assert seen == ids
    reviews = [(await api.http.get(f"/v1/inspections/{one}")).json()["reviews"] for one in ids]
    assert [(one["audit"], one["blind"], one["double_read"]) for [one] in reviews] == [(0.25, True, False)] * 3


async def test_a_review_that_was_not_blind_leaves_the_audit_open_for_somebody_else(api: Running, line: Line) -> None:
    inspection_id = await line.end(FAIL, audit=0.25)
    await api.http.post(f"/v1/inspections/{inspection_id}/review", json={"decision": "defect", "by": "ann"})
    assert await ask(api, "ann") is None  # she has seen what was found
    task = await ask(api, "bob")
    assert task is not None
    await decide(api, task, "ok", "bob")
    shown = (await api.http.get(f"/v1/inspections/{inspection_id}")).json()["reviews"]
    assert [(one["by"], one["audit"]) for one in shown] == [("ann", None), ("bob", 0.25)]
    assert (await summary(api))["waiting"]["audit"] == 0


async def test_a_full_queue_does_not_leave_the_audit_without_answers(api: Running, line: Line) -> None:
    fails = [await line.end(FAIL) for _ in range(6)]
    audited = [await line.end(PASS, audit=0.1) for _ in range(2)]
    # Each fourth image is a blind one, if any waits.
    assert await order_of(api) == [*fails[:3], audited[0], *fails[3:], audited[1]]


async def test_a_double_read_goes_to_another_person_who_sees_no_decision(api: Running, line: Line) -> None:
    await set_plan(api, double_read_share=1.0)
    inspection_id = await line.end(FAIL)
    task = await ask(api, "ann")
    assert task is not None
    await decide(api, task, "defect", "ann")
    assert await ask(api, "ann") is None
    second = await ask(api, "bob")
    assert second is not None
    assert (second["task"], second["blind"], second["inspection"]["id"]) == ("double_read", True, inspection_id)
    await decide(api, second, "ok", "bob")
    figures = await summary(api)
    assert figures["double_read"] == {"pairs": 1, "agreed": 0, "kappa": 0.0}
    # kappa: p_o = 0; the first always says defect, the second always ok, so p_e = 0, and (0 - 0) / (1 - 0) = 0


@pytest.mark.parametrize(
    ("pairs", "kappa"),
    [
        ([], None),
        (["aa", "aa"], None),  # p_e = 1
        # p_o = 35/50, p_e = (25·30 + 25·20)/50² = 1/2: (0.7 - 0.5)/0.5, the example in Cohen's kappa's usual form
        (["yy"] * 20 + ["yn"] * 5 + ["ny"] * 10 + ["nn"] * 15, 0.4),
    ],
)
def test_kappa_is_what_cohen_defined(pairs: list[str], kappa: float | None) -> None:
    found = cohens_kappa([(pair[0], pair[1]) for pair in pairs])
    assert found == (None if kappa is None else pytest.approx(kappa))


def test_the_draw_is_a_share_decided_by_the_id_alone_and_apart_for_each_purpose() -> None:
    ids = [make_job().id for _ in range(4000)]
    drawn = {one for one in ids if is_drawn("audit", one, 0.1)}
    assert drawn == {one for one in ids if is_drawn("audit", one, 0.1)}
    # 400 expected; the standard deviation is sqrt(4000 · 0.1 · 0.9) = 19: six of them on either side
    assert 286 < len(drawn) < 514
    both = {one for one in drawn if is_drawn("double_read", one, 0.1)}
    assert len(both) < len(drawn) / 2
    assert not any(is_drawn("audit", one, 0.0) for one in ids)
    assert all(is_drawn("audit", one, 1.0) for one in ids)


async def test_the_draw_is_pinned_with_its_probability_when_an_image_is_accepted(api: Running) -> None:
    url = "/v1/products/toy/inspections"
    before = (await api.http.post(url, content=picture())).json()
    await set_plan(api, audit_share=1.0)
    after = (await api.http.post(url, content=picture())).json()
    await set_plan(api, audit_share=0.0)
    assert (before["audit"], after["audit"]) == (None, 1.0)
    assert (await api.http.get(f"/v1/inspections/{after['id']}")).json()["audit"] == 1.0


async def test_a_plan_is_shown_with_those_before_it(api: Running) -> None:
    url = "/v1/products/toy/review-plan"
    unset = (await api.http.get(url)).json()
    assert (unset["revision"], unset["audit_share"], unset["defect_codes"], unset["by"]) == (0, 0.0, [], None)
    codes = [{"code": "scratch", "title": "Kratzer", "key": "s"}]
    await set_plan(api, audit_share=0.02)
    await set_plan(api, audit_share=0.05, defect_codes=codes)
    shown = (await api.http.get(url)).json()
    assert (shown["revision"], shown["audit_share"], shown["defect_codes"], shown["by"]) == (2, 0.05, codes, "q")
    assert [(one["revision"], one["audit_share"]) for one in shown["earlier"]] == [(1, 0.02)]
    assert (await api.http.get("/v1/products/none/review-plan")).status_code == 404


async def test_a_change_of_the_plan_whose_answer_was_lost_may_be_repeated(api: Running) -> None:
    async def change(**fields: Any) -> httpx.Response:
        return await api.http.put(
            "/v1/products/toy/review-plan", json={"audit_share": 0.1, "by": "ann"} | fields, headers={"If-Match": '"0"'}
        )

    first, again = await change(), await change()
    assert (first.status_code, again.status_code, again.headers["etag"]) == (200, 200, '"1"')
    assert again.json() == first.json()
    for other in ({"by": "bob"}, {"audit_share": 0.2}):
        assert (await change(**other)).status_code == 412, other


async def test_of_two_people_who_change_the_plan_they_saw_one_is_refused_and_told_by_whom(api: Running) -> None:
    url = "/v1/products/toy/review-plan"
    seen = (await api.http.get(url)).headers["etag"]
    assert seen == '"0"'
    answers = await asyncio.gather(
        *(api.http.put(url, json={"audit_share": 0.1, "by": by}, headers={"If-Match": seen}) for by in ("ann", "bob"))
    )
    made, refused = sorted(answers, key=lambda one: one.status_code)
    assert (made.status_code, made.headers["etag"], made.json()["revision"]) == (200, '"1"', 1)
    assert (refused.status_code, refused.json()["type"]) == (412, "urn:glad:problem:precondition-failed")
    assert f"revision 1, set by {made.json()['by']}" in refused.json()["detail"]
    shown = await api.http.get(url)
    assert (shown.headers["etag"], shown.json()["by"], shown.json()["earlier"]) == ('"1"', made.json()["by"], [])
    for stale in ('W/"1"', '"0"', "1", ""):
        assert (await api.http.put(url, json={}, headers={"If-Match": stale})).status_code == 412, stale
    for fresh in ('"7", "1"', "*"):
        assert (await api.http.put(url, json={"by": fresh}, headers={"If-Match": fresh})).status_code == 200, fresh
    await set_plan(api)  # an old caller, who names none
    assert (await api.http.get(url)).json()["revision"] == 4


@pytest.mark.parametrize(
    ("field", "plan"),
    [
        ("audit_share", {"audit_share": 1.5}),
        ("defect_codes", {"defect_codes": [{"code": "a", "title": "A"}, {"code": "A", "title": "B"}]}),
        ("defect_codes", {"defect_codes": [{"code": "a", "title": "A", "key": "o"}]}),
        ("defect_codes.0.code", {"defect_codes": [{"code": "../x", "title": "A"}]}),
        ("shares", {"shares": 1}),
    ],
)
async def test_a_plan_that_is_none_is_refused(api: Running, field: str, plan: dict[str, Any]) -> None:
    answer = await api.http.put("/v1/products/toy/review-plan", json=plan)
    assert (answer.status_code, [one["field"] for one in answer.json()["errors"]]) == (422, [field])


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("defect_code", {"decision": "defect", "defect_code": "dent"}),
        ("regions", {"decision": "defect", "regions": [[20, 10, 11, 5]]}),  # the image is 30 pixels wide
        ("regions.0.2", {"decision": "defect", "regions": [[1, 1, 0, 5]]}),
        ("request", {"decision": "ok", "defect_code": "scratch"}),
    ],
)
async def test_a_defect_that_cannot_be_is_refused(api: Running, line: Line, field: str, given: dict[str, Any]) -> None:
    await set_plan(api, defect_codes=[{"code": "scratch", "title": "Scratch"}])
    url = f"/v1/inspections/{await line.end(FAIL)}/review"
    answer = await api.http.post(url, json={"by": "ann", **given})
    assert (answer.status_code, [one["field"] for one in answer.json()["errors"]]) == (422, [field])


async def test_code_regions_and_reviewed_are_found_in_the_history(api: Running, line: Line) -> None:
    a, b = await line.end(FAIL), await line.end(FAIL)
    body = {"decision": "defect", "by": "ann", "defect_code": "scratch", "regions": [[1, 2, 10, 5]]}
    await api.http.post(f"/v1/inspections/{a}/review", json=body)

    async def found(**params: str) -> list[str]:
        page = (await api.http.get("/v1/inspections", params=params)).json()
        return [one["id"] for one in page["inspections"]]

    assert (await found(defect_code="scratch"), await found(defect_code="dent")) == ([a], [])
    assert (await found(reviewed="true"), await found(reviewed="false")) == ([a], [b])
    assert await found(reviewed="false", verdict="fail", limit="1") == [b]
    shown = (await api.http.get(f"/v1/inspections/{a}")).json()["reviews"][0]
    assert (shown["defect_code"], shown["regions"]) == ("scratch", [[1, 2, 10, 5]])
    await api.http.post(f"/v1/inspections/{a}/review", json={"decision": "ok", "by": "bob"})  # the last one counts
    assert await found(defect_code="scratch") == []


async def test_a_review_of_an_older_version_is_read_and_counts(api: Running, line: Line, client: redis.Redis) -> None:
    inspection_id = await line.end(FAIL, serial="SN-1")
    old = '{"decision":"ok","by":"a.meier","at":"2026-11-23T08:17:02.005Z"}\n'
    client.hset(keys.inspection(inspection_id), "reviews", old)
    assert (await api.http.get("/v1/parts/SN-1")).json()["verdict"] == "pass"
    answer = await api.http.post(f"/v1/inspections/{inspection_id}/review", json={"decision": "ok", "by": "b"})
    assert [(one["by"], one["blind"], one["audit"]) for one in answer.json()["reviews"]] == [
        ("a.meier", False, None),
        ("b", False, None),
    ]


async def test_an_inspection_of_before_the_history_can_be_reviewed(
    api: Running, line: Line, client: redis.Redis
) -> None:
    inspection_id = await line.end(FAIL)
    client.zrem(keys.HISTORY, inspection_id)
    answer = await api.http.post(f"/v1/inspections/{inspection_id}/review", json={"decision": "ok", "by": "b"})
    assert answer.status_code == 200


async def test_what_is_let_go_leaves_every_index_of_the_reviews(
    api: Running, submitter: JobSubmitter, client: redis.Redis, make_queue: MakeQueue
) -> None:
    await set_plan(api, double_read_share=1.0)
    line = Line(submitter, make_queue(retention=Retention(max_results=4)))
    kept = {"station": "s1", "serial": "SN-1"}
    await line.end(FAIL, **kept)
    task = await ask(api, "ann")
    assert task is not None
    await decide(api, task, "defect", "ann", defect_code="scratch")  # it waits for a double read now
    await line.end(REVIEW, **kept)
    await line.end(PASS, audit=0.5, **kept)
    await line.end(FAIL, **kept)
    await api.http.put("/v1/parts/SN-1/disposition", json={"disposition": "scrap", "by": "mes"})
    touched = [*client.scan_iter(f"{keys.WAITING_PREFIX}*"), keys.history("defect_code", "scratch")]
    touched += [keys.history("reviewed", "true"), keys.history("reviews", "any"), keys.history("disposition", "scrap")]
    assert all(client.zcard(key) for key in touched)
    assert len(touched) == 4 * 4 + 4  # four kinds, each of all, the product, the station and both
    for _ in range(4):
        await line.end(PASS)
    assert [key for key in touched if client.exists(key)] == []


async def test_what_expired_is_given_to_nobody(api: Running, line: Line, client: redis.Redis) -> None:
    gone, kept = await line.end(FAIL), await line.end(FAIL)
    client.delete(keys.inspection(gone))
    assert await order_of(api) == [kept]
    assert client.zscore(f"{keys.WAITING_PREFIX}fail", gone) is None


async def test_a_page_of_the_history_costs_the_same_however_much_was_reviewed(
    client: redis.Redis, shared_redis: RedisServer, line: Line
) -> None:
    """Structure, not seconds: the filter is an index whose range is asked for, and no other inspection is read."""
    wanted = await line.end(FAIL)
    others = {f"other-{number}": number for number in range(5000)}
    client.zadd(keys.HISTORY, others)
    client.zadd(keys.history("defect_code", "scratch"), {wanted: client.zscore(keys.HISTORY, wanted) or 0})
    client.config_resetstat()
    async with connect_async(shared_redis.url) as found:
        page = await History(found).page(HistoryFilter(defect_code="scratch"))
    assert [one.id for one in page.results] == [wanted]
    stats: Any = client.info("commandstats")
    assert stats["cmdstat_hmget"]["calls"] == 1
    assert stats["cmdstat_zrangebyscore"]["calls"] == 1


async def test_who_signed_in_is_who_judged_whatever_the_call_says(api: Running, line: Line) -> None:
    inspection_id = await line.end(FAIL)
    view = (await api.http.post("/v1/session", json={"person": "A. Meier"})).json()
    headers = {"X-CSRF-Token": view["csrf"]}
    task = (await api.http.post("/v1/reviews/next", json={}, headers=headers)).json()
    body = {"decision": "ok", "by": "somebody else", "claim": task["claim"]}
    url = f"/v1/inspections/{inspection_id}/review"
    answer = await api.http.post(url, json=body, headers=headers)
    assert [one["by"] for one in answer.json()["reviews"]] == ["A. Meier"]
    withdrawn = await api.http.delete(url, headers=headers)
    assert [one["withdrawn_by"] for one in withdrawn.json()["reviews"]] == ["A. Meier"]
