"""A trace leads from the POST through the queue to the result; without a collector nothing of it is there."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator

import pytest
import redis

from service.contract import Failure, Job, State, done_result, ended_result
from service.queue.jobs import JobQueue
from service.telemetry.tracing import open_tracing
from tests.service.conftest import Running, StartApp
from tests.support.line import AT, findings, make_job, picture
from tests.support.redis_server import RedisServer

pytest.importorskip("opentelemetry.sdk", reason="the [otel] extra is not installed")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the [otel] extra is not installed")

from tests.support.processes import eventually
from tests.support.trace_collector import Collector, trace_collector

URL = "/v1/products/toy/inspections"
TRACE, CAMERA = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector that the environment names; spans are sent at once."""
    with trace_collector() as found:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        yield found


async def test_a_trace_goes_from_the_cameras_request_to_the_stages_of_its_inspection(
    collector: Collector, client: redis.Redis, shared_redis: RedisServer, start_app: StartApp
) -> None:
    running: Running = await start_app(shared_redis.url)
    sent = {"traceparent": f"00-{TRACE}-{CAMERA}-01"}
    accepted = await running.http.post(f"{URL}?station=line-3", content=picture(), headers=sent)
    assert accepted.status_code == 202

    queue, worker = JobQueue(client), open_tracing("glad-worker")
    (claimed,) = queue.claim(1)
    worker.record_inspection(claimed.job, done_result(claimed.job, findings(0.25), started_at=AT, attempts=1))
    worker.close()
    await asyncio.to_thread(eventually, lambda: len(collector.spans) == 10)

    assert {span.trace for span in collector.spans} == {TRACE}
    (post,) = collector.named("POST /v1/products/{product}/inspections")
    assert (post.service, post.parent) == ("glad-api", CAMERA)
    assert post.attributes["http.response.status_code"] == 202
    stages = {span.name for span in collector.spans if span.parent == post.id}
    assert stages == {"accept_decode", "accept_store", "accept_submit", "inspection"}
    (inspection,) = collector.named("inspection")
    assert inspection.service == "glad-worker"
    assert inspection.attributes["glad.inspection_id"] == accepted.json()["id"]
    assert (inspection.attributes["glad.verdict"], inspection.attributes["glad.station"]) == ("pass", "line-3")
    # tests.support.line: queue 1, decode 2, encode 3, denoise 4, score 5 and total 15 milliseconds.
    assert inspection.seconds == pytest.approx(0.015)
    under = {span.name: span.seconds for span in collector.spans if span.parent == inspection.id}
    assert under == pytest.approx({"queue": 0.001, "decode": 0.002, "encode": 0.003, "denoise": 0.004, "score": 0.005})


async def test_a_request_without_a_trace_begins_one_and_the_next_has_its_own(
    collector: Collector, client: redis.Redis, shared_redis: RedisServer, start_app: StartApp
) -> None:
    running: Running = await start_app(shared_redis.url)
    for _ in range(2):
        await running.http.post(URL, content=picture())
    first, second = (claimed.job.traceparent for claimed in JobQueue(client).claim(2))
    assert first is not None
    assert second is not None
    assert first.split("-")[1] != second.split("-")[1]


def test_an_inspection_that_failed_is_a_failed_span(collector: Collector) -> None:
    job = make_job(traceparent=f"00-{TRACE}-{CAMERA}-01")
    worker = open_tracing("glad-worker")
    error = Failure(code="model_error", detail="x")
    worker.record_inspection(job, ended_result(job, State.FAILED, error, started_at=None, attempts=1))
    worker.record_inspection(make_job(), ended_result(make_job(), State.FAILED, error, started_at=None, attempts=1))
    worker.close()
    (span,) = collector.spans  # the second job came without a trace, and gets none
    assert (span.name, span.parent, span.failed) == ("inspection", CAMERA, True)


def test_a_collector_that_is_away_costs_nothing_but_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    tracing = open_tracing("glad-worker")
    job = make_job(traceparent=f"00-{TRACE}-{CAMERA}-01")
    tracing.record_inspection(job, done_result(job, findings(), started_at=AT, attempts=1))
    tracing.close()


def test_without_a_collector_nothing_that_sends_spans_is_imported() -> None:
    code = """
import sys, service.api.app
from service.telemetry.tracing import NoTracing, open_tracing
assert isinstance(open_tracing("x"), NoTracing)
loaded = [name for name in sys.modules if name == "service.telemetry.otel" or name.startswith("opentelemetry.exporter")]
assert not loaded, loaded
"""
    outcome = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=120)
    assert outcome.returncode == 0, outcome.stderr


def test_a_named_collector_without_the_extra_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.delitem(sys.modules, "service.telemetry.otel", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(ValueError, match=r"OTEL_EXPORTER_OTLP_ENDPOINT is set.*pip install 'glad-inspect\[otel\]'"):
        open_tracing("glad-api")


def test_an_old_job_without_a_trace_is_still_read() -> None:
    assert Job.model_validate_json(make_job().to_json()).traceparent is None
