"""What all processes share, as one API process sees it at the moment of a scrape: queue, Redis, disk, products.

What cannot be seen is left out rather than shown as it was: an old value looks like a healthy one. `glad_redis_up` says
that Redis is away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.contract import Thresholds
from service.queue.redis_health import RedisState
from service.queue.stats import QueueStats
from service.settings import Settings
from service.storage.local import Disk

Sample = tuple[tuple[str, ...], float]
"""The values of a gauge's labels, and of the gauge."""


@dataclass(frozen=True)
class ActiveBundle:
    """The bundle that inspects a product's next image."""

    product: str
    version: str
    thresholds: Thresholds
    calibration: dict[float, float]
    """Quantile -> score of the good images."""


@dataclass(frozen=True)
class FleetState:
    """What was seen; None and empty: could not be."""

    queues: Mapping[str, QueueStats] = field(default_factory=dict)
    """pool -> its queue."""
    redis: RedisState | None = None
    disk: Disk | None = None
    active: tuple[ActiveBundle, ...] = ()


@dataclass(frozen=True)
class Limits:
    """Settings that dashboards and alerts compare with."""

    takt_s: float
    """Seconds per part of the fastest line."""
    max_backlog: int
    max_events: int
    min_free_bytes: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As the settings say."""
        return cls(settings.takt_s, settings.max_backlog, settings.max_events, settings.min_free_bytes)


class FleetCollector(Collector):
    """The last sight as gauges."""

    def __init__(self, limits: Limits) -> None:
        self.sight = FleetState()
        self._limits = limits

    def describe(self) -> Iterable[Metric]:
        """Nothing is asked of anybody when the collector is registered."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        """One gauge after the other; without samples where nothing was seen."""
        sight = self.sight
        yield from _of_limits(self._limits)
        yield from _of_queues(sight.queues)
        yield from _of_redis(sight.redis)
        yield from _of_disk(sight.disk)
        yield from _of_products(sight.active)


def _of_limits(limits: Limits) -> Iterator[Metric]:
    yield _gauge("glad_takt_seconds", "Time per part of the fastest line: GLAD_TAKT_S", _one(limits.takt_s))
    yield _gauge("glad_queue_limit", "Jobs of a pool beyond which its images are refused", _one(limits.max_backlog))
    events = "Events beyond which the oldest are lost, though a reader lags: twice GLAD_MAX_EVENTS"
    yield _gauge("glad_events_limit", events, _one(2 * limits.max_events))
    free = "Free space of the artifacts' disk below which images are refused: GLAD_MIN_FREE_BYTES"
    yield _gauge("glad_artifacts_disk_least_free_bytes", free, _one(limits.min_free_bytes))


def _of_queues(seen: Mapping[str, QueueStats]) -> Iterator[Metric]:
    def of_pools(name: str, told: str, value: Callable[[QueueStats], float]) -> Metric:
        return _gauge(name, told, [((pool,), float(value(queue))) for pool, queue in seen.items()], ["pool"])

    yield of_pools("glad_queue_depth", "Jobs queued or running", lambda queue: queue.backlog)
    yield of_pools("glad_queue_inflight", "Jobs in the hands of a worker", lambda queue: queue.running)
    oldest = "Age of the oldest job that has not ended; 0: none"
    yield of_pools("glad_queue_oldest_age_seconds", oldest, lambda queue: queue.oldest_age_s)
    suspects = "Jobs whose worker died, to be retried alone"
    yield of_pools("glad_queue_suspects", suspects, lambda queue: queue.suspects)
    yield of_pools("glad_workers_seen", "Workers that claimed or renewed lately", lambda queue: queue.workers)


def _of_redis(seen: RedisState | None) -> Iterator[Metric]:
    yield _gauge("glad_redis_up", "1: Redis answers; 0: it does not", _one(0 if seen is None else 1))
    yield _gauge(
        "glad_redis_memory_used_bytes", "Memory that Redis uses", _one(None if seen is None else seen.memory_used_bytes)
    )
    limit = "Memory that Redis may use: its maxmemory, or all of its machine's"
    yield _gauge("glad_redis_memory_limit_bytes", limit, _one(None if seen is None else seen.memory_limit_bytes))
    yield _gauge("glad_redis_clients", "Connections to Redis", _one(None if seen is None else seen.clients))
    writes = "1: Redis's last write of its append-only file succeeded; 0: it did not"
    yield _gauge("glad_redis_append_ok", writes, _one(None if seen is None else int(seen.append_ok)))
    append_only = "1: Redis has an append-only file; 0: a restart loses accepted images"
    yield _gauge("glad_redis_append_only", append_only, _one(None if seen is None else int(seen.keeping.append_only)))
    evicts = "1: Redis drops keys when its memory is full, where it should refuse; 0: it does not"
    yield _gauge("glad_redis_evicts", evicts, _one(None if seen is None else int(seen.keeping.evicts)))
    lengths = [] if seen is None else [((name,), float(length)) for name, length in seen.stream_lengths.items()]
    yield _gauge(
        "glad_redis_stream_length",
        "Entries of a stream, of all pools together: jobs, events, dead letters",
        lengths,
        ["stream"],
    )


def _of_disk(seen: Disk | None) -> Iterator[Metric]:
    yield _gauge(
        "glad_artifacts_disk_free_bytes",
        "Free space where artifacts are kept",
        _one(None if seen is None else seen.free),
    )
    yield _gauge(
        "glad_artifacts_disk_size_bytes", "Size of the disk of the artifacts", _one(None if seen is None else seen.size)
    )


def _of_products(active: Iterable[ActiveBundle]) -> Iterator[Metric]:
    active = tuple(active)
    named = ["product", "version"]
    used = [((one.product, one.version), 1.0) for one in active]
    yield _gauge("glad_bundle_active", "1 for the version that inspects the product's next image", used, named)
    limits = [
        ((one.product, one.version, name), getattr(one.thresholds, name))
        for one in active
        for name in ("review", "fail", "pixel")
    ]
    yield _gauge("glad_threshold", "Thresholds in force", limits, [*named, "threshold"])
    calibrated = [
        ((one.product, one.version, f"{quantile:g}"), score)
        for one in active
        for quantile, score in one.calibration.items()
    ]
    found = "Quantiles of the good images' scores that the version was calibrated with"
    yield _gauge("glad_calibration_score", found, calibrated, [*named, "quantile"])


def _one(value: float | None) -> list[Sample]:
    return [] if value is None else [((), float(value))]


def _gauge(name: str, told: str, samples: Iterable[Sample], labels: Iterable[str] = ()) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, told, labels=list(labels))
    for values, value in samples:
        family.add_metric(values, value)
    return family
