"""The state that all processes share, as one API process reads it for a scrape: queue, Redis, disk, products.

A value that cannot be read is left out, because an old value would look like a healthy one. `glad_redis_up` says that
Redis is away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.contract import Thresholds
from service.queue.clock import ClockReading
from service.queue.redis_health import RedisState
from service.queue.stats import QueueStats
from service.settings import Settings
from service.storage.local import Disk

Sample = tuple[tuple[str, ...], float]
"""The values of a gauge's labels, and the value of the gauge."""


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
    """One reading of the shared state; None, or empty: it could not be read."""

    queues: Mapping[str, QueueStats] = field(default_factory=dict)
    """pool -> its queue."""
    redis: RedisState | None = None
    disk: Disk | None = None
    active: tuple[ActiveBundle, ...] = ()
    clock: ClockReading | None = None
    """Of this process's machine alone."""


@dataclass(frozen=True)
class FleetLimits:
    """The settings that dashboards and alerts compare the state with."""

    takt_s: float
    """Seconds per part of the fastest line."""
    max_backlog: int
    max_events: int
    min_free_bytes: int

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return the limits that the settings name."""
        return cls(settings.takt_s, settings.max_backlog, settings.max_events, settings.min_free_bytes)


class FleetCollector(Collector):
    """Shows `state`, which is replaced before each scrape, as gauges."""

    def __init__(self, limits: FleetLimits) -> None:
        self.state = FleetState()
        self._limits = limits

    def describe(self) -> Iterable[Metric]:
        """Return the gauges without samples: registering the collector reads nothing."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        """Yield every gauge; one whose value could not be read has no samples."""
        state = self.state
        yield from _limit_gauges(self._limits)
        yield from _queue_gauges(state.queues)
        yield from _redis_gauges(state.redis)
        yield _forgotten_counter(state.redis)
        yield _clock_gauge(state.clock)
        yield from _disk_gauges(state.disk)
        yield from _product_gauges(state.active)


def _limit_gauges(limits: FleetLimits) -> Iterator[Metric]:
    yield _gauge("glad_takt_seconds", "Time per part of the fastest line: GLAD_TAKT_S", _single(limits.takt_s))
    yield _gauge("glad_queue_limit", "Jobs of a pool beyond which its images are refused", _single(limits.max_backlog))
    events = "Events beyond which the oldest are lost, though a reader lags: twice GLAD_MAX_EVENTS"
    yield _gauge("glad_events_limit", events, _single(2 * limits.max_events))
    free = "Free space of the artifacts' disk below which images are refused: GLAD_MIN_FREE_BYTES"
    yield _gauge("glad_artifacts_disk_least_free_bytes", free, _single(limits.min_free_bytes))


def _queue_gauges(queues: Mapping[str, QueueStats]) -> Iterator[Metric]:
    def per_pool(name: str, help_text: str, value: Callable[[QueueStats], float]) -> Metric:
        return _gauge(name, help_text, [((pool,), float(value(queue))) for pool, queue in queues.items()], ["pool"])

    yield per_pool("glad_queue_depth", "Jobs queued or running", lambda queue: queue.backlog)
    yield per_pool("glad_queue_inflight", "Jobs in the hands of a worker", lambda queue: queue.running)
    oldest = "Age of the oldest job that has not ended; 0: none"
    yield per_pool("glad_queue_oldest_age_seconds", oldest, lambda queue: queue.oldest_age_s)
    suspects = "Jobs whose worker died, to be retried alone"
    yield per_pool("glad_queue_suspects", suspects, lambda queue: queue.suspects)
    yield per_pool("glad_workers_seen", "Workers that claimed or renewed lately", lambda queue: queue.workers)


def _redis_gauges(redis: RedisState | None) -> Iterator[Metric]:
    def read(name: str, help_text: str, value: Callable[[RedisState], float]) -> Metric:
        return _gauge(name, help_text, [] if redis is None else _single(value(redis)))

    yield _gauge("glad_redis_up", "1: Redis answers; 0: it does not", _single(0 if redis is None else 1))
    yield read("glad_redis_memory_used_bytes", "Memory that Redis uses", lambda state: state.memory_used_bytes)
    limit = "Memory that Redis may use: its maxmemory, or all of its machine's"
    yield read("glad_redis_memory_limit_bytes", limit, lambda state: state.memory_limit_bytes)
    yield read("glad_redis_clients", "Connections to Redis", lambda state: state.clients)
    writes = "1: Redis's last write of its append-only file succeeded; 0: it did not"
    yield read("glad_redis_append_ok", writes, lambda state: state.append_ok)
    append_only = "1: Redis has an append-only file; 0: a restart loses accepted images"
    yield read("glad_redis_append_only", append_only, lambda state: state.keeping.append_only)
    evicts = "1: Redis drops keys when its memory is full, where it should refuse; 0: it does not"
    yield read("glad_redis_evicts", evicts, lambda state: state.keeping.evicts)
    loses = "1: a failover to a replica may lose accepted images, as no write waits for one; 0: it does not"
    yield read("glad_redis_failover_loses", loses, lambda state: state.keeping.failover_loses)
    made = "When the last whole backup ended; no sample: none was made"
    backup = [] if redis is None or redis.backup_at_s is None else _single(redis.backup_at_s)
    yield _gauge("glad_backup_last_success_timestamp_seconds", made, backup)
    entries = "Entries of a stream, of all pools together: jobs, events, dead letters"
    lengths = {} if redis is None else redis.stream_lengths
    yield _gauge(
        "glad_redis_stream_length", entries, [((name,), float(length)) for name, length in lengths.items()], ["stream"]
    )


def _forgotten_counter(redis: RedisState | None) -> Metric:
    counter = CounterMetricFamily(
        "glad_results_forgotten",
        "Results that were let go before GLAD_RESULT_TTL_S; `number`: beyond GLAD_MAX_RESULTS; `memory`: beyond 70 % "
        "of Redis's maxmemory",
        labels=["reason"],
    )
    for reason, count in ({} if redis is None else redis.forgotten).items():
        counter.add_metric([reason], count)
    return counter


def _clock_gauge(clock: ClockReading | None) -> Metric:
    offset = "How far this machine's clock is ahead of Redis's, at least; negative: behind"
    return _gauge("glad_clock_offset_seconds", offset, [] if clock is None else _single(clock.offset_s))


def _disk_gauges(disk: Disk | None) -> Iterator[Metric]:
    free, size = ([], []) if disk is None else (_single(disk.free), _single(disk.size))
    yield _gauge("glad_artifacts_disk_free_bytes", "Free space where artifacts are kept", free)
    yield _gauge("glad_artifacts_disk_size_bytes", "Size of the disk of the artifacts", size)


def _product_gauges(active: Iterable[ActiveBundle]) -> Iterator[Metric]:
    active = tuple(active)
    labels = ["product", "version"]
    used = [((bundle.product, bundle.version), 1.0) for bundle in active]
    yield _gauge("glad_bundle_active", "1 for the version that inspects the product's next image", used, labels)
    limits = [
        ((bundle.product, bundle.version, name), getattr(bundle.thresholds, name))
        for bundle in active
        for name in ("review", "fail", "pixel")
    ]
    yield _gauge("glad_threshold", "Thresholds in force", limits, [*labels, "threshold"])
    calibrated = [
        ((bundle.product, bundle.version, f"{quantile:g}"), score)
        for bundle in active
        for quantile, score in bundle.calibration.items()
    ]
    help_text = "Quantiles of the good images' scores that the version was calibrated with"
    yield _gauge("glad_calibration_score", help_text, calibrated, [*labels, "quantile"])


def _single(value: float) -> list[Sample]:
    return [((), float(value))]


def _gauge(name: str, help_text: str, samples: Iterable[Sample], labels: Iterable[str] = ()) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, help_text, labels=list(labels))
    for values, value in samples:
        family.add_metric(values, value)
    return family
