"""A part's verdict: the worst of its views, and never pass while something is open."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import redis

from service.api.routes.parts import part_verdict
from service.contract import Failure, Priority, Result, State, new_inspection_id, now
from service.queue import keys
from service.queue.claims import ClaimedJob
from service.queue.jobs import JobQueue
from service.queue.submitter import JobSubmitter
from tests.service.conftest import Running
from tests.support.line import make_job, result_of

MakeQueue = Callable[..., JobQueue]
URL = "/v1/parts/SN-1"


async def claim(submitter: JobSubmitter, queue: JobQueue, **fields: Any) -> ClaimedJob:
    """An inspection that runs."""
    await submitter.submit(make_job(**({"serial": "SN-1"} | fields)))
    [claimed] = queue.claim(1)
    return claimed


def views(part: dict[str, Any]) -> dict[str | None, tuple[str | None, str]]:
    """view -> verdict and reason."""
    return {one["view"]: (one["verdict"], one["reason"]) for one in part["views"]}


async def test_the_verdict_is_null_until_every_view_has_ended_and_then_the_worst(
    api: Running, submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis
) -> None:
    queue = make_queue()
    top, side = [await claim(submitter, queue, view=view) for view in ("top", "side")]
    await claim(submitter, queue, serial="SN-2")
    queue.complete(top, result_of(top, 0.1))
    part = (await api.http.get(URL)).json()
    assert (part["verdict"], part["finished"]) == (None, False)
    assert views(part) == {"top": ("pass", "score"), "side": (None, "unfinished")}
    queue.complete(side, result_of(side, 0.7))
    part = (await api.http.get(URL)).json()
    assert (part["verdict"], part["finished"]) == ("review", True)
    assert views(part) == {"top": ("pass", "score"), "side": ("review", "score")}
    assert client.exists(keys.unfinished("SN-1")) == 0


async def test_an_inspection_without_a_result_is_for_review(
    api: Running, submitter: JobSubmitter, make_queue: MakeQueue
) -> None:
    queue = make_queue()
    good = await claim(submitter, queue, view="top")
    queue.complete(good, result_of(good, 0.1))
    late = await claim(submitter, queue, view="side")
    queue.fail(late, Failure(code="deadline_passed", detail="too late"), state=State.EXPIRED)
    part = (await api.http.get(URL)).json()
    assert part["verdict"] == "review"
    assert views(part)["side"] == ("review", "no_result")


async def test_the_last_image_of_a_view_counts(api: Running, submitter: JobSubmitter, make_queue: MakeQueue) -> None:
    queue = make_queue()
    first = await claim(submitter, queue, view="top")
    again = await claim(submitter, queue, view="top")
    queue.complete(again, result_of(again, 0.1))
    queue.complete(first, result_of(first, 2.0))  # accepted earlier, ended later
    part = (await api.http.get(URL)).json()
    assert part["verdict"] == "pass"
    assert [one["inspection_id"] for one in part["views"]] == [again.id]


async def test_the_last_image_is_the_one_that_redis_took_last_whatever_the_jobs_say(
    api: Running, submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis
) -> None:
    """Times and ids are of three machines, each more behind; Redis's clock went back, so all came at one time."""
    ahead = client.xadd(keys.PoolKeys("default").jobs(Priority.NORMAL), {"id": ""}, id="33333333333333-0")
    assert ahead == "33333333333333-0"
    queue = make_queue()
    for behind_s, score in enumerate((0.1, 0.1, 2.0)):
        at = now() - timedelta(seconds=behind_s)
        last = await claim(submitter, queue, view="top", id=new_inspection_id(at), accepted_at=at)
        queue.complete(last, result_of(last, score))
    part = (await api.http.get(URL)).json()
    assert (part["verdict"], [one["inspection_id"] for one in part["views"]]) == ("fail", [last.id])


async def test_an_operators_review_counts_instead_of_the_score(
    api: Running, submitter: JobSubmitter, make_queue: MakeQueue
) -> None:
    queue = make_queue()
    for view, score in (("top", 0.7), ("side", 0.1)):
        claimed = await claim(submitter, queue, view=view)
        queue.complete(claimed, result_of(claimed, score))
        if view == "top":
            top = claimed.id
    await api.http.post(f"/v1/inspections/{top}/review", json={"decision": "ok", "by": "a"})
    part = (await api.http.get(URL)).json()
    assert (part["verdict"], views(part)["top"]) == ("pass", ("pass", "operator"))
    await api.http.post(f"/v1/inspections/{top}/review", json={"decision": "defect", "by": "a"})
    assert (await api.http.get(URL)).json()["verdict"] == "fail"


async def test_a_missing_view_is_for_review(submitter: JobSubmitter, make_queue: MakeQueue) -> None:
    top = result_of(await claim(submitter, make_queue(), view="top"), 0.1)
    complete = part_verdict("SN-1", [top], expected=[("toy", "top")])
    assert complete.verdict == "pass"
    missing = part_verdict("SN-1", [top], expected=[("toy", "top"), ("toy", "bottom")])
    assert (missing.verdict, missing.finished) == ("review", True)
    [bottom] = [one for one in missing.views if one.view == "bottom"]
    assert (bottom.reason, bottom.state, bottom.inspection_id) == ("missing", None, None)


def test_the_worst_does_not_depend_on_the_order() -> None:
    def ended(view: str, score: float) -> Result:
        claimed = ClaimedJob(make_job(view=view), "w", 1, alone=False, waited_ms=0, started_ms=0, claimed_ms=0)
        return result_of(claimed, score)

    results = [ended("a", 0.7), ended("b", 1.5), ended("c", 0.1)]
    assert {
        part_verdict("s", [results[i] for i in order], ()).verdict for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0))
    } == {"fail"}


async def test_a_serial_may_hold_anything_printable(
    api: Running, submitter: JobSubmitter, make_queue: MakeQueue
) -> None:
    serial = "A/12 ü:*?"
    claimed = await claim(submitter, make_queue(), serial=serial)
    assert claimed.job.serial == serial
    answer = await api.http.get("/v1/parts/A%2F12%20%C3%BC:*%3F")
    assert (answer.status_code, answer.json()["serial"]) == (200, serial)


async def test_an_unknown_part_is_404(api: Running) -> None:
    answer = await api.http.get("/v1/parts/SN-404")
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:glad:problem:unknown-part")
    assert (await api.http.get("/v1/parts/" + "x" * 129)).status_code == 422


async def test_a_view_that_the_call_expects_and_no_image_showed_is_for_review(
    api: Running, submitter: JobSubmitter, make_queue: MakeQueue
) -> None:
    queue = make_queue()
    top = await claim(submitter, queue, view="top")
    queue.complete(top, result_of(top, 0.1))
    seen = (await api.http.get(URL, params={"expected_view": "top"})).json()
    assert (seen["verdict"], len(seen["views"])) == ("pass", 1)
    both = (await api.http.get(URL, params={"expected_view": ["top", "bottom", "bottom"]})).json()
    assert (both["verdict"], both["finished"]) == ("review", True)
    assert views(both) == {"top": ("pass", "score"), "bottom": ("review", "missing")}
    assert [one["product"] for one in both["views"] if one["view"] == "bottom"] == [None]
    assert (await api.http.get(URL)).json() == seen


async def test_a_view_that_station_and_call_expect_is_missing_once(
    api: Running, submitter: JobSubmitter, make_queue: MakeQueue
) -> None:
    await api.http.put("/v1/stations/s1", json={"product": "toy", "expected_views": ["bottom"]})
    queue = make_queue()
    top = await claim(submitter, queue, view="top", station="s1", accepted_at=now())
    queue.complete(top, result_of(top, 0.1))
    part = (await api.http.get(URL, params={"expected_view": "bottom"})).json()
    assert [(one["product"], one["view"]) for one in part["views"]] == [("toy", "bottom"), ("toy", "top")]


async def test_at_most_32_views_are_expected(api: Running) -> None:
    many = {"expected_view": [str(number) for number in range(33)]}
    assert (await api.http.get(URL, params=many)).status_code == 422
