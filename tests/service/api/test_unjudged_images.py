"""An image whose inspection failed or expired waits for a person, as long as it can be looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from service.contract import IMAGE, Failure, State
from service.queue.jobs import JobQueue
from service.queue.submitter import JobSubmitter
from tests.service.api.test_review_queue import FAIL, REVIEW, Line, ask, decide, order_of, summary
from tests.service.conftest import Running
from tests.support.line import make_job, picture, result_of

MakeQueue = Callable[..., JobQueue]


@pytest.fixture
def line(submitter: JobSubmitter, make_queue: MakeQueue) -> Line:
    """A line on the shared Redis."""
    return Line(submitter, make_queue())


async def end_without_verdict(api: Running, line: Line, **fields: Any) -> str:
    """An inspection that fails, whose image is stored."""
    inspection_id = await line.end(None, **fields)
    api.services.artifacts.put(inspection_id, IMAGE, picture())
    return inspection_id


async def test_what_ended_without_a_verdict_comes_after_what_failed_and_before_what_is_for_review(
    api: Running, line: Line
) -> None:
    review = await line.end(REVIEW)
    without = await end_without_verdict(api, line)
    drawn = await end_without_verdict(api, line, audit=0.5)  # without a score it cannot answer the audit
    fail = await line.end(FAIL)
    assert (await summary(api))["waiting"] == {
        "fail": 1, "no_result": 2, "review": 1, "audit": 0, "double_read": 0, "disputed": 0,
    }  # fmt: skip
    assert await order_of(api) == [fail, without, drawn, review]


async def test_a_person_decides_on_it_and_the_part_has_a_verdict(api: Running, line: Line) -> None:
    inspection_id = await end_without_verdict(api, line, serial="SN-1")
    task = await ask(api, "ann")
    assert task is not None
    assert (task["task"], task["blind"], task["inspection"]["error"]["code"]) == ("queue", False, "model_error")
    await decide(api, task, "ok", "ann")
    [view] = (await api.http.get("/v1/parts/SN-1")).json()["views"]
    assert (view["verdict"], view["reason"], view["inspection_id"]) == ("pass", "operator", inspection_id)
    assert await ask(api, "bob") is None
    figures = await summary(api)
    assert (figures["waiting"]["no_result"], figures["reviewed"]) == (0, 1)


async def test_an_image_that_cannot_be_looked_at_waits_for_nobody(
    api: Running, line: Line, submitter: JobSubmitter, make_queue: MakeQueue
) -> None:
    for code in ("image_unavailable", "image_undecodable"):
        await submitter.submit(make_job())
        queue = make_queue()
        [claimed] = queue.claim(1)
        queue.fail(claimed, Failure(code=code, detail="it is not there"))
    await submitter.submit(make_job(limit_sample="bad"))
    [claimed] = queue.claim(1)
    queue.fail(claimed, Failure(code="model_error", detail="a model call failed"), state=State.EXPIRED)
    assert (await summary(api))["waiting"]["no_result"] == 0
    await line.end(None)  # its image has been swept since
    there = await end_without_verdict(api, line)
    assert await order_of(api) == [there]
    assert (await summary(api))["waiting"]["no_result"] == 1  # the other one does not wait any more


async def test_once_its_image_was_inspected_again_only_that_counts(
    api: Running, line: Line, submitter: JobSubmitter, make_queue: MakeQueue
) -> None:
    first = await end_without_verdict(api, line, serial="SN-1")
    queue = make_queue()
    await submitter.submit(make_job(serial="SN-1", replay_of=first))
    [claimed] = queue.claim(1)
    assert await order_of(api) == [first]  # the second has no verdict yet
    queue.complete(claimed, result_of(claimed, REVIEW))
    await api.http.post(f"/v1/inspections/{first}/review", json={"decision": "ok", "by": "ann"})
    await api.http.delete(f"/v1/inspections/{first}/review", params={"by": "ann"})
    waiting = (await summary(api))["waiting"]
    assert (waiting["no_result"], waiting["review"]) == (0, 1)
