"""An inspection that is let go leaves nothing behind: no index, set, claim or list names it any longer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
import redis

from service.contract import Failure
from service.queue import keys
from service.queue.jobs import JobQueue
from service.queue.results import Retention
from service.queue.submitter import JobSubmitter
from tests.service.conftest import Running
from tests.support.line import make_job, result_of

SCORES = {"pass": 0.25, "review": 0.75, "fail": 1.5}
"""The thresholds are 0.5 and 1."""
MOST = 40
RECORDS = (keys.EVENTS, keys.DEAD_PREFIX, keys.limit_samples("line-3"))
"""Tell what happened; they have limits of their own: the last check of a station, and the twenty before it."""


@pytest.fixture
def queue(client: redis.Redis) -> JobQueue:
    """A worker's side that keeps few results."""
    return JobQueue(client, worker_id="w", lease_ms=60_000, retention=Retention(max_results=MOST))


async def put(api: Running, path: str, body: dict[str, Any], method: str = "PUT") -> None:
    """A change by the interface."""
    answer = await api.http.request(method, f"/v1/{path}", json=body)
    assert answer.is_success, answer.text


async def live_a_shift(api: Running, submitter: JobSubmitter, queue: JobQueue, client: redis.Redis) -> list[str]:
    """One of everything that can happen to an inspection; the ids of all."""
    codes = [{"code": "scratch", "title": "Scratch", "key": "s"}]
    await put(api, "products/toy/review-plan", {"audit_share": 1, "double_read_share": 1, "defect_codes": codes})
    await put(api, "stations/line-3", {"product": "toy", "takt_ms": 60_000})
    await put(api, "stations/line-3/hold", {"reason": "lens is dirty"})
    await put(api, "stations/line-3/limit-samples", {"samples": [{"serial": "LS-1", "expected": "good"}]})
    await put(api, "stations/line-3/limit-samples/check", {}, "POST")
    jobs = [
        make_job(serial=f"SN-{number % 3}", lot="L-1", station="line-3", view=name, takt_ms=60_000, audit=audit)
        for audit in (None, 0.5)
        for number, name in enumerate(SCORES)
    ]
    jobs += [
        make_job(serial="LS-1", station="line-3", limit_sample="good"),
        make_job(serial="SN-0"),
        make_job(serial="X"),
    ]
    for job in jobs:
        await submitter.submit(job)
    client.hset(keys.inspection(jobs[-1].id), "job", "{")  # nobody can read it
    for claimed in queue.claim(len(jobs)):
        if claimed.id == jobs[-2].id:
            queue.fail(claimed, Failure(code="model_error", detail="a model call failed"))
        else:
            queue.complete(claimed, result_of(cast("Any", claimed), SCORES.get(cast("Any", claimed).job.view, 0.25)))
    for person in ("ann", "bob"):
        for _ in jobs:
            task = await api.http.post("/v1/reviews/next", json={"by": person})
            if task.status_code != 200:
                break
            body = {"decision": "defect", "by": person, "claim": task.json()["claim"], "defect_code": "scratch"}
            await put(api, f"inspections/{task.json()['inspection']['id']}/review", body, "POST")
    await put(api, f"inspections/{jobs[2].id}/review?by=ann", {}, "DELETE")
    await put(api, "parts/SN-1/disposition", {"disposition": "scrap"})
    await put(api, "session", {"person": "A. Meier", "key": None}, "POST")
    async with asyncio.timeout(60):  # until the API has judged the limit sample
        while client.exists(keys.LIMIT_ENDED):
            await asyncio.sleep(0.02)
    return [job.id for job in jobs]


def texts_of(client: redis.Redis, key: str) -> str:
    """A key with all that it holds, as one text."""
    read: dict[str, Callable[[], Any]] = {
        "string": lambda: client.get(key),
        "hash": lambda: client.hgetall(key),
        "set": lambda: client.smembers(key),
        "zset": lambda: client.zrange(key, 0, -1),
        "list": lambda: client.lrange(key, 0, -1),
        "stream": lambda: client.xrange(key),
    }
    return f"{key} {read[str(client.type(key))]()}"


def naming(client: redis.Redis, ids: list[str]) -> Iterator[str]:
    """The keys that name one of these inspections, but for records."""
    for key in sorted(client.scan_iter()):
        if not key.startswith(RECORDS) and any(one in texts_of(client, key) for one in ids):
            yield key


async def test_what_makes_room_for_newer_results_leaves_no_trace(
    api: Running, client: redis.Redis, submitter: JobSubmitter, queue: JobQueue
) -> None:
    ids = await live_a_shift(api, submitter, queue, client)
    assert len(list(naming(client, ids))) > 20
    for _ in range(MOST):
        await submitter.submit(make_job())
        [claimed] = queue.claim(1)
        queue.complete(cast("Any", claimed), result_of(cast("Any", claimed)))
    assert not [one for one in ids if client.exists(keys.inspection(one))]
    assert [key for key in naming(client, ids) if not key.startswith(keys.REVIEW_CLAIM_PREFIX)] == []


async def test_whatever_names_an_ended_inspection_expires(
    api: Running, client: redis.Redis, submitter: JobSubmitter, queue: JobQueue
) -> None:
    ids = await live_a_shift(api, submitter, queue, client)
    assert [key for key in naming(client, ids) if client.ttl(key) == -1] == []


async def test_every_key_stands_in_the_table(
    api: Running, client: redis.Redis, submitter: JobSubmitter, queue: JobQueue
) -> None:
    await live_a_shift(api, submitter, queue, client)
    rows = re.findall(r"^\| `(glad:[^`]+)`", keys.__doc__ or "", re.MULTILINE)
    rows += [f"{keys.PREFIX}waiting:{{kind}}:station:{{station}}", f"{keys.PREFIX}history:reviews:any"]
    known = re.compile("|".join(re.sub(r"\\\{[^}]*\\\}", ".+", re.escape(row)) for row in rows))
    assert [key for key in client.scan_iter() if not known.fullmatch(key)] == []
