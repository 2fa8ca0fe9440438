"""Looking at what all processes share, for /metrics: queue, Redis, disk, products. Never slower than a scrape."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import structlog
from redis.exceptions import RedisError

from model_store.errors import StoreError
from model_store.store import Store
from service.api.dependencies import Services
from service.contract import Thresholds
from service.queue.redis_health import read_redis_state
from service.telemetry.metrics.common import good_score_quantiles
from service.telemetry.metrics.fleet import ActiveBundle, FleetState

T = TypeVar("T")

PATIENCE_S = 3.0
"""For each of them; Prometheus gives up after ten seconds."""

log = structlog.get_logger(__name__)


async def look(services: Services) -> FleetState:
    """What can be seen now."""
    queues, redis, disk, active = await asyncio.gather(
        _seen(
            "queues", services.jobs.stats(services.settings.pool_names, worker_seen_s=services.settings.lease_ms / 1000)
        ),
        _seen("redis", read_redis_state(services.redis, services.settings.pool_names)),
        _seen("disk", asyncio.to_thread(services.artifacts.disk)),
        _seen("products", asyncio.to_thread(active_bundles, services.store)),
    )
    return FleetState(queues or {}, redis, disk, active or ())


async def _seen(what: str, sight: Awaitable[T]) -> T | None:
    try:
        return await asyncio.wait_for(sight, PATIENCE_S)
    except (RedisError, OSError, StoreError) as error:  # TimeoutError is an OSError
        log.debug("not seen", what=what, error=str(error) or type(error).__name__)
        return None


def active_bundles(store: Store) -> tuple[ActiveBundle, ...]:
    """The bundle of each product's next image; a product that cannot be inspected has none."""
    found = []
    for product in store.products():
        try:
            ref = store.resolve(product)
            limits = store.thresholds(ref)
        except (StoreError, ValueError):
            continue
        thresholds = Thresholds(review=limits.review, fail=limits.fail, pixel=limits.pixel)
        found.append(ActiveBundle(product, ref.version, thresholds, good_score_quantiles(ref.manifest.thresholds)))
    return tuple(found)
