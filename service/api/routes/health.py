"""Probes and metrics.

`/health/live` answers while the event loop runs. `/health/ready` answers 200 if an image posted now would be accepted
and kept: Redis answers and drops no job, the artifact store can be written, and there is a product. A worker is
reported but not required: without one, images wait in the bounded queue, and an orchestrator that took the API out of
service would make the cameras lose them. A Redis whose data a restart or a failover would lose is treated likewise,
and a clock that is not Redis's. Alarms watch all three.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal, get_args

import structlog
from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from redis.exceptions import RedisError

from glad_client.answers import HealthCheck, Readiness
from service.api.bounded_calls import ALL_PRODUCTS
from service.api.dependencies import Services, ServicesDep
from service.api.fleet_state import collect_fleet_state
from service.api.openapi import operations as documents
from service.api.problems import BUNDLES_ANSWER_S
from service.api.threads import RememberedOutcome
from service.contract import DEFAULT_POOL
from service.queue.clock import read_clock
from service.queue.redis_health import read_durability

PROBE_TIMEOUT_S = 3.0

CheckName = Literal["redis", "durability", "clock", "artifacts", "products", "worker"]
STORES: tuple[CheckName, ...] = ("artifacts", "products")
REMEMBERED_S = 1.0
"""Seconds for which the outcome of a store's check counts; the others' are shared while they are being made."""
SYSTEM_ERRORS: dict[CheckName, str] = {
    "redis": "Redis does not answer, or refuses",
    "durability": "Redis, which was asked how it keeps its data, does not answer, or refuses",
    "clock": "Redis, which was asked for its time, does not answer, or refuses",
    "artifacts": "the image store cannot be written, or is out of reach",
    "products": "the store of bundles cannot be read",
    "worker": "Redis, which knows of the workers, does not answer, or refuses",
}
"""The public text of a check that fails with an error of Redis or of the operating system."""

router = APIRouter(tags=["operations"])
log = structlog.get_logger(__name__)


class Liveness(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


@router.get("/health/live", summary="Liveness probe", responses=documents.LIVE_RESPONSES)
async def live() -> Liveness:
    """Return 200 while the event loop runs."""
    return Liveness()


@router.get("/health/ready", summary="Readiness probe", responses=documents.READY_RESPONSES)
async def ready(services: ServicesDep, response: Response) -> Readiness:
    """Return 200 if an image posted now would be accepted and kept, else 503; `checks` says why.

    Without a worker, or with a clock that is off, the status is `degraded`, with 200.
    """
    redis, durability, clock, artifacts, products, worker = await asyncio.gather(
        _checked(services, "redis", lambda: _check_redis(services)),
        _checked(services, "durability", lambda: _check_durability(services), required=False),
        _checked(services, "clock", lambda: _check_clock(services), required=False),
        _checked(services, "artifacts", lambda: services.threads.probes.run(_check_artifacts, services)),
        _checked(
            services,
            "products",
            lambda: services.threads.bundles.run(ALL_PRODUCTS, BUNDLES_ANSWER_S, _check_products, services),
        ),
        _checked(services, "worker", lambda: _check_worker(services), required=False),
    )
    checks = {
        "redis": redis,
        "durability": durability,
        "clock": clock,
        "artifacts": artifacts,
        "products": products,
        "worker": worker,
    }
    if not all(check.ok for check in checks.values() if check.required):
        response.status_code = 503
        response.headers["Retry-After"] = str(services.settings.retry_after_s)
        return Readiness(status="unavailable", checks=checks)
    all_ok = all(check.ok for check in checks.values())
    return Readiness(status="ready" if all_ok else "degraded", checks=checks)


@router.get("/metrics", summary="Prometheus metrics", response_class=Response, responses=documents.METRICS_RESPONSES)
async def metrics(services: ServicesDep) -> Response:
    """Return the process's counters, and the present state of queue, Redis, disk and products.

    What does not answer in time is left out.
    """
    services.metrics.set_event_streams(services.feed.readers)
    services.metrics.show_fleet(await collect_fleet_state(services))
    return Response(generate_latest(services.metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


def make_outcomes() -> dict[str, RememberedOutcome[str]]:
    """Return the memory of each check, for one process. Nobody needs a key to have them made, at any rate."""
    return {name: RememberedOutcome(REMEMBERED_S if name in STORES else 0.0) for name in get_args(CheckName)}


async def _checked(
    services: Services, name: CheckName, check: Callable[[], Awaitable[str]], *, required: bool = True
) -> HealthCheck:
    """Return the outcome of a check: the text that it returns, or that of the LookupError by which it fails.

    Errors of the system may name addresses and folders, and the probe needs no API key: their text is logged only.
    """
    try:
        detail = await asyncio.wait_for(services.checks[name].get(check), PROBE_TIMEOUT_S)
        return HealthCheck(ok=True, required=required, detail=detail)
    except TimeoutError:
        return HealthCheck(ok=False, required=required, detail=f"no answer within {PROBE_TIMEOUT_S:g} s")
    except LookupError as error:
        return HealthCheck(ok=False, required=required, detail=str(error))
    except (RedisError, OSError) as error:
        log.warning("not ready", check=name, error=str(error), kind=type(error).__name__)
        return HealthCheck(ok=False, required=required, detail=f"{SYSTEM_ERRORS[name]}; the service's log says more")


async def _check_redis(services: Services) -> str:
    await services.jobs.ping()
    durability = await read_durability(services.redis, services.settings.redis_wait_replicas)
    if durability.refusal:
        raise LookupError(durability.refusal)
    return "answers"


async def _check_durability(services: Services) -> str:
    durability = await read_durability(services.redis, services.settings.redis_wait_replicas)
    if durability.problems:
        raise LookupError(durability.problems)
    return "keeps what it is given"


async def _check_clock(services: Services) -> str:
    if problem := (await read_clock(services.redis)).problem:
        raise LookupError(problem)
    return "agrees with that of Redis"


def _check_artifacts(services: Services) -> str:
    services.artifact_home.check()
    services.artifacts.probe()
    free, min_free = services.artifacts.free_bytes(), services.settings.min_free_bytes
    if free is not None and free < min_free:
        raise LookupError(f"{free} bytes free; at least {min_free} (GLAD_MIN_FREE_BYTES) must be")
    return "can be written"


def _check_products(services: Services) -> str:
    names = services.store.products()
    if not names:
        raise LookupError("no product has a usable bundle: publish one with `glad bundle publish FOLDER`")
    return f"{len(names)} with a usable bundle"


async def _check_worker(services: Services) -> str:
    seen_s = services.settings.lease_ms / 1000
    queues = await services.jobs.stats(services.settings.pool_names, worker_seen_s=seen_s)
    idle = [pool for pool, queue in queues.items() if not queue.workers]
    if idle == [DEFAULT_POOL] == list(queues):
        raise LookupError(f"no worker was heard of in the last {seen_s:g} s: start one with `glad worker`")
    if idle:
        raise LookupError(
            f"no worker of pool {', '.join(map(repr, idle))} was heard of in the last {seen_s:g} s: start one with "
            f"GLAD_POOL={idle[0]} and `glad worker`"
        )
    return f"{sum(queue.workers for queue in queues.values())} seen in the last {seen_s:g} s"
