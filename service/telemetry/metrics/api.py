"""The metrics of an API process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from service.telemetry.metrics.common import SECONDS, BoundedLabel, build_info, decoder_ends, stage_durations
from service.telemetry.metrics.fleet import FleetCollector, FleetLimits, FleetState


class ApiMetrics:
    """The counters of one API process, and the state of the fleet that it last read."""

    def __init__(self, registry: CollectorRegistry, limits: FleetLimits) -> None:
        self.registry = registry
        self._stations = BoundedLabel()
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
        self._event_streams = Gauge(
            "glad_event_streams", "Clients that follow the events of this process", registry=registry
        )
        self._stages = stage_durations(registry)
        self._decoder_ends = decoder_ends(registry)
        self._fleet = FleetCollector(limits)
        registry.register(self._fleet)
        ProcessCollector(registry=registry)
        build_info(registry)

    def count_submission(self, product: str, priority: str, station: str | None = None) -> None:
        """Count an accepted inspection."""
        self._submitted.labels(product, self._stations.label_for(station), priority).inc()

    def count_rejection(self, reason: str) -> None:
        """Count a refused submission; `reason` is the slug of its error."""
        self._rejected.labels(reason).inc()

    def count_decoder_end(self, reason: str) -> None:
        """Count a decoder process that was replaced."""
        self._decoder_ends.labels(reason).inc()

    def observe_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answered request. `route` is the template of its path, never the path itself."""
        self._requests.labels(method, route, str(status)).inc()
        self._answers.labels(method, route).observe(seconds)

    def set_event_streams(self, clients: int) -> None:
        """Set the number of clients that follow the events."""
        self._event_streams.set(clients)

    def observe_stage(self, name: str, seconds: float) -> None:
        """Record the duration of one stage of a submission."""
        self._stages.labels(name).observe(seconds)

    def show_fleet(self, state: FleetState) -> None:
        """Show this state of queue, Redis, disk and products from now on."""
        self._fleet.state = state
