"""Every refusal leaves as problem+json, whoever raised it; under /v2, in the Open Inference Protocol's form."""

from __future__ import annotations

from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException

from model_store.errors import ProductNotInStore, StoreError
from model_store.store import Store
from service.api.dependencies import Services
from service.auth.scopes import is_submission
from service.errors import (
    InvalidFields,
    Problem,
    ProductUnusable,
    QueueUnavailable,
    ServiceError,
    UnknownInspection,
    UnknownProduct,
    error_body,
    field_problems,
)

LONGEST_SHOWN_PATH = 200

log = structlog.get_logger(__name__)


def add_handlers(app: FastAPI, *, retry_after_s: int) -> None:
    """Makes problem+json of this service's errors, FastAPI's, Starlette's, and of what nobody expected."""

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, ServiceError)
        log.info(
            "refused", type=error.type, status=int(error.status), detail=error.detail, path=_shown(request.url.path)
        )
        return problem_answer(error, request.url.path)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        problems = field_problems(list(error.errors()))
        detail = "; ".join(f"{one.field}: {one.message}" for one in problems)
        return await unread(request, InvalidFields(detail[:1000], errors=problems))

    async def unread(request: Request, error: InvalidFields) -> Response:
        """Refused by FastAPI, before our own code could count it."""
        if is_submission(request.method, request.url.path):
            request.app.state.services.metrics.count_rejection(error.slug)
        return await refused(request, error)

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == HTTPStatus.BAD_REQUEST and error.__cause__ is not None:  # FastAPI's word for a body
            return await unread(request, InvalidFields("the body cannot be read: send JSON, in UTF-8, not too deep"))
        status = HTTPStatus(error.status_code)
        detail = f"{request.method} {_shown(request.url.path)}: {error.detail}; see /docs for the calls there are"
        return _plain(request, status, detail, dict(error.headers or {}))

    async def redis_away(request: Request, error: Exception) -> Response:
        log.error("queue unavailable", error=str(error), path=_shown(request.url.path))
        return await refused(request, QueueUnavailable("the queue does not answer", retry_after_s=retry_after_s))

    async def unexpected(request: Request, error: Exception) -> Response:
        log.error("unexpected error", path=_shown(request.url.path), exc_info=error)
        detail = "an unexpected error; the service's log has it: report it with the time of this request"
        return _plain(
            request, HTTPStatus.INTERNAL_SERVER_ERROR, detail, SECURITY_HEADERS
        )  # made outside all middleware

    app.add_exception_handler(ServiceError, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RedisError, redis_away)
    app.add_exception_handler(Exception, unexpected)


def problem_answer(error: ServiceError, path: str) -> Response:
    """The answer that says what was refused, and why."""
    return _answer(error.problem(_shown(path)), error.headers)


def _shown(path: str) -> str:
    """A path as logs and answers repeat it: a client chooses its length."""
    return path if len(path) <= LONGEST_SHOWN_PATH else f"{path[:LONGEST_SHOWN_PATH]}…"


def _plain(request: Request, status: HTTPStatus, detail: str, headers: dict[str, str]) -> Response:
    """A problem that the status says all about."""
    problem = Problem(
        type="about:blank",
        title=status.phrase,
        status=int(status),
        detail=detail,
        instance=_shown(request.url.path),
    )
    return _answer(problem, headers)


def _answer(problem: Problem, headers: dict[str, str]) -> Response:
    media_type, body = error_body(problem)
    return Response(body.model_dump_json(exclude_none=True), problem.status, headers=headers, media_type=media_type)


log = structlog.get_logger(__name__)


def queue_unavailable(services: Services, error: RedisError) -> QueueUnavailable:
    """Redis is away, or refuses: logged, and 503."""
    log.error("queue unavailable", error=str(error), kind=type(error).__name__)
    return QueueUnavailable(
        "the queue does not answer, or refuses writes: try again later, with an Idempotency-Key so that it counts once",
        retry_after_s=services.settings.retry_after_s,
    )


def unknown_inspection(inspection_id: str) -> UnknownInspection:
    """Nothing is kept under this id."""
    return UnknownInspection(f"no inspection {inspection_id[:100]!r}: it was never accepted here, or is no longer kept")


SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
"""Set where the answer does not say otherwise itself."""


def refusal(store: Store, name: str, error: StoreError | ValueError) -> UnknownProduct | ProductUnusable:
    """Why this product cannot be inspected. Paths of this machine stay in its log."""
    if isinstance(error, ProductNotInStore):
        known = store.products()
        names = ", ".join(known[:20]) + (" ..." if len(known) > 20 else "") if known else "none yet"
        return UnknownProduct(f"no product {name[:100]!r}; known: {names}")
    log.error("product unusable", product=name, reason=str(error))
    return ProductUnusable(
        f"product {name!r} has no usable bundle; the service's log says why: restore it or activate another version"
    )
