"""How long the stages of a submission took, and why it was refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import RedisError

from service.api.dependencies import Services
from service.errors import QueueUnavailable, ServiceError


@contextmanager
def rejections_counted(services: Services) -> Iterator[None]:
    """Every refusal inside is counted by its kind."""
    try:
        yield
    except ServiceError as error:
        services.metrics.count_rejection(error.slug)
        raise
    except RedisError:  # on its way to become that answer: service.api.problems
        services.metrics.count_rejection(QueueUnavailable.slug)
        raise


@contextmanager
def stage(services: Services, name: str) -> Iterator[None]:
    """What is inside counts as this stage: a span, and its seconds."""
    began = time.perf_counter()
    try:
        with services.tracing.span(name):
            yield
    finally:
        services.metrics.observe_stage(name, time.perf_counter() - began)
