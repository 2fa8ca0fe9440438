"""Probes and metrics.

`/health/live`: the event loop answers. `/health/ready`: an image posted now would be accepted and kept: Redis answers
and drops no job, the artifact store can be written, and there is a product. A worker is reported but not required:
without one, images wait in the bounded queue, and taking the cameras' address away would lose them. So is a Redis that
a restart empties. Alarms watch both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Literal

import structlog
from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field
from redis.exceptions import RedisError

from service.api.dependencies import Services, ServicesDep
from service.api.fleet_state import look
from service.api.openapi import operations as documents
from service.contract import DEFAULT_POOL
from service.queue.redis_health import read_durability

PROBE_TIMEOUT_S = 3.0

CheckName = Literal["redis", "durability", "artifacts", "products", "worker"]
AWAY: dict[CheckName, str] = {
    "redis": "Redis does not answer, or refuses",
    "durability": "Redis, which was asked how it keeps its data, does not answer, or refuses",
    "artifacts": "the image store cannot be written, or is out of reach",
    "products": "the store of bundles cannot be read",
    "worker": "Redis, which knows of the workers, does not answer, or refuses",
}
"""What is wrong where a check fails with an error of the system."""

router = APIRouter(tags=["operations"])
log = structlog.get_logger(__name__)


class Check(BaseModel):
    """One thing that was looked at."""

    ok: bool
    required: bool = Field(description="false: reported only")
    detail: str


class Readiness(BaseModel):
    """Whether an image posted now would be accepted and kept."""

    status: Literal["ready", "degraded", "unavailable"] = Field(
        description="degraded: accepts, but something is amiss: see checks"
    )
    checks: dict[str, Check]


class Liveness(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


@router.get("/health/live", summary="Liveness probe", responses=documents.LIVE_RESPONSES)
async def live() -> Liveness:
    """200 while the event loop answers."""
    return Liveness()


@router.get("/health/ready", summary="Readiness probe", responses=documents.READY_RESPONSES)
async def ready(services: ServicesDep, response: Response) -> Readiness:
    """200 if an image posted now would be accepted and kept, else 503; `checks` says why. A missing worker degrades."""
    redis, durability, artifacts, products, worker = await asyncio.gather(
        _checked("redis", _check_redis(services)),
        _checked("durability", _check_durability(services), required=False),
        _checked("artifacts", asyncio.to_thread(_check_artifacts, services)),
        _checked("products", asyncio.to_thread(_check_products, services)),
        _checked("worker", _check_worker(services), required=False),
    )
    checks = {
        "redis": redis,
        "durability": durability,
        "artifacts": artifacts,
        "products": products,
        "worker": worker,
    }
    if not all(check.ok for check in checks.values() if check.required):
        response.status_code = 503
        response.headers["Retry-After"] = str(services.settings.retry_after_s)
        return Readiness(status="unavailable", checks=checks)
    well = all(check.ok for check in checks.values())
    return Readiness(status="ready" if well else "degraded", checks=checks)


@router.get("/metrics", summary="Prometheus metrics", response_class=Response, responses=documents.METRICS_RESPONSES)
async def metrics(services: ServicesDep) -> Response:
    """The process's counters, and queue, Redis, disk and products as they are now; what cannot be seen is left out."""
    services.metrics.set_event_streams(services.feed.readers)
    services.metrics.show_fleet(await look(services))
    return Response(generate_latest(services.metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _checked(name: CheckName, check: Awaitable[str], *, required: bool = True) -> Check:
    """What was found. The words of a failure may hold addresses and folders, and anybody may ask: those are logged."""
    try:
        return Check(ok=True, required=required, detail=await asyncio.wait_for(check, PROBE_TIMEOUT_S))
    except TimeoutError:
        return Check(ok=False, required=required, detail=f"no answer within {PROBE_TIMEOUT_S:g} s")
    except LookupError as error:
        return Check(ok=False, required=required, detail=str(error))
    except (RedisError, OSError) as error:
        log.warning("not ready", check=name, error=str(error), kind=type(error).__name__)
        return Check(ok=False, required=required, detail=f"{AWAY[name]}; the service's log says more")


async def _check_redis(services: Services) -> str:
    await services.jobs.ping()
    keeping = await read_durability(services.redis)
    if keeping.drops_jobs:
        raise LookupError(keeping.problems)
    return "answers"


async def _check_durability(services: Services) -> str:
    keeping = await read_durability(services.redis)
    if keeping.problems:
        raise LookupError(keeping.problems)
    return "keeps what it is given"


def _check_artifacts(services: Services) -> str:
    services.artifacts.probe()
    free, least = services.artifacts.free_bytes(), services.settings.min_free_bytes
    if free is not None and free < least:
        raise LookupError(f"{free} bytes free; at least {least} (GLAD_MIN_FREE_BYTES) must be")
    return "can be written"


def _check_products(services: Services) -> str:
    names = services.store.products()
    if not names:
        raise LookupError("no product has a usable bundle: publish one with `glad bundle publish FOLDER`")
    return f"{len(names)} with a usable bundle"


async def _check_worker(services: Services) -> str:
    seen_s = services.settings.lease_ms / 1000
    queues = await services.jobs.stats(services.settings.pool_names, worker_seen_s=seen_s)
    without = [pool for pool, queue in queues.items() if not queue.workers]
    if without == [DEFAULT_POOL] == list(queues):
        raise LookupError(f"no worker was heard of in the last {seen_s:g} s: start one with `glad worker`")
    if without:
        raise LookupError(
            f"no worker of pool {', '.join(map(repr, without))} was heard of in the last {seen_s:g} s: start one with "
            f"GLAD_POOL={without[0]} and `glad worker`"
        )
    return f"{sum(queue.workers for queue in queues.values())} seen in the last {seen_s:g} s"
