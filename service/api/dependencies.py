"""Arguments of the path functions: the services of this process, and parameters that several calls share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from inspect import isclass
from typing import Annotated, Any

import redis.asyncio
from fastapi import Depends, Header, Path, Request
from fastapi.routing import APIRoute
from pydantic import BaseModel, StringConstraints
from starlette.routing import BaseRoute

from model_store.store import Store
from service.api.running_exports import RunningExports
from service.api.threads import RememberedOutcome, ThreadPools
from service.api.uploads.budget import HeldBytes, UploadBudget
from service.api.uploads.decoding import Decoder
from service.auth.authenticator import Authenticator
from service.auth.scopes import Caller, required_scope
from service.contract import LONGEST_WAIT_S
from service.errors import Forbidden, InvalidFields
from service.queue.artifact_home import ArtifactHome
from service.queue.dispositions import Dispositions
from service.queue.events import EventFeed
from service.queue.history import History
from service.queue.limit_samples import LimitSamples
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
from service.telemetry.metrics.api import ApiMetrics
from service.telemetry.tracing import Tracing


@dataclass(frozen=True)
class Services:
    """The parts of one API process, put together when the application starts."""

    settings: Settings
    redis: redis.asyncio.Redis
    jobs: JobSubmitter
    results: Results
    history: History
    recent: RecentInspections
    summaries: Summaries
    feed: EventFeed
    reviews: Reviews
    review_queue: ReviewQueue
    review_plans: ReviewPlans
    dispositions: Dispositions
    exports: RunningExports
    pictures: PictureRequests
    stations: Stations
    limit_samples: LimitSamples
    store: Store
    artifacts: ArtifactStore
    artifact_home: ArtifactHome
    decoder: Decoder
    upload_budget: UploadBudget
    threads: ThreadPools
    checks: Mapping[str, RememberedOutcome[str]]
    """What readiness found lately, by the names of its checks."""
    metrics: ApiMetrics
    tracing: Tracing
    authenticator: Authenticator


# FastAPI calls a plain function in a thread: these are coroutines so that no request waits for one.
async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(_services)]
"""A path function's `services` argument."""


async def _caller(request: Request) -> Caller:
    """Return the caller that `AuthenticationMiddleware` has found."""
    caller: Caller = request.state.caller
    return caller


CallerDep = Annotated[Caller, Depends(_caller)]
"""The `caller` argument of a path function."""


async def _held(request: Request) -> HeldBytes:
    """Return what is held for the request: `BodyLimitMiddleware` has opened it and closes it."""
    held: HeldBytes = request.state.held
    return held


HeldDep = Annotated[HeldBytes, Depends(_held)]
"""The `held` argument of a path function that makes more of a body than was sent."""


async def authorize(request: Request, caller: CallerDep) -> None:
    """Check that the caller may make this call. It is a dependency of the whole application.

    `AuthenticationMiddleware` has checked it before the body was read; here no route can be forgotten.

    Raises:
        Forbidden: if the call takes a scope that the caller's key lacks.
    """
    check_scope(caller, request.method, request.scope["route"].path_format, request.url.path)


def check_scope(caller: Caller, method: str, template: str, path: str) -> None:
    """Check that the caller may make a call.

    Args:
        caller: of the request.
        method: of the request.
        template: of the path, as in the OpenAPI document.
        path: as it came.

    Raises:
        Forbidden: if the call takes a scope that the caller's key lacks.
    """
    scope = required_scope(method, template)
    if not caller.has_scope(scope):
        scopes = ", ".join(sorted(caller.scopes))
        raise Forbidden(
            f"key {caller.name!r} has the scope {scopes}; {method} {path[:200]} takes "
            f"{scope.value!r}: use another key, or make one with that scope",
            scope=scope.value,
        )


async def refuse_unknown_query(request: Request) -> None:
    """Check that a call's query has no name that the call has not. It is a dependency of the whole application.

    Raises:
        InvalidFields: if it has: a misspelt `preview` would change what it was to show.
    """
    known = query_names(request.scope["route"])
    unknown = () if known is None else [name for name in request.query_params if name not in known]
    if unknown:
        errors = [{"type": "extra_forbidden", "loc": ("query", name), "msg": ""} for name in unknown]
        raise InvalidFields.from_validation(errors, known or ())


def query_names(route: BaseRoute) -> set[str] | None:
    """Return the query parameters of a route that takes some, or fields in its body.

    None: it checks them itself, or takes neither. Then there is nothing to misspell, and displays add the time to the
    address of what they show.
    """
    if not isinstance(route, APIRoute):
        return None
    parameters = route.dependant.query_params
    if any(_model_fields(one.field_info.annotation) for one in parameters):
        return None  # such a model forbids others
    return {one.alias for one in parameters} if parameters or route.dependant.body_params else None


def field_names(route: BaseRoute | None) -> list[str]:
    """Return the query parameters and body fields of a route, as the OpenAPI document has them.

    From the route, because the document takes half a second to build.
    """
    if not isinstance(route, APIRoute):
        return []
    described = (route.openapi_extra or {}).get("parameters", ())
    in_query = [
        name for one in route.dependant.query_params for name in _model_fields(one.field_info.annotation) or [one.alias]
    ]
    in_body = [name for one in route.dependant.body_params for name in _model_fields(one.field_info.annotation)]
    return [*in_query, *(one["name"] for one in described if one["in"] == "query"), *in_body]


def _model_fields(model: Any) -> list[str]:
    """Return the fields of a parameter's type; none if it is no model."""
    if not (isclass(model) and issubclass(model, BaseModel)):
        return []
    return [field.alias or name for name, field in model.model_fields.items()]


ProductPath = Annotated[str, Path(description="the product's name", examples=["bracket"])]
VersionPath = Annotated[str, Path(description="the version's name", examples=["2"])]
InspectionPath = Annotated[str, Path(alias="id", description="the inspection's id, a UUIDv7")]
IdempotencyKeyText = Annotated[str, StringConstraints(min_length=1, max_length=300, pattern=r"^[\x21-\x7e]+$")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="same key, same inspection, per API key and product; kept as long as the result",
        examples=["line-3-000123-top"],
    ),
]
Prefer = Annotated[
    str | None,
    Header(alias="Prefer", description=f"`wait=N`: hold the answer up to N s, at most {LONGEST_WAIT_S}"),
]


def wait_seconds(prefer: str | None) -> int:
    """Return N of `Prefer: wait=N`, at most `LONGEST_WAIT_S`; 0 without one.

    A preference that is not understood is ignored (RFC 7240).
    """
    for preference in (prefer or "").split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        digits = value.strip().strip('"')
        if name.strip().lower() == "wait" and digits.isascii() and digits.isdigit() and len(digits) < 10:
            return min(int(digits), LONGEST_WAIT_S)
    return 0
