"""The state that all processes share, for /metrics: queue, Redis, disk, products. Never slower than a scrape."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import structlog
from redis.exceptions import RedisError

from model_store.errors import StoreError
from model_store.store import Store
from service.api.bounded_calls import ALL_PRODUCTS
from service.api.dependencies import Services
from service.contract import Thresholds
from service.queue.clock import read_clock
from service.queue.redis_health import read_redis_state
from service.telemetry.metrics.common import good_score_quantiles
from service.telemetry.metrics.fleet import ActiveBundle, FleetState

T = TypeVar("T")

READ_TIMEOUT_S = 3.0
"""For each of the five, which are read side by side; Prometheus gives up after ten seconds."""

log = structlog.get_logger(__name__)


async def collect_fleet_state(services: Services) -> FleetState:
    """Return the present state, without the parts that fail or do not answer in time."""
    settings = services.settings
    worker_seen_s = settings.lease_ms / 1000
    queues, redis, clock, disk, bundles = await asyncio.gather(
        _read("queues", services.jobs.stats(settings.pool_names, worker_seen_s=worker_seen_s)),
        _read("redis", read_redis_state(services.redis, settings.pool_names, settings.redis_wait_replicas)),
        _read("clock", read_clock(services.redis)),
        _read("disk", services.threads.probes.run(services.artifacts.disk)),
        _read("products", services.threads.bundles.run(ALL_PRODUCTS, READ_TIMEOUT_S, active_bundles, services.store)),
    )
    return FleetState(queues or {}, redis, disk, bundles or (), clock)


async def _read(part: str, reading: Awaitable[T]) -> T | None:
    try:
        return await asyncio.wait_for(reading, READ_TIMEOUT_S)
    except (RedisError, OSError, StoreError) as error:  # TimeoutError is an OSError
        log.debug("fleet state not read", part=part, error=str(error) or type(error).__name__)
        return None


def active_bundles(store: Store) -> tuple[ActiveBundle, ...]:
    """Return the bundle that inspects each product's next image; a product that cannot be inspected has none."""
    bundles = []
    for product in store.products():
        try:
            ref = store.resolve(product)
            limits = store.thresholds(ref)
        except (StoreError, ValueError):
            continue
        thresholds = Thresholds.model_validate(limits, from_attributes=True)
        bundles.append(ActiveBundle(product, ref.version, thresholds, good_score_quantiles(ref.manifest.thresholds)))
    return tuple(bundles)
