"""Inspections that have ended, with their events: submitted, claimed and completed as in production; and copies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import redis

from glad_client.answers import StationChange, StationSettings
from service.contract import Failure, Job, State, new_inspection_id
from service.queue import keys
from service.queue.connection import connect_async
from service.queue.jobs import JobQueue
from service.queue.results import Retention
from service.queue.scripts import load
from service.queue.stations import Stations
from service.queue.submitter import JobSubmitter
from tests.support.line import AT, make_job, result_of


def hold_station(client: redis.Redis, station: str = "line-3", reason: str | None = "lens is dirty") -> None:
    """Put a station of product "toy" on hold as the API does, or release it with None, at one moment by "a.meier"."""

    async def hold() -> None:
        async with connect_async(f"unix://{client.get_connection_kwargs()['path']}") as found:
            change = StationChange(at=AT, by="a.meier", settings=StationSettings(product="toy", hold=reason))
            await Stations(found, keep_removed_s=60).change(station, lambda present: change)

    asyncio.run(hold())


def end(client: redis.Redis, count: int = 1, retention: Retention | None = None, **fields: Any) -> list[str]:
    """So many inspections that ended; their ids in order. `fields`: of their jobs."""
    queue = JobQueue(client, lease_ms=60_000, retention=retention)

    async def submit() -> list[str]:
        jobs = [make_job(**fields) for _ in range(count)]
        async with connect_async(f"unix://{client.get_connection_kwargs()['path']}") as found:
            submitter = JobSubmitter(found, max_backlog=10_000)
            for job in jobs:
                await submitter.submit(job)
        return [job.id for job in jobs]

    ids = asyncio.run(submit())
    for claimed in queue.claim(count):
        queue.complete(claimed, result_of(claimed))
    return ids


def end_each(client: redis.Redis, scored: Sequence[tuple[Job, float | None]]) -> list[str]:
    """Ends these jobs in order, each with its score, or expired without; their ids.

    They must be of one pool. In a pool of their own no worker takes them, also where one runs.
    """
    pool = scored[0][0].pool

    async def submit() -> None:
        async with connect_async(f"unix://{client.get_connection_kwargs()['path']}") as found:
            submitter = JobSubmitter(found, max_backlog=len(scored) + 1)
            for job, _ in scored:
                await submitter.submit(job)

    with ThreadPoolExecutor(1) as thread:  # a browser's test has a loop of its own in this one
        thread.submit(lambda: asyncio.run(submit())).result()
    queue = JobQueue(client, pool=pool, lease_ms=600_000)
    scores = {job.id: score for job, score in scored}
    for claimed in queue.claim(len(scored)):
        score = scores[claimed.id]
        if score is None:
            queue.fail(claimed, Failure(code="deadline_passed", detail="too late"), state=State.EXPIRED)
        else:
            queue.complete(claimed, result_of(claimed, score))
    return [job.id for job, _ in scored]


_COPY = """
local inspection, history = KEYS[1], KEYS[2]
local id, result, outcome, entry, ttl_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local ended = cjson.decode(result)
redis.call('HSET', inspection, 'state', ended.state, 'result', result, 'outcome', outcome, 'entry', entry,
  'summary', summary_of(entry, ended, outcome))
redis.call('PEXPIRE', inspection, ttl_ms)
add_to_history(history, id, ended, outcome, ttl_ms)
"""


def copy_ended(client: redis.Redis, copies: Sequence[tuple[str, dict[str, Any]]], ttl_s: int = 86_400) -> list[str]:
    """Writes copies of inspections that ended, by the functions of the real scripts, in order; their ids.

    Args:
        client: of the Redis that has the originals.
        copies: the original's id, and the fields of the result that the copy has of its own.
        ttl_s: how long they are kept.
    """
    script = client.register_script(load("reviewed", "history", "summary") + _COPY)
    client.script_load(script.script)
    names = ["result", "outcome", "entry"]
    originals = {one: client.hmget(keys.inspection(one), names) for one in {original for original, _ in copies}}
    ids = [new_inspection_id() for _ in copies]
    with client.pipeline(transaction=False) as pipe:
        for inspection_id, (original, fields) in zip(ids, copies, strict=True):
            result, outcome, entry = cast("list[str]", originals[original])
            text = json.dumps(json.loads(result) | fields | {"id": inspection_id})
            pipe.evalsha(
                script.sha,
                2,
                keys.inspection(inspection_id),
                keys.HISTORY,
                *(inspection_id, text, outcome, entry, str(ttl_s * 1000)),
            )
        pipe.execute()
    return ids
