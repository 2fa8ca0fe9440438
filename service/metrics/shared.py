"""Metrics that API and worker both have."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Histogram

from service.metrics.buckets import SECONDS


def stage_durations(registry: CollectorRegistry) -> Histogram:
    """`glad_stage_duration_seconds`."""
    return Histogram(
        "glad_stage_duration_seconds", "Duration of one stage", ["stage"], buckets=SECONDS, registry=registry
    )
