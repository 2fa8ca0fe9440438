"""What each process shows on /metrics before anything has happened: the names, texts and labels are all there."""

from __future__ import annotations

from prometheus_client import Metric

from scripts.reference import name_of, registries

__all__ = ["SUFFIXES", "families", "name_of", "registries"]

SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",), "gauge": ("",)}
"""Kind -> the ends of its series' names."""


def families() -> list[Metric]:
    """Of all processes, without Prometheus's own of the process."""
    shown = [family for registry in registries().values() for family in registry.collect()]
    return [family for family in shown if family.name.startswith("glad")]
