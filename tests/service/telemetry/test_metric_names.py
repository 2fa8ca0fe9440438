"""The metrics that dashboards, alerts and people rely on: all there, each explained, bounded, and in the documents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric

from service.telemetry.metrics.common import EVALUATIONS, LANES, LOADING, SCORES, SECONDS, STEPS
from tests.support.exported import families, name_of, registries

PAGES = Path(__file__).resolve().parents[3] / "docs"
PROMISED = (
    "glad_inspections_{submitted,completed,failed,rejected,redelivered,dead_lettered}_total",
    "glad_queue_{depth,inflight,oldest_age_seconds}",
    "glad_{queue_wait,inspection_duration,stage_duration}_seconds",
    "glad_{batch_size,denoising_step,unet_evaluations}",
    "glad_lane_{used,total}",
    "glad_{anomaly_score,verdicts_total,build_info}",
)
"""What the operations of a line cannot do without."""
BOUNDED = {
    "product": "the store's",
    "version": "the store's, or the distribution's",
    "station": "service.telemetry.metrics.common.BoundedLabel",
    "priority": "an enumeration",
    "verdict": "an enumeration",
    "reason": "the service's own words",
    "code": "the service's own words",
    "method": "an enumeration, else `other`",
    "route": "a path's template",
    "status": "HTTP's",
    "stage": "the service's own words",
    "stream": "the service's own words",
    "band": "five",
    "engine": "the service's own words",
    "threshold": "three",
    "quantile": "five",
    "device": "one a worker",
    "sink": "the outbox's settings",
    "walked": "two",
}
"""Label -> what bounds its values."""


def expanded(text: str) -> Iterator[str]:
    """Names of a text with braces, such as glad_lane_{used,total}."""
    for start, middle, end in re.findall(r"(glad_[a-z_]*)(?:\{([a-z_,]+)\})?([a-z_]*)", text):
        for word in middle.split(","):
            yield f"{start}{word}{end}"


def unsound(family: Metric) -> list[str]:
    """What is wrong with a metric."""
    labels = {name for sample in family.samples for name in sample.labels}
    found = [f"nothing bounds {name}" for name in sorted(labels - {"le"} - set(BOUNDED))]
    if not family.name.startswith("glad_"):
        found.append("prefix")
    if len(family.documentation) < 4:
        found.append("no help text")
    return found


def declared(registry: CollectorRegistry) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Metrics with their labels, also those that have counted nothing yet."""
    for collector in registry._collector_to_names:  # prometheus_client shows labels of what has samples only
        if isinstance(names := getattr(collector, "_labelnames", None), tuple):
            yield str(getattr(collector, "_name", "")), names


def test_every_metric_that_was_promised_is_there() -> None:
    shown = {name_of(family) for family in families()}
    promised = {name for text in PROMISED for name in expanded(text)}
    assert len(promised) == 20
    assert promised <= shown
    assert "glad_inspections_lost_total" not in shown


def test_every_metric_is_explained_and_has_the_projects_prefix() -> None:
    for registry in registries().values():
        for family in registry.collect():
            if not family.name.startswith(("process_", "python_")):
                assert unsound(family) == [], family.name


def test_every_label_is_bounded() -> None:
    seen: set[str] = set()
    for registry in registries().values():
        for name, labels in declared(registry):
            assert set(labels) <= set(BOUNDED), name
            seen |= set(labels)
    assert {"product", "version", "station", "verdict", "route", "sink"} <= seen


def test_a_metric_by_serial_number_or_without_a_word_is_found() -> None:
    registry = CollectorRegistry()
    Counter("glad_parts", "", ["serial"], registry=registry).labels("SN-1").inc()
    (family,) = registry.collect()
    assert unsound(family) == ["nothing bounds serial", "no help text"]


def test_buckets_rise_and_reach_from_what_is_fast_to_what_is_too_slow() -> None:
    for buckets in (SECONDS, LOADING, SCORES, LANES, STEPS, EVALUATIONS):
        assert list(buckets) == sorted(set(buckets))
        assert 8 <= len(buckets) <= 25, "a series each"
    assert SECONDS[0] <= 0.001, "the decoding of a thumbnail"
    assert SECONDS[-1] >= 300, "GLAD_STUCK_AFTER_S"
    assert LANES[-1] == 256, "the most that GLAD_LANES takes"
    assert STEPS[-1] == 1000, "the noise schedule's last step"
    histograms = [one for registry in registries().values() for one in registry._collector_to_names]
    assert sum(isinstance(one, Histogram) for one in histograms) >= 10


def test_the_pages_name_no_metric_that_is_not_there() -> None:
    text = (PAGES / "telemetry.md").read_text() + (PAGES / "reference" / "metrics.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    written = {name for row in rows for name in re.findall(r"`(glad_[a-z_]+)`", row)}
    assert written == {name_of(family) for family in families()}
