"""The Prometheus metrics of the outbox, per sink."""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge

from service.queue.outbox import SinkProgress
from service.telemetry.metrics.common import build_info


class OutboxMetrics:
    """Counters and gauges of the outbox; its health port serves the default registry."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        def counter(name: str, what: str) -> Counter:
            return Counter(f"glad_outbox_{name}_total", what, ["sink"], registry=registry)

        self._delivered = counter("delivered", "Events delivered")
        self._failed = counter("failed", "Attempts that failed, by event")
        self._gave_up = counter("dead_lettered", "Events given up: `glad outbox dead` lists them")
        self._lost = counter("lost", "Events that the stream let go before they were delivered")
        self._pending = Gauge("glad_outbox_pending", "Events taken and not delivered yet", ["sink"], registry=registry)
        self._lag = Gauge(
            "glad_outbox_lag_seconds", "Age of the oldest undelivered event; 0: none", ["sink"], registry=registry
        )
        self._kept = Gauge(
            "glad_events_kept", "Length of the event stream: beyond GLAD_MAX_EVENTS a reader lags", registry=registry
        )
        self._days_left = Gauge(
            "glad_outbox_days_in_parts",
            "Days of the archive that are over and could not be made into one file",
            ["sink"],
            registry=registry,
        )
        self._keeps_days: set[str] = set()
        build_info(registry)

    def add_sink(self, sink: str) -> None:
        """Show the sink's counters at 0."""
        # A counter that appears only with its first event hides that event from rate() and increase().
        for counter in (self._delivered, self._failed, self._gave_up, self._lost):
            counter.labels(sink)

    def set_standing(self, sink: str, standing: SinkProgress) -> None:
        """Show the sink's position in the event stream."""
        self._pending.labels(sink).set(len(standing.pending))
        self._lag.labels(sink).set(standing.lag_s)
        self._kept.set(standing.events_kept)

    def set_standby(self, sink: str) -> None:
        """Show 0 for a sink that another process delivers to: the gauges of both would add up otherwise."""
        self._pending.labels(sink).set(0)
        self._lag.labels(sink).set(0)
        if sink in self._keeps_days:
            self.set_days_left(sink, 0)

    def set_days_left(self, sink: str, days: int) -> None:
        """Show the number of past days that could not be closed."""
        self._keeps_days.add(sink)
        self._days_left.labels(sink).set(days)

    def delivered(self, sink: str, count: int) -> None:
        """Count events that arrived."""
        self._delivered.labels(sink).inc(count)

    def failed(self, sink: str, count: int) -> None:
        """Count attempts that failed."""
        self._failed.labels(sink).inc(count)

    def gave_up(self, sink: str) -> None:
        """Count an event that became a dead letter."""
        self._gave_up.labels(sink).inc()

    def lost(self, sink: str, count: int) -> None:
        """Count events that were trimmed before they were delivered."""
        self._lost.labels(sink).inc(count)
