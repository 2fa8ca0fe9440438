"""What the outbox counts, per sink."""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge

from service.queue.outbox import Standing
from service.telemetry.metrics.common import build_info


class OutboxMetrics:
    """The outbox's port shows the default registry."""

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

    def starts(self, sink: str) -> None:
        """All of a sink's counters are there from the start, at 0."""
        for counter in (self._delivered, self._failed, self._gave_up, self._lost):
            counter.labels(sink)

    def stands(self, sink: str, standing: Standing) -> None:
        """Where a sink stands."""
        self._pending.labels(sink).set(len(standing.pending))
        self._lag.labels(sink).set(standing.lag_s)
        self._kept.set(standing.events_kept)

    def stands_by(self, sink: str) -> None:
        """Another process delivers to it: what was seen of the sink is for that one to show."""
        self._pending.labels(sink).set(0)
        self._lag.labels(sink).set(0)
        if sink in self._keeps_days:
            self.days_left(sink, 0)

    def days_left(self, sink: str, days: int) -> None:
        """Days that could not be closed."""
        self._keeps_days.add(sink)
        self._days_left.labels(sink).set(days)

    def delivered(self, sink: str, count: int) -> None:
        """Events arrived."""
        self._delivered.labels(sink).inc(count)

    def failed(self, sink: str, count: int) -> None:
        """Events did not arrive."""
        self._failed.labels(sink).inc(count)

    def gave_up(self, sink: str) -> None:
        """An event became a dead letter."""
        self._gave_up.labels(sink).inc()

    def lost(self, sink: str, count: int) -> None:
        """Events were trimmed unread."""
        self._lost.labels(sink).inc(count)
