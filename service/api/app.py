"""The ASGI application: `create_app(settings)`. Nothing connects to anything before the application starts."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import structlog
from fastapi import Depends, FastAPI
from prometheus_client import CollectorRegistry
from starlette.routing import BaseRoute

from model_store.store import SHIPPED_BUNDLES, Store
from service.api import page, problems
from service.api.addresses import HeadMiddleware
from service.api.bounded_calls import ALL_PRODUCTS
from service.api.dependencies import Services, authorize, refuse_unknown_query
from service.api.fleet_state import active_bundles
from service.api.middleware.abandoned_reads import AbandonedReadMiddleware
from service.api.middleware.body_limits import BodyLimitMiddleware, BodyLimits, PatienceMiddleware
from service.api.middleware.observability import RequestMetricsMiddleware, TracingMiddleware
from service.api.middleware.security import AuthenticationMiddleware, SecurityHeadersMiddleware, add_cors
from service.api.oip import routes as oip
from service.api.openapi import docs_page
from service.api.openapi.document import build_document
from service.api.routes import (
    artifacts,
    batch,
    distributions,
    evaluations,
    events,
    health,
    history,
    inspections,
    limit_samples,
    parts,
    product_admin,
    product_records,
    products,
    quality_gate,
    review_export,
    review_plans,
    reviews,
    session,
    stations,
    statistics,
)
from service.api.running_exports import RunningExports
from service.api.threads import RememberedOutcome, ThreadPools
from service.api.uploads.budget import UploadBudget
from service.api.uploads.decoding import Decoder
from service.auth.api_keys import KeyCache
from service.auth.authenticator import Authenticator, AuthPolicy
from service.auth.rate_limit import RateLimiter
from service.auth.scopes import PUBLIC_PATHS
from service.auth.sessions import Sessions
from service.cancelling import cancel_and_wait
from service.host.decoder_pool import DecodeLimits, DecoderPool
from service.maintenance.retention import sweeping
from service.maintenance.station_watch import StationWatch, watching
from service.queue.artifact_home import ArtifactHome
from service.queue.connection import connect, connect_async
from service.queue.dispositions import Dispositions
from service.queue.events import EventFeed
from service.queue.history import History
from service.queue.limit_samples import LimitSamples
from service.queue.overtime import OvertimeWatch
from service.queue.picture_requests import PictureRequests
from service.queue.recent import RecentInspections
from service.queue.results import Results
from service.queue.review_plans import ReviewPlans
from service.queue.review_queue import ReviewQueue
from service.queue.reviews import Reviews
from service.queue.stations import Stations
from service.queue.submitter import JobSubmitter
from service.queue.summaries import Summaries
from service.settings import Settings
from service.storage.artifacts import ArtifactStore
from service.telemetry.logs import configure_logging, package_version
from service.telemetry.metrics.api import ApiMetrics
from service.telemetry.metrics.fleet import FleetLimits
from service.telemetry.tracing import open_tracing

DESCRIPTION = """
Finds defects on factory products. Post an image of a part; get a verdict, a score, defect regions and a heatmap.

- A **camera** posts and goes on: `202` with a link. `Prefer: wait=10` holds the answer until the result is there.
- An **`Idempotency-Key`** makes retries harmless: the same key is the same inspection.
- **Accepted is kept**: the image and its job are durable before the answer. What cannot be kept is refused.
- `verdict` is `pass`, `review` or `fail`. **Null is never pass.**
- An image that is **unfit** (too dark, too bright, blurred, without the part) is `review` without a score: `quality`.
- Errors are `application/problem+json` (RFC 9457) with stable types.
- `/v2` speaks the **Open Inference Protocol**, for clients such as `tritonclient`: the same queue.
"""

ROUTE_MODULES = (
    inspections,
    artifacts,
    batch,
    history,
    events,
    parts,
    reviews,
    review_export,
    review_plans,
    stations,
    limit_samples,
    statistics,
    product_admin,
    quality_gate,
    distributions,
    evaluations,
    product_records,
    products,
    session,
    health,
    oip,
)
"""The modules whose routes the application serves, in the order of the OpenAPI document."""

log = structlog.get_logger(__name__)


def create_app(settings: Settings) -> FastAPI:
    """Return the application for these settings. Redis need not answer yet.

    Raises:
        ValueError: if the settings name no Redis.
    """
    redis_url = settings.redis_url
    if redis_url is None:
        raise ValueError("GLAD_REDIS_URL is not set: name a Redis, or run `glad serve`, which brings a private one")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        configure_logging(settings)
        async with _open_services(settings, redis_url) as services:
            app.state.services = services
            log.info("api started", version=package_version(), store=settings.store_url, artifacts=settings.artifacts)
            recording = asyncio.create_task(_record_active(services))  # beside: a store may hang
            try:
                yield
            finally:
                await cancel_and_wait(recording)
        log.info("api stopped")

    app = FastAPI(
        title="GLAD inspection service",
        version=package_version(),
        description=DESCRIPTION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # problems.http_error says it with a body
        openapi_url=None,  # docs_page builds the document beside the event loop
        dependencies=[Depends(authorize), Depends(refuse_unknown_query)],
    )
    modules = (*ROUTE_MODULES, *([docs_page] if settings.docs else []), *([page] if settings.page else []))
    routes = [route for module in modules for route in module.router.routes]
    _add_middleware(app, settings, routes)
    problems.add_handlers(app, routes, retry_after_s=settings.retry_after_s)
    for module in modules:
        app.include_router(module.router)
    app.state.document = RememberedOutcome[bytes](math.inf)
    app.openapi = lambda: build_document(app, [route for module in ROUTE_MODULES for route in module.router.routes])  # type: ignore[method-assign]
    return app


def _add_middleware(app: FastAPI, settings: Settings, routes: Sequence[BaseRoute]) -> None:
    # Starlette wraps the application in each middleware anew: the last one that is added meets a request first.
    app.add_middleware(AbandonedReadMiddleware)
    app.add_middleware(BodyLimitMiddleware, limits=BodyLimits(settings.max_body_bytes, settings.body_timeout_s))
    public_paths = PUBLIC_PATHS | page.PUBLIC_TEMPLATES | ({"/metrics"} if settings.metrics_open else set())
    app.add_middleware(AuthenticationMiddleware, public_paths=public_paths, routes=routes)
    if settings.cors_origins:
        add_cors(app, settings.cors_origins)
    app.add_middleware(HeadMiddleware, routes=routes)
    app.add_middleware(SecurityHeadersMiddleware)
    app.add_middleware(PatienceMiddleware)
    app.add_middleware(TracingMiddleware)
    app.add_middleware(RequestMetricsMiddleware)


async def _record_active(services: Services) -> None:
    """Have it recorded which version of each product is active now: see `Store.resolve`."""
    try:
        await services.threads.changes.run(ALL_PRODUCTS, math.inf, active_bundles, services.store)
    except OSError as error:
        log.warning("active_versions_not_recorded", reason=str(error))


@asynccontextmanager
async def _open_services(settings: Settings, redis_url: str) -> AsyncIterator[Services]:
    client = connect_async(redis_url, settings.redis_answer_s)
    artifacts = ArtifactStore(settings.artifacts)
    blocking = connect(redis_url, settings.redis_answer_s)  # for threads
    tracing = open_tracing("glad-api")
    metrics = ApiMetrics(CollectorRegistry(), FleetLimits.from_settings(settings))
    decoder = _make_decoder(settings, metrics)
    threads = ThreadPools(settings)
    all_stations = Stations(client, keep_removed_s=settings.result_ttl_s, max_events=settings.max_events)
    samples = LimitSamples(client, all_stations)
    watch = StationWatch(client, OvertimeWatch(client, max_events=settings.max_events), samples)
    try:
        history = History(client)
        async with (
            Results(client) as results,
            EventFeed(client) as feed,
            sweeping(settings, redis_url, artifacts),
            watching(watch),
        ):
            yield Services(
                settings=settings,
                redis=client,
                jobs=JobSubmitter(
                    client,
                    max_backlog=settings.max_backlog,
                    max_wait_s=settings.max_wait_s,
                    wait_replicas=settings.redis_wait_replicas,
                    wait_ms=settings.redis_wait_ms,
                ),
                results=results,
                history=history,
                recent=RecentInspections(history),
                summaries=Summaries(client),
                feed=feed,
                reviews=Reviews(client, max_events=settings.max_events, ttl_s=settings.result_ttl_s),
                review_queue=ReviewQueue(client),
                review_plans=ReviewPlans(client),
                dispositions=Dispositions(client, max_events=settings.max_events, ttl_s=settings.result_ttl_s),
                exports=RunningExports(),
                pictures=PictureRequests(client),
                stations=all_stations,
                limit_samples=samples,
                store=Store(settings.store_url, shipped=SHIPPED_BUNDLES, keys=settings.trusted_keys),
                artifacts=artifacts,
                artifact_home=ArtifactHome(blocking, artifacts),
                decoder=decoder,
                upload_budget=UploadBudget(
                    settings.held_bytes, settings.held_bytes_of_key, retry_after_s=settings.retry_after_s
                ),
                threads=threads,
                checks=health.make_outcomes(),
                metrics=metrics,
                tracing=tracing,
                authenticator=Authenticator(
                    AuthPolicy.from_settings(settings),
                    KeyCache(client),
                    RateLimiter(client),
                    Sessions(client, lifetime_s=settings.session_s),
                ),
            )
    finally:
        decoder.close()
        threads.close()
        await asyncio.to_thread(tracing.close)
        await client.aclose()
        blocking.close()


def _make_decoder(settings: Settings, metrics: ApiMetrics) -> Decoder:
    limits = DecodeLimits(settings.decode_limit_s, settings.decode_memory_bytes)
    images = DecoderPool(settings.decode_threads, limits, on_end=lambda why: metrics.count_decoder_end(why.value))
    return Decoder(
        images,
        threads=settings.decode_threads,
        max_pixels=settings.max_pixels,
        max_bytes=settings.max_image_bytes,
        intact=settings.damaged_images == "refuse",
        retry_after_s=settings.retry_after_s,
    )
