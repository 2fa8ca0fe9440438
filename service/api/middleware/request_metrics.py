"""Counts every request where it meets the application first, so that what the door refuses is counted too."""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.telemetry.metrics.api import ApiMetrics

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
NO_ROUTE = "none"
"""No path of the service matched, or the request did not come that far."""
BROKEN = 500
"""The application raised before it answered."""


class RequestMetricsMiddleware:
    """ASGI middleware: method, route, status, and the time to the first byte."""

    def __init__(self, app: ASGIApp, metrics: Callable[[], ApiMetrics]) -> None:
        """`metrics`: the process's counters, once it has started."""
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on and watches its answer begin."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, counted = time.perf_counter(), False

        def count(status: int) -> None:
            nonlocal counted
            counted = True
            seconds = time.perf_counter() - began
            self._metrics().answered(_method(scope), route_of(scope), status, seconds)

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                count(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:
            if not counted:
                count(BROKEN)
            raise


def route_of(scope: Scope) -> str:
    """The template of the path that matched, such as /v1/inspections/{id}: there are only so many."""
    return str(getattr(scope.get("route"), "path", NO_ROUTE))


def _method(scope: Scope) -> str:
    method = str(scope["method"])
    return method if method in METHODS else "other"
