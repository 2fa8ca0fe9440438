"""What one API process works with, put together once and reached through `app.state`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import redis.asyncio
from fastapi import Depends, Request

from model_store.store import Store
from service.api.uploads.decoding import Decoder
from service.api.uploads.memory_budget import Held
from service.auth.authenticator import Authenticator
from service.queue.events import EventFeed
from service.queue.history import History
from service.queue.results import Results
from service.queue.reviews import Reviews
from service.queue.stations import Stations
from service.queue.submitter import JobSubmitter
from service.settings import Settings
from service.storage.artifacts import ArtifactStore
from service.telemetry.metrics.api import ApiMetrics
from service.telemetry.tracing import Tracing


@dataclass(frozen=True)
class Services:
    """The parts of one API process."""

    settings: Settings
    redis: redis.asyncio.Redis
    jobs: JobSubmitter
    results: Results
    history: History
    feed: EventFeed
    reviews: Reviews
    stations: Stations
    store: Store
    artifacts: ArtifactStore
    decoder: Decoder
    held: Held
    metrics: ApiMetrics
    tracing: Tracing
    authenticator: Authenticator


def _site(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(_site)]
"""A path function's `services` argument."""
