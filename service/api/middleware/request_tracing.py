"""A span for every POST: what a camera sends can be followed from here to its result."""

from __future__ import annotations

from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.middleware.request_metrics import route_of
from service.telemetry.tracing import Tracing


class TracingMiddleware:
    """ASGI middleware. Reads are not traced: they would bury what matters."""

    def __init__(self, app: ASGIApp, tracing: Callable[[], Tracing]) -> None:
        """`tracing`: where the process's spans go, once it has started."""
        self._app, self._tracing = app, tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, inside its span."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        with self._tracing().request("POST", Headers(scope=scope)) as span:

            async def watched(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.answered(route_of(scope), message["status"])
                await send(message)

            await self._app(scope, receive, watched)
