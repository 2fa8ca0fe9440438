"""Authentication before a byte of the body is read."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.problems import problem_answer
from service.auth.authenticator import Authenticator
from service.auth.caller import ANONYMOUS
from service.auth.rate_limit import client_address
from service.errors import RateExceeded, ServiceError

log = structlog.get_logger(__name__)


class AuthenticationMiddleware:
    """ASGI middleware: a request passes with its caller in `request.state.caller`, or is answered here."""

    def __init__(
        self,
        app: ASGIApp,
        authenticator: Callable[[], Authenticator],
        public_paths: frozenset[str],
        on_refusal: Callable[[str, Scope], None],
    ) -> None:
        """Wrap `app`.

        Args:
            app: the application behind this middleware.
            authenticator: called for each request, because the authenticator exists only after the start.
            public_paths: paths that need no key.
            on_refusal: called with the slug of each refusal and the scope of its request.
        """
        self._app, self._authenticator = app, authenticator
        self._public_paths, self._on_refusal = public_paths, on_refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401, 403, 429 or 503."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            if scope["path"] in self._public_paths:
                caller = ANONYMOUS
            else:
                caller = await self._authenticator().authenticate(Headers(scope=scope), scope.get("client"))
        except ServiceError as error:
            self._record(error, scope)
            await problem_answer(error, scope["path"])(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)

    def _record(self, error: ServiceError, scope: Scope) -> None:
        self._on_refusal(error.slug, scope)
        if not isinstance(error, RateExceeded):  # a flood of calls must not become a flood of log lines
            log.info(
                "request refused by authentication",
                type=error.type,
                status=int(error.status),
                path=scope["path"][:200],
                address=client_address(scope.get("client")),
            )
