"""Metrics and logs: Prometheus names that dashboards rely on, and one JSON object per log line.

Metric objects belong to a registry that the process makes; importing this module registers nothing.
"""

from __future__ import annotations

import logging
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from service.contract import Result
from service.queue.jobs import QueueStats, Reclaimed
from service.settings import Settings

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_KEY_SECRET = re.compile(r"(glad_[0-9a-f]{12})_[0-9a-f]{8,}")
_WEBHOOK_SECRET = re.compile(r"(whsec_)[A-Za-z0-9+/=]+")
_URL_PASSWORD = re.compile(r"(://[^\s/@:\"]*:)[^\s/@\"]+@")
SCORES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.5, 2.0, 5.0)


class ApiMetrics:
    """What the API process counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._submitted = Counter(
            "glad_inspections_submitted_total", "Inspections accepted", ["product", "priority"], registry=registry
        )
        self._rejected = Counter(
            "glad_inspections_rejected_total", "Submissions refused, by problem type", ["reason"], registry=registry
        )
        self._depth = Gauge("glad_queue_depth", "Jobs queued or running", registry=registry)
        self._inflight = Gauge("glad_queue_inflight", "Jobs in the hands of a worker", registry=registry)
        self._oldest = Gauge(
            "glad_queue_oldest_age_seconds", "Age of the oldest job that has not ended; 0: none", registry=registry
        )
        self._suspects = Gauge("glad_queue_suspects", "Jobs whose worker died, to be retried alone", registry=registry)
        self._workers = Gauge("glad_workers_seen", "Workers that claimed or renewed lately", registry=registry)
        self._stages = _stage_durations(registry)
        build_info(registry)

    def submitted(self, product: str, priority: str) -> None:
        """An inspection was accepted."""
        self._submitted.labels(product, priority).inc()

    def rejected(self, reason: str) -> None:
        """A submission was refused; `reason` is the problem's slug."""
        self._rejected.labels(reason).inc()

    def stage(self, name: str, seconds: float) -> None:
        """A stage of a submission took so long."""
        self._stages.labels(name).observe(seconds)

    def queue(self, stats: QueueStats) -> None:
        """The queue as it was just seen."""
        self._depth.set(stats.backlog)
        self._inflight.set(stats.running)
        self._oldest.set(stats.oldest_age_s)
        self._suspects.set(stats.suspects)
        self._workers.set(stats.workers)


class WorkerMetrics:
    """What a worker process counts. The worker's port shows the default registry."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._completed = Counter("glad_inspections_completed_total", "Verdicts given", ["product"], registry=registry)
        self._failed = Counter(
            "glad_inspections_failed_total", "Inspections without a verdict", ["product", "code"], registry=registry
        )
        self._redelivered = Counter(
            "glad_inspections_redelivered_total", "Jobs taken over from a dead worker", registry=registry
        )
        self._dead = Counter("glad_inspections_dead_lettered_total", "Jobs given up", registry=registry)
        self._verdicts = Counter("glad_verdicts_total", "Verdicts", ["product", "verdict"], registry=registry)
        self._wait = Histogram(
            "glad_queue_wait_seconds", "From acceptance to the claim", buckets=SECONDS, registry=registry
        )
        self._duration = Histogram(
            "glad_inspection_duration_seconds", "From acceptance to the result", buckets=SECONDS, registry=registry
        )
        self._stages = _stage_durations(registry)
        self._batch = Histogram(
            "glad_batch_size", "Lanes advanced by one step", buckets=(1, 2, 4, 8, 16, 32, 64), registry=registry
        )
        self._step = Histogram(
            "glad_denoising_step",
            "Step at which the trigger fired",
            ["product"],
            buckets=tuple(range(0, 1001, 100)),
            registry=registry,
        )
        self._evaluations = Histogram(
            "glad_unet_evaluations",
            "UNet evaluations of one inspection",
            buckets=(1, 2, 5, 10, 15, 20, 25, 30, 50, 100),
            registry=registry,
        )
        self._score = Histogram("glad_anomaly_score", "Raw scores", ["product"], buckets=SCORES, registry=registry)
        self._lanes_used = Gauge("glad_lane_used", "Lanes occupied", registry=registry)
        self._lanes_total = Gauge("glad_lane_total", "Lanes there are", registry=registry)
        self._engine = Gauge(
            "glad_engine_info", "What runs a bundle's models", ["product", "version", "engine"], registry=registry
        )
        build_info(registry)

    def loaded(self, product: str, version: str, engine: str) -> None:
        """A bundle's models are ready on this engine."""
        self._engine.labels(product, version, engine).set(1)

    def unloaded(self, product: str, version: str, engine: str) -> None:
        """A bundle has left the memory."""
        self._engine.remove(product, version, engine)

    def lanes(self, used: int, total: int) -> None:
        """How full the worker is."""
        self._lanes_used.set(used)
        self._lanes_total.set(total)

    def stepped(self, lanes: int) -> None:
        """One step advanced so many lanes."""
        self._batch.observe(lanes)

    def ended(self, result: Result) -> None:
        """An inspection ended, and its result was recorded."""
        if result.verdict is None or result.score is None:
            self._failed.labels(result.product, result.error.code if result.error else "unknown").inc()
            return
        self._completed.labels(result.product).inc()
        self._verdicts.labels(result.product, result.verdict.value).inc()
        self._score.labels(result.product).observe(result.score)
        if result.denoising_step is not None:
            self._step.labels(result.product).observe(result.denoising_step)
        if result.unet_evaluations is not None:
            self._evaluations.observe(result.unet_evaluations)
        if result.timings_ms is not None:
            self._wait.observe(result.timings_ms.queue / 1000)
            self._duration.observe(result.timings_ms.total / 1000)
            for stage in ("decode", "encode", "denoise", "score"):
                self._stages.labels(stage).observe(getattr(result.timings_ms, stage) / 1000)

    def reclaimed(self, reclaimed: Reclaimed) -> None:
        """Jobs of dead workers were taken over or given up."""
        self._redelivered.inc(len(reclaimed.suspects))
        self._dead.inc(len(reclaimed.dead))


def _stage_durations(registry: CollectorRegistry) -> Histogram:
    return Histogram(
        "glad_stage_duration_seconds", "Duration of one stage", ["stage"], buckets=SECONDS, registry=registry
    )


def build_info(registry: CollectorRegistry) -> None:
    """Adds `glad_build_info`."""
    Gauge("glad_build_info", "1; the labels say what runs", ["version"], registry=registry).labels(
        package_version()
    ).set(1)


def package_version() -> str:
    """The installed version of the distribution; `0+unknown` when run from a bare checkout."""
    try:
        return version("glad-inspect")
    except PackageNotFoundError:
        return "0+unknown"


class _JsonLines(logging.Handler):
    """Writes to what stderr is now."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
        except Exception:
            self.handleError(record)


def hide_secrets(_logger: Any, _method: str, line: Any) -> str:
    """A finished log line without the secrets of API keys and webhooks and without passwords of URLs."""
    without_keys = _WEBHOOK_SECRET.sub(r"\1***", _KEY_SECRET.sub(r"\1_***", str(line)))
    return _URL_PASSWORD.sub(r"\1***@", without_keys)


def configure_logging(settings: Settings) -> None:
    """One JSON object per line on stderr, for this project's events and for libraries' log records alike."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = _JsonLines()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(ensure_ascii=False),
                hide_secrets,
            ],
        )
    )
    root = logging.getLogger()
    # Of handlers only our own is replaced: a second application in one process adds no second line.
    root.handlers = [other for other in root.handlers if not isinstance(other, _JsonLines)] + [handler]
    root.setLevel(settings.log_level.upper())
    # One line per request is what `inspection accepted` says already.
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
    logging.getLogger("uvicorn").handlers = []
    logging.getLogger("python_multipart").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
