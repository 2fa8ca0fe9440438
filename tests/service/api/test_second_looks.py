"""A blind second look measures how far people agree. It never replaces the first decision: where the two disagree, a
third person decides, and until then the part is for review.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import redis

from service.queue import keys
from service.queue.jobs import JobQueue
from service.queue.submitter import JobSubmitter
from service.storage.labelled_data import label_image
from tests.service.api.test_review_queue import FAIL, PASS, REVIEW, Line, ask, decide, set_plan, summary
from tests.service.conftest import Running

MakeQueue = Callable[..., JobQueue]


@pytest.fixture
def line(submitter: JobSubmitter, make_queue: MakeQueue) -> Line:
    """A line on the shared Redis."""
    return Line(submitter, make_queue())


async def judged_twice(api: Running, line: Line, first: str, second: str, **fields: Any) -> str:
    """An image of part SN-1 that ann judged and then bob, blind; returns its id."""
    await set_plan(api, double_read_share=1.0)
    inspection_id = await line.end(FAIL, serial="SN-1", **fields)
    for by, decision in (("ann", first), ("bob", second)):
        task = await ask(api, by)
        assert task is not None
        code = {"defect_code": "scratch"} if decision == "defect" else {}
        await decide(api, task, decision, by, **code)
    return inspection_id


async def part(api: Running) -> tuple[str | None, str, list[str]]:
    """Verdict, reason and reasons of the part's only view."""
    [view] = (await api.http.get("/v1/parts/SN-1")).json()["views"]
    return view["verdict"], view["reason"], view["review_reasons"]


async def found(api: Running, **params: str) -> list[str]:
    """The ids that the history has for these filters."""
    page = (await api.http.get("/v1/inspections", params=params)).json()
    return [one["id"] for one in page["inspections"]]


async def test_a_second_look_that_agrees_leaves_the_first_decision_as_it_was(
    api: Running, line: Line, client: redis.Redis
) -> None:
    inspection_id = await judged_twice(api, line, "ok", "ok")
    assert await part(api) == ("pass", "operator", [])
    result = await api.services.results.get(inspection_id)
    assert result is not None
    assert result.counting_review is not None
    assert (result.counting_review.by, result.decision) == ("ann", "ok")
    assert await ask(api, "cid") is None
    rows: Any = client.xrevrange(keys.EVENTS, count=1)
    event = json.loads(rows[0][1]["event"])
    assert (event["decision"], event["review"]["by"], event["review"]["double_read"]) == ("ok", "bob", True)


async def test_where_two_people_disagree_no_decision_counts_until_a_third_one(
    api: Running, line: Line, client: redis.Redis
) -> None:
    inspection_id = await judged_twice(api, line, "defect", "ok")
    assert await part(api) == ("review", "disputed", ["disputed"])
    shown = (await api.http.get(f"/v1/inspections/{inspection_id}")).json()
    assert (shown["verdict"], shown["decision"]) == ("fail", "disputed")
    assert await found(api, defect_code="scratch") == await found(api, reviewed="true") == []
    counted = (await api.http.get("/v1/statistics")).json()
    assert (counted["review"], counted["fail"], counted["by_defect_code"]) == (1, 0, [])
    result = await api.services.results.get(inspection_id)
    assert result is not None
    assert label_image(result, ".png") is None  # nobody knows what to call it
    figures = await summary(api)
    assert figures["waiting"]["disputed"] == 1
    assert (figures["reviewed"], figures["agreement"]["fail"]) == (0, {"ok": 0, "defect": 0})
    assert figures["double_read"] == {"pairs": 1, "agreed": 0, "kappa": 0.0}
    rows: Any = client.xrevrange(keys.EVENTS, count=1)
    assert json.loads(rows[0][1]["event"])["decision"] == "disputed"

    task = await ask(api, "cid")
    assert task is not None
    assert (task["task"], task["blind"], task["inspection"]["id"]) == ("queue", False, inspection_id)
    assert [one["decision"] for one in task["inspection"]["reviews"]] == ["defect", "ok"]
    await decide(api, task, "defect", "cid", defect_code="dent")
    assert await part(api) == ("fail", "operator", [])
    assert await found(api, defect_code="dent") == await found(api, reviewed="true") == [inspection_id]
    assert await ask(api, "dan") is None  # it has been looked at often enough
    figures = await summary(api)
    assert figures["agreement"]["fail"] == {"ok": 0, "defect": 1}
    assert figures["double_read"] == {"pairs": 1, "agreed": 0, "kappa": 0.0}  # still of the two blind looks


async def test_what_two_people_dispute_is_given_to_a_third_before_all_else_and_to_none_of_the_two(
    api: Running, line: Line
) -> None:
    disputed = await judged_twice(api, line, "defect", "ok")
    other = await line.end(FAIL)
    for by, expected in (("ann", other), ("cid", disputed)):
        task = await ask(api, by)
        assert task is not None
        assert task["inspection"]["id"] == expected
        await api.http.delete(f"/v1/reviews/claims/{task['claim']}")


async def test_without_a_third_person_one_of_the_two_settles_it_openly(api: Running, line: Line) -> None:
    inspection_id = await judged_twice(api, line, "defect", "ok")
    url = f"/v1/inspections/{inspection_id}/review"
    await api.http.post(url, json={"decision": "ok", "by": "ann", "note": "dust, bob is right"})
    assert await part(api) == ("pass", "operator", [])


@pytest.mark.parametrize(("who", "after"), [("ann", "pass"), ("bob", "fail")])
async def test_if_one_of_two_who_disagree_withdraws_the_other_decision_counts(
    api: Running, line: Line, who: str, after: str
) -> None:
    inspection_id = await judged_twice(api, line, "defect", "ok")
    await api.http.delete(f"/v1/inspections/{inspection_id}/review", params={"by": who})
    assert (await part(api))[0] == after
    assert (await summary(api))["waiting"]["disputed"] == 0


async def test_a_blind_answer_to_the_audit_does_not_replace_an_open_decision_either(api: Running, line: Line) -> None:
    inspection_id = await line.end(PASS, serial="SN-1", audit=0.5)
    await api.http.post(f"/v1/inspections/{inspection_id}/review", json={"decision": "defect", "by": "ann"})
    task = await ask(api, "bob")
    assert task is not None
    await decide(api, task, "ok", "bob")
    assert await part(api) == ("review", "disputed", ["disputed"])
    result = await api.services.results.get(inspection_id)
    assert result is not None
    third = await ask(api, "cid")
    assert third is not None
    await decide(api, third, "defect", "cid")
    result = await api.services.results.get(inspection_id)
    assert result is not None
    labelled = label_image(result, ".png")
    assert labelled is not None
    assert labelled.audit is not None
    # The label is what counts; the audit's answer stays the blind one, which an open decision must not move.
    assert (labelled.decision, labelled.audit.decision) == ("defect", "ok")


async def test_a_decision_from_the_history_ends_the_claim_of_who_has_the_image_and_is_not_replaced_unseen(
    api: Running, line: Line
) -> None:
    inspection_id = await line.end(FAIL, serial="SN-1")
    task = await ask(api, "ann")
    assert task is not None
    url = f"/v1/inspections/{inspection_id}/review"
    assert (await api.http.post(url, json={"decision": "defect", "by": "bob"})).status_code == 200
    late = await api.http.post(url, json={"decision": "ok", "by": "ann", "claim": task["claim"]})
    assert (late.status_code, late.json()["type"]) == (409, "urn:glad:problem:claim-lost")
    assert await part(api) == ("fail", "operator", [])


async def test_a_decision_from_the_history_leaves_a_blind_look_that_is_still_wanted(api: Running, line: Line) -> None:
    inspection_id = await line.end(FAIL, audit=0.5)
    task = await ask(api, "ann")
    assert task is not None
    await api.http.post(f"/v1/inspections/{inspection_id}/review", json={"decision": "defect", "by": "bob"})
    answer = await decide(api, task, "defect", "ann")
    assert answer["id"] == inspection_id


async def test_who_reviews_one_after_the_other_without_being_asked_replaces_the_decision_as_ever(
    api: Running, line: Line
) -> None:
    inspection_id = await line.end(REVIEW, serial="SN-1")
    for by, decision in (("ann", "ok"), ("bob", "defect")):
        await api.http.post(f"/v1/inspections/{inspection_id}/review", json={"decision": decision, "by": by})
    assert await part(api) == ("fail", "operator", [])
