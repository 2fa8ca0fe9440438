"""Logs are one JSON object a line; worker metrics count what results say."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from prometheus_client import CollectorRegistry, generate_latest

from service.contract import Failure, Result, State
from service.queue.jobs import Reclaimed
from service.settings import Settings
from service.telemetry import WorkerMetrics, configure_logging
from tests.support.line import AT, findings, make_job


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """Logging is one per process: put it back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = handlers, level


@pytest.mark.usefixtures("restored_logging")
def test_every_log_line_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):  # a second start in one process adds no second line
        configure_logging(Settings(log_level="info"))
    structlog.get_logger("service.x").info("inspection accepted", inspection_id="1", serial="ü\n2")
    structlog.get_logger("service.x").debug("not shown")
    try:
        raise ValueError("odd")
    except ValueError:
        structlog.get_logger("service.x").exception("unexpected")
    logging.getLogger("uvicorn.error").warning("from a library: %s", "x")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["level"]) for line in lines] == [
        ("inspection accepted", "info"),
        ("unexpected", "error"),
        ("from a library: x", "warning"),
    ]
    assert (lines[0]["inspection_id"], lines[0]["serial"], lines[0]["logger"]) == ("1", "ü\n2", "service.x")
    assert "ValueError: odd" in lines[1]["exception"]


def test_worker_metrics_follow_the_results() -> None:
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    for score in (0.25, 1.25):
        metrics.ended(Result.done(make_job(), findings(score), started_at=AT, attempts=1))
    error = Failure(code="worker_died", detail="x")
    metrics.ended(Result.ended(make_job(), State.FAILED, error, started_at=None, attempts=3))
    metrics.reclaimed(Reclaimed(suspects=("a", "b"), dead=("c",)))
    metrics.stepped(3)
    metrics.lanes(3, 4)
    lines = set(generate_latest(registry).decode().splitlines())
    assert {
        'glad_inspections_completed_total{product="toy"} 2.0',
        'glad_inspections_failed_total{code="worker_died",product="toy"} 1.0',
        "glad_inspections_redelivered_total 2.0",
        "glad_inspections_dead_lettered_total 1.0",
        'glad_verdicts_total{product="toy",verdict="pass"} 1.0',
        'glad_verdicts_total{product="toy",verdict="fail"} 1.0',
        "glad_batch_size_sum 3.0",
        "glad_lane_used 3.0",
        "glad_lane_total 4.0",
        'glad_denoising_step_count{product="toy"} 2.0',
        'glad_stage_duration_seconds_count{stage="denoise"} 2.0',
    } <= lines
