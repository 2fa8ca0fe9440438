"""Metrics of every request, and a trace of every POST.

Both stand outside authentication, so that refused requests are counted too. They name a request by the template of its
path, such as `/v1/inspections/{id}`: there are only so many templates, while clients choose the paths.

Like all middleware here, they find the process's `Services` by the application in the request's scope: the middleware
is made before the application starts, and the services at its start.
"""

from __future__ import annotations

import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.dependencies import Services
from service.auth.scopes import is_submission
from service.errors import ServiceError
from service.telemetry.tracing import use_traceparent

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
NO_ROUTE = "none"
"""No path of the service matched, or the request was refused before its path was looked up."""
UNANSWERED = 500
"""The status that is counted if the application raised before it answered."""
CLIENT_LEFT = 499
"""The status that is counted if the client went away before it had sent its body: no error of the service."""


class RequestMetricsMiddleware:
    """ASGI middleware: method, route and status of every request, and the time to the first byte of its answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and count it when its answer begins."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, counted = time.perf_counter(), False

        def count(status: int) -> None:
            nonlocal counted
            counted = True
            method = scope["method"] if scope["method"] in METHODS else "other"
            seconds = time.perf_counter() - began
            services: Services = scope["app"].state.services
            services.metrics.observe_request(method, _route(scope), status, seconds)

        async def counting_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                count(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, counting_send)
        except Exception:
            if not counted:
                count(UNANSWERED)
            raise
        if not counted and scope.get("state", {}).get("client_left"):
            count(CLIENT_LEFT)


class TracingMiddleware:
    """ASGI middleware: a span for every POST, so that an image can be followed from the camera to its result.

    Reads are not traced: they are many, and would hide the images.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, inside its span."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        services: Services = scope["app"].state.services
        with services.tracing.request_span("POST", Headers(scope=scope)) as span, use_traceparent(span.traceparent):

            async def tracing_send(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_response(_route(scope), message["status"])
                await send(message)

            await self._app(scope, receive, tracing_send)


def count_refusal(scope: Scope, error: ServiceError) -> None:
    """Count the refusal of a request by other middleware, if the request submits images."""
    if is_submission(scope["method"], scope["path"]):
        services: Services = scope["app"].state.services
        services.metrics.count_rejection(error.slug)


def _route(scope: Scope) -> str:
    # The router has put the route into the scope by the time that an answer begins.
    return str(getattr(scope.get("route"), "path", NO_ROUTE))
