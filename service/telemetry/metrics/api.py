"""What the API process counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from service.telemetry.logs import build_info
from service.telemetry.metrics.common import SECONDS, Bounded, stage_durations
from service.telemetry.metrics.fleet import FleetCollector, FleetState, Limits


class ApiMetrics:
    """Counters of the process, and its last look at what all processes share."""

    def __init__(self, registry: CollectorRegistry, limits: Limits) -> None:
        self.registry = registry
        self._stations = Bounded()
        self._submitted = Counter(
            "glad_inspections_submitted_total",
            "Inspections accepted",
            ["product", "station", "priority"],
            registry=registry,
        )
        self._rejected = Counter(
            "glad_inspections_rejected_total", "Submissions refused, by problem type", ["reason"], registry=registry
        )
        self._requests = Counter(
            "glad_http_requests_total", "Requests answered", ["method", "route", "status"], registry=registry
        )
        self._answers = Histogram(
            "glad_http_request_duration_seconds",
            "From a request's head to its answer's first byte, waiting for a result included",
            ["method", "route"],
            buckets=SECONDS,
            registry=registry,
        )
        self._readers = Gauge("glad_event_streams", "Clients that follow the events of this process", registry=registry)
        self._stages = stage_durations(registry)
        self._plant = FleetCollector(limits)
        registry.register(self._plant)
        ProcessCollector(registry=registry)
        build_info(registry)

    def submitted(self, product: str, priority: str, station: str | None = None) -> None:
        """An inspection was accepted."""
        self._submitted.labels(product, self._stations.label(station), priority).inc()

    def rejected(self, reason: str) -> None:
        """A submission was refused; `reason` is the problem's slug."""
        self._rejected.labels(reason).inc()

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered. `route` is its path's template, never the path itself."""
        self._requests.labels(method, route, str(status)).inc()
        self._answers.labels(method, route).observe(seconds)

    def follow(self, readers: int) -> None:
        """So many clients follow the events."""
        self._readers.set(readers)

    def stage(self, name: str, seconds: float) -> None:
        """A stage of a submission took so long."""
        self._stages.labels(name).observe(seconds)

    def saw(self, sight: FleetState) -> None:
        """Queue, Redis, disk and products as they were just seen."""
        self._plant.sight = sight
