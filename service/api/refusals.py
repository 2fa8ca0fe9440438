"""Refusals that several calls share."""

from __future__ import annotations

import structlog
from redis.exceptions import RedisError

from service.api.dependencies import Site
from service.errors import QueueUnavailable, UnknownInspection

log = structlog.get_logger(__name__)


def queue_unavailable(site: Site, error: RedisError) -> QueueUnavailable:
    """Redis is away, or refuses: logged, and 503."""
    log.error("queue unavailable", error=str(error), kind=type(error).__name__)
    return QueueUnavailable(
        "the queue does not answer, or refuses writes: try again later, with an Idempotency-Key so that it counts once",
        retry_after_s=site.settings.retry_after_s,
    )


def unknown_inspection(inspection_id: str) -> UnknownInspection:
    """Nothing is kept under this id."""
    return UnknownInspection(f"no inspection {inspection_id[:100]!r}: it was never accepted here, or is no longer kept")
