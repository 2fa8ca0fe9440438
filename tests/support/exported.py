"""What each process shows on /metrics before anything has happened: the names, texts and labels are all there."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Metric

from service.outbox.metrics import OutboxMetrics
from service.settings import Settings
from service.telemetry.metrics.api import ApiMetrics
from service.telemetry.metrics.fleet import FleetLimits
from service.telemetry.metrics.worker import WorkerMetrics
from service.worker.heartbeat import Heartbeat, WorkerGaugesCollector

SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",), "gauge": ("",)}
"""Kind -> the ends of its series' names."""


def registries() -> dict[str, CollectorRegistry]:
    """Process -> what its port shows."""
    found = {name: CollectorRegistry() for name in ("api", "worker", "outbox")}
    ApiMetrics(found["api"], FleetLimits.from_settings(Settings()))
    WorkerMetrics(found["worker"])
    found["worker"].register(WorkerGaugesCollector(Heartbeat(1), "cpu"))
    OutboxMetrics(found["outbox"])
    return found


def families() -> list[Metric]:
    """Of all processes, without Prometheus's own of the process."""
    shown = [family for registry in registries().values() for family in registry.collect()]
    return [family for family in shown if family.name.startswith("glad")]


def name_of(family: Metric) -> str:
    """As documents and dashboards write it: a counter with its `_total`."""
    return f"{family.name}_total" if family.type == "counter" else str(family.name)
