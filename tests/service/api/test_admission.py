"""Admission: by count, by expected wait and by deadline, with the pace that was measured; and by free disk."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
import redis.asyncio

from service.contract import Failure, Priority, State
from service.queue import keys
from service.queue.admission import Admission, QueueEstimate, QueueLimits
from service.queue.jobs import JobQueue
from service.queue.submitter import JobSubmitter
from tests.service.conftest import Running, StartApp
from tests.support.line import AT, make_job, picture, result_of
from tests.support.redis_server import RedisServer

MakeQueue = Callable[..., JobQueue]
POOL = keys.PoolKeys("default")
URL = "/v1/products/toy/inspections"


def set_pace(client: redis.Redis, mean_ms: float) -> None:
    """As if twenty completions had been measured."""
    client.hset(POOL.pace, mapping={"last_ms": 1, "busy_ms": 20 * mean_ms, "completions": 20})


async def fill(submitter: JobSubmitter, count: int, priority: Priority = Priority.NORMAL) -> None:
    """Jobs that wait."""
    for _ in range(count):
        assert (await submitter.submit(make_job(priority=priority))).admission is Admission.ADMITTED


async def test_before_anything_is_measured_only_the_count_decides(async_client: redis.asyncio.Redis) -> None:
    submitter = JobSubmitter(async_client, max_backlog=2, max_wait_s=0.001)
    await fill(submitter, 2)
    refused = await submitter.submit(make_job(deadline_ms=1))
    assert (refused.admission, refused.expected_wait_s) == (Admission.BACKLOG_FULL, None)


async def test_a_job_that_would_wait_too_long_is_refused_and_leaves_nothing(
    async_client: redis.asyncio.Redis, client: redis.Redis
) -> None:
    submitter = JobSubmitter(async_client, max_wait_s=10)
    await fill(submitter, 5)
    set_pace(client, 2000)
    assert (await submitter.submit(make_job())).expected_wait_s == 10  # 5 ahead, 2 s each
    job = make_job()
    refused = await submitter.submit(job)  # 6 ahead: 12 s
    assert (refused.admission, refused.expected_wait_s) == (Admission.WAIT_TOO_LONG, 12)
    assert client.exists(keys.inspection(job.id)) == 0
    assert client.xlen(POOL.jobs(Priority.NORMAL)) == 6


async def test_a_deadline_that_cannot_be_met_is_refused_and_a_longer_one_is_not(
    submitter: JobSubmitter, client: redis.Redis
) -> None:
    await fill(submitter, 4)
    set_pace(client, 500)  # 4 ahead: 2000 ms
    assert (await submitter.estimate(deadline_ms=1999)).admission is Admission.DEADLINE
    assert (await submitter.submit(make_job(deadline_ms=1999))).admission is Admission.DEADLINE
    assert (await submitter.estimate(deadline_ms=2000)).admission is Admission.ADMITTED
    assert (await submitter.submit(make_job(deadline_ms=2000))).admission is Admission.ADMITTED


async def test_what_is_high_has_only_the_high_ones_ahead_and_normals_turns(
    submitter: JobSubmitter, client: redis.Redis
) -> None:
    await fill(submitter, 20)
    await fill(submitter, 6, Priority.HIGH)
    set_pace(client, 1000)
    # Six of high priority, and a turn of normal after each three: 8. The other way, everything is ahead.
    assert (await submitter.estimate(Priority.HIGH)).ahead == 8
    assert (await submitter.estimate(Priority.NORMAL)).ahead == 26


async def test_a_repeat_is_never_refused(async_client: redis.asyncio.Redis, client: redis.Redis) -> None:
    submitter = JobSubmitter(async_client, max_wait_s=1)
    job = make_job()
    await submitter.submit(job, idempotency_key="k", fingerprint="f")
    set_pace(client, 60_000)
    assert (await submitter.submit(job)).admission is Admission.ADMITTED
    assert (await submitter.submit(make_job(), idempotency_key="k", fingerprint="f")).admission is Admission.REPEATED
    assert (await submitter.submit(make_job())).admission is Admission.WAIT_TOO_LONG


async def test_an_empty_queue_lets_in_whatever_the_pace_was(submitter: JobSubmitter, client: redis.Redis) -> None:
    set_pace(client, 1e9)
    assert (await submitter.submit(make_job(deadline_ms=1))).admission is Admission.ADMITTED


class TestPace:
    """Measured by the completion script, on Redis's clock."""

    @staticmethod
    def measured(client: redis.Redis) -> dict[str, float]:
        found: Any = client.hgetall(POOL.pace)
        return {name: float(value) for name, value in found.items()}

    async def test_it_counts_what_was_completed_while_more_waited(
        self, submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis
    ) -> None:
        await fill(submitter, 4)
        queue = make_queue()
        began = time.time()
        for claimed in queue.claim(4):
            time.sleep(0.02)
            queue.complete(claimed, result_of(claimed))
        took_ms = (time.time() - began) * 1000
        found = self.measured(client)
        # The first only starts the clock; of the others each fades by 5 % per later one: 0.9025 + 0.95 + 1.
        assert found["completions"] == pytest.approx(2.8525)
        assert 20 <= found["busy_ms"] / found["completions"] <= took_ms

    async def test_a_quiet_time_is_no_slow_pace(
        self, submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis
    ) -> None:
        queue = make_queue()
        for _ in range(3):
            await fill(submitter, 1)
            [claimed] = queue.claim(1)
            queue.complete(claimed, result_of(claimed))
            client.hset(POOL.pace, "last_ms", 1)  # long ago
        assert "completions" not in self.measured(client)

    async def test_one_outage_counts_for_ten_intervals_at_most(
        self, submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis
    ) -> None:
        await fill(submitter, 1)
        queue = make_queue()
        [claimed] = queue.claim(1)
        set_pace(client, 200)
        client.hset(keys.inspection(claimed.id), "submitted_ms", 1)  # an hour and more ago, and so was the last one
        queue.complete(claimed, result_of(claimed))
        found = self.measured(client)
        assert found["busy_ms"] == pytest.approx(20 * 200 * 0.95 + 10 * 200)
        assert found["completions"] == pytest.approx(20 * 0.95 + 1)

    async def test_what_fails_says_nothing_about_the_pace(
        self, submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis
    ) -> None:
        await fill(submitter, 3)
        queue = make_queue()
        for claimed in queue.claim(3):
            queue.fail(claimed, Failure(code="deadline_passed", detail="late"), state=State.EXPIRED)
        assert self.measured(client) == {}


class TestRetryAfter:
    LIMITS = QueueLimits(max_backlog=100, max_wait_s=60)

    @pytest.mark.parametrize(
        ("estimate", "deadline_ms", "seconds"),
        [
            (QueueEstimate(Admission.BACKLOG_FULL, 100, 100, None, AT), None, 7),  # nothing measured: what is set
            (QueueEstimate(Admission.BACKLOG_FULL, 100, 100, 500.0, AT), None, 5),  # a tenth of 100, half a second each
            (QueueEstimate(Admission.WAIT_TOO_LONG, 150, 150, 500.0, AT), None, 15),  # 75 s ahead, 60 allowed
            (QueueEstimate(Admission.DEADLINE, 50, 50, 500.0, AT), 4500, 21),  # 25 s ahead, 4.5 given: 20.5
            (QueueEstimate(Admission.BACKLOG_FULL, 100, 100, 1.0, AT), None, 1),  # never 0
            (QueueEstimate(Admission.WAIT_TOO_LONG, 100, 100, 1e9, AT), None, 3600),  # never a day
        ],
    )
    def test_it_follows_from_the_measured_pace(
        self, estimate: QueueEstimate, deadline_ms: int | None, seconds: int
    ) -> None:
        assert estimate.retry_after_s(self.LIMITS, deadline_ms=deadline_ms, unmeasured_s=7) == seconds


async def test_over_http_it_is_429_with_the_reason_and_nothing_is_kept(
    client: redis.Redis, shared_redis: RedisServer, start_app: StartApp
) -> None:
    running: Running = await start_app(shared_redis.url, max_wait_s=6)
    for _ in range(4):
        assert (await running.http.post(URL, content=picture())).status_code == 202
    set_pace(client, 2000)
    late = await running.http.post(URL, content=picture(), params={"deadline_ms": 3000})
    assert (late.status_code, late.json()["type"]) == (429, "urn:glad:problem:deadline-unreachable")
    assert late.headers["retry-after"] == "5"  # 8 s ahead, 3 given
    slow = await running.http.post(URL, content=picture(), headers={"Idempotency-Key": "k"})
    assert (slow.status_code, slow.json()["type"]) == (429, "urn:glad:problem:wait-too-long")
    assert slow.headers["retry-after"] == "2"  # 8 s ahead, 6 allowed
    assert len(running.stored()) == 4
    text = (await running.http.get("/metrics")).text
    assert 'glad_inspections_rejected_total{reason="deadline-unreachable"} 1.0' in text
    assert 'glad_inspections_rejected_total{reason="wait-too-long"} 1.0' in text


async def test_a_disk_that_is_nearly_full_takes_no_new_image_and_says_so_when_asked(
    client: redis.Redis, shared_redis: RedisServer, start_app: StartApp
) -> None:
    running: Running = await start_app(shared_redis.url, min_free_bytes=1 << 60, retry_after_s=9)
    answer = await running.http.post(URL, content=picture())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "9")
    assert answer.json()["type"] == "urn:glad:problem:storage-unavailable"
    assert f"at least {1 << 60} (GLAD_MIN_FREE_BYTES)" in answer.json()["detail"]
    assert running.stored() == []
    assert client.xlen(POOL.jobs(Priority.NORMAL)) == 0
    ready = (await running.http.get("/health/ready")).json()
    assert ready["checks"]["artifacts"]["ok"] is False
