"""Authentication and scope before a byte of the body is read, and the headers that protect browsers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import structlog
from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.addresses import find_route
from service.api.connections import LET_IN
from service.api.dependencies import Services, check_scope
from service.api.middleware.observability import count_refusal
from service.api.oip.wire import HEADER_LENGTH
from service.api.problems import SECURITY_HEADERS, problem_answer
from service.auth.rate_limit import client_address
from service.auth.scopes import ANONYMOUS, Caller
from service.errors import RateExceeded, ServiceError

log = structlog.get_logger(__name__)


class AuthenticationMiddleware:
    """ASGI middleware: a request passes with its caller in `request.state.caller`, or is answered here.

    What it passes on has its route in the scope, if there is one for its method and path.
    """

    def __init__(self, app: ASGIApp, public_paths: frozenset[str], routes: Sequence[BaseRoute]) -> None:
        """Wrap `app`.

        Args:
            app: what is wrapped.
            public_paths: paths, or templates of paths, that need no key.
            routes: all of the application, in its order.
        """
        self._app, self._public_paths, self._routes = app, public_paths, routes
        self._at_work: Counter[str] = Counter()
        """API key -> its requests that are worked on."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401, 403, 429 or 503."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            route = find_route(self._routes, scope)
            is_public = not self._public_paths.isdisjoint({scope["path"], route.path_format if route else ""})
            caller = ANONYMOUS if is_public else await self._authenticate(scope)
            if route is not None:
                scope["route"] = route
                if not is_public:
                    check_scope(caller, scope["method"], route.path_format, scope["path"])
            self._check_share(caller, scope)
        except ServiceError as error:
            _record(error, scope)
            await problem_answer(error, scope["path"])(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["caller"], state[LET_IN] = caller, not is_public
        self._at_work[caller.id] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._at_work[caller.id] -= 1

    def _check_share(self, caller: Caller, scope: Scope) -> None:
        """Raise RateExceeded if the caller's key has half of all connections at work: the others need some, too."""
        settings = scope["app"].state.services.settings
        share = max(1, settings.max_connections // 2)
        if caller.id and self._at_work[caller.id] >= share:
            raise RateExceeded(
                f"{share} requests of API key {caller.id} are worked on, half of GLAD_MAX_CONNECTIONS: "
                "wait for some, or give each camera a key of its own",
                retry_after_s=settings.retry_after_s,
            )

    async def _authenticate(self, scope: Scope) -> Caller:
        services: Services = scope["app"].state.services
        return await services.authenticator.authenticate(Headers(scope=scope), scope.get("client"), scope["method"])


class SecurityHeadersMiddleware:
    """ASGI middleware: adds `SECURITY_HEADERS` to every answer, errors of the other middleware included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and complete the headers of its answer."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)


def add_cors(app: FastAPI, origins: Sequence[str]) -> None:
    """Let pages of these origins call the API from a browser, with an API key of their own."""
    app.add_middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=[
            "Authorization",
            "X-API-Key",
            "Idempotency-Key",
            "If-Match",
            "Prefer",
            "Last-Event-ID",
            "Content-Type",
            "Content-Encoding",
            "Content-Digest",
            HEADER_LENGTH,
        ],
        expose_headers=["ETag", "Location", "Retry-After", "Preference-Applied", HEADER_LENGTH],
    )


def _record(error: ServiceError, scope: Scope) -> None:
    count_refusal(scope, error)
    if not isinstance(error, RateExceeded):  # a flood of calls must not become a flood of log lines
        log.info(
            "request refused by authentication",
            type=error.type,
            status=int(error.status),
            path=scope["path"][:200],
            address=client_address(scope.get("client")),
        )
