"""Errors as answers: problem+json, or the Open Inference Protocol's form under /v2, wherever the error was raised."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import ParamSpec, TypeVar

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute

from model_store.errors import ProductNotInStore, StoreError
from model_store.store import Store
from service.api.addresses import without_slash
from service.api.dependencies import Services, field_names
from service.auth.scopes import is_submission
from service.errors import (
    InvalidFields,
    Problem,
    ProductUnusable,
    QueueUnavailable,
    ServiceError,
    StorageUnavailable,
    UnknownInspection,
    UnknownProduct,
)

P = ParamSpec("P")
T = TypeVar("T")

PROBLEM_JSON = "application/problem+json"
MAX_SHOWN_PATH = 200
"""Characters of a request's path that logs and answers repeat: a client chooses its length."""
MAX_SHOWN_PRODUCTS = 20
BUNDLES_ANSWER_S = 15.0
"""For what a call reads of the store of bundles: some small files."""
BUNDLES_RETRY_S = 5
"""A worker looks as often whether a store of bundles is back."""
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
"""Headers of every answer that does not set them itself."""

log = structlog.get_logger(__name__)


class InferenceError(BaseModel):
    """The Open Inference Protocol's form of an error."""

    error: str = Field(examples=["no product 'brackt'; known: bracket"])


def add_handlers(app: FastAPI, routes: Sequence[BaseRoute], *, retry_after_s: int) -> None:
    """Answer with a problem to this service's errors, FastAPI's, Starlette's, Redis's, and to unexpected ones."""

    async def service_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, ServiceError)
        log.info(
            "refused", type=error.type, status=int(error.status), detail=error.detail, path=_shown(request.url.path)
        )
        return problem_answer(error, request.url.path)

    async def validation_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return await refused_by_fastapi(
            request, InvalidFields.from_validation(error.errors(), field_names(request.scope.get("route")))
        )

    async def refused_by_fastapi(request: Request, error: InvalidFields) -> Response:
        if is_submission(request.method, request.url.path):  # refused before `count_rejections` could count it
            request.app.state.services.metrics.count_rejection(error.slug)
        return await service_error(request, error)

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        # FastAPI raises a bare 400 from its JSON parser's error.
        if error.status_code == HTTPStatus.BAD_REQUEST and error.__cause__ is not None:
            unreadable = InvalidFields("the body cannot be read: send JSON, in UTF-8, not too deeply nested")
            return await refused_by_fastapi(request, unreadable)
        address = without_slash(routes, request.scope) if error.status_code == HTTPStatus.NOT_FOUND else None
        if address is not None:
            detail = f"{_shown(request.url.path)} has a slash too many: call {_shown(address)}"
            return _plain_answer(request, HTTPStatus.TEMPORARY_REDIRECT, detail, {"Location": address})
        status = HTTPStatus(error.status_code)
        headers = dict(error.headers or {})
        allowed = f", use {headers['Allow']}" if "Allow" in headers else ""
        call = f"{request.method} {_shown(request.url.path)}"
        detail = f"{call}: {error.detail}{allowed}; /docs lists the calls that exist"
        return _plain_answer(request, status, detail, headers)

    async def redis_error(request: Request, error: Exception) -> Response:
        log.error("queue unavailable", error=str(error), path=_shown(request.url.path))
        return await service_error(request, QueueUnavailable("the queue does not answer", retry_after_s=retry_after_s))

    async def unexpected_error(request: Request, error: Exception) -> Response:
        log.error("unexpected error", path=_shown(request.url.path), exc_info=error)
        detail = "an unexpected error; the service's log has it: report it with the time of this request"
        # This answer passes no middleware that would add them.
        return _plain_answer(request, HTTPStatus.INTERNAL_SERVER_ERROR, detail, SECURITY_HEADERS)

    app.add_exception_handler(ServiceError, service_error)
    app.add_exception_handler(RequestValidationError, validation_error)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RedisError, redis_error)
    app.add_exception_handler(Exception, unexpected_error)


def problem_answer(error: ServiceError, path: str) -> Response:
    """Return the answer to a request for `path` that says what was refused, and why."""
    return _answer(error.problem(_shown(path)), error.headers)


def error_body(problem: Problem) -> tuple[str, BaseModel]:
    """Return media type and body of an answer, in the form of the protocol that the request's path belongs to."""
    if problem.instance == "/v2" or problem.instance.startswith("/v2/"):
        return "application/json", InferenceError(error=problem.detail)
    return PROBLEM_JSON, problem


def _shown(path: str) -> str:
    return path if len(path) <= MAX_SHOWN_PATH else f"{path[:MAX_SHOWN_PATH]}…"


def _plain_answer(request: Request, status: HTTPStatus, detail: str, headers: dict[str, str]) -> Response:
    """Return a problem without a type of its own: its status says which kind it is (RFC 9457, 4.2.1)."""
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


def queue_unavailable(services: Services, error: RedisError) -> QueueUnavailable:
    """Log an error of Redis, and return the one that the caller gets."""
    log.error("queue unavailable", error=str(error), kind=type(error).__name__)
    return QueueUnavailable(
        "the queue does not answer, or refuses writes: try again later, with an Idempotency-Key so that it counts once",
        retry_after_s=services.settings.retry_after_s,
    )


def memory_is_for_images(services: Services, what: str) -> QueueUnavailable:
    """Return the error for a record, such as a review, for which Redis has no memory to spare."""
    return QueueUnavailable(
        f"Redis is nearly full, and what is left is for images: the {what} was not recorded, send it again later",
        retry_after_s=services.settings.retry_after_s,
    )


def unknown_inspection(inspection_id: str) -> UnknownInspection:
    """Return the error for an id, as the caller gave it, under which nothing is kept."""
    return UnknownInspection(f"no inspection {inspection_id[:100]!r}: it was never accepted here, or is no longer kept")


def product_error(store: Store, name: str, error: StoreError | ValueError) -> ServiceError:
    """Return the error that says why this product cannot be inspected: now, if the store of bundles is away.

    The store's own text may name folders of this machine: it goes to the log alone.
    """
    if isinstance(error, StoreError) and _is_away(store):
        return _bundles_away()
    if isinstance(error, ProductNotInStore):
        products = store.products()
        if name in products:  # the store is back
            return _bundles_away()
        more = " ..." if len(products) > MAX_SHOWN_PRODUCTS else ""
        known = ", ".join(products[:MAX_SHOWN_PRODUCTS]) + more if products else "none yet"
        return UnknownProduct(f"no product {name[:100]!r}; known: {known}")
    log.error("product unusable", product=name, reason=str(error))
    return ProductUnusable(
        f"product {name!r} has no usable bundle; the service's log says why: restore it or activate another version"
    )


async def read_bundles(
    services: Services, about: str, function: Callable[P, T], /, *arguments: P.args, **named: P.kwargs
) -> T:
    """Return what the function, which reads the store of bundles, returns. It runs in a thread.

    Args:
        services: of this process.
        about: the product that it reads, or `ALL_PRODUCTS`.
        function: reads the store.
        arguments: of the function, as are `named`.

    Raises:
        StorageUnavailable: if it takes longer than some small files ever do: on a share that hangs it would be waited
            for without end.
    """
    try:
        return await services.threads.bundles.run(about, BUNDLES_ANSWER_S, function, *arguments, **named)
    except TimeoutError as error:
        log.error("store of bundles does not answer", within_s=BUNDLES_ANSWER_S)
        raise _bundles_away() from error


def _is_away(store: Store) -> bool:
    try:
        store.check_readable()
    except OSError as error:
        log.error("store of bundles not read", error=str(error))
        return True
    return False


def _bundles_away() -> StorageUnavailable:
    return StorageUnavailable(
        "the store of bundles cannot be read now; nothing was accepted: send it again later",
        retry_after_s=BUNDLES_RETRY_S,
    )
