"""The background task that sweeps: in every API process, one of which gets the turn."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict

import structlog
from redis.exceptions import RedisError

from service.maintenance.retention import DAY_S, ArtifactLimits, Sweeper
from service.queue.connection import connect
from service.settings import Settings
from service.storage.artifacts import ArtifactStore

log = structlog.get_logger(__name__)


@asynccontextmanager
async def sweeping(settings: Settings, redis_url: str, artifacts: ArtifactStore) -> AsyncIterator[None]:
    """Sweeps every `sweep_every_s` for as long as the context lasts; an error is logged, and the next turn comes."""
    known_s = min(DAY_S, settings.result_ttl_s)
    limits = ArtifactLimits(settings.artifacts_max_age_s, settings.artifacts_max_bytes, known_s=known_s)
    with connect(redis_url) as client:
        sweeper = Sweeper(client, artifacts, limits, every_s=settings.sweep_every_s)
        task = asyncio.create_task(_keep_sweeping(sweeper, settings.sweep_every_s), name="glad-sweeper")
        try:
            yield
        finally:
            sweeper.stop()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _keep_sweeping(sweeper: Sweeper, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        # Shielded: a sweep under way ends by its own flag, not halfway through a removal.
        sweep = asyncio.ensure_future(asyncio.to_thread(sweeper.sweep))
        try:
            swept = await asyncio.shield(sweep)
        except asyncio.CancelledError:
            await asyncio.wait({sweep})
            raise
        except (RedisError, OSError) as error:
            log.warning("artifacts not swept", error=str(error))
            continue
        except Exception:  # else nothing would be swept any more, and nobody told
            log.exception("artifacts not swept")
            continue
        if swept is not None:
            log.info("artifacts swept", **asdict(swept))
