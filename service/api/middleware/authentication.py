"""Authentication before a byte of the body is read: a request passes with its caller, or is answered here."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.problems import problem_answer
from service.auth.caller import ANYBODY, Caller
from service.auth.guard import Authenticator
from service.auth.rate_limit import address_of
from service.errors import RateExceeded, ServiceError

log = structlog.get_logger(__name__)


class AuthenticationMiddleware:
    """ASGI middleware: a request passes with its caller in `request.state.caller`, or is answered here."""

    def __init__(
        self,
        app: ASGIApp,
        guard: Callable[[], Authenticator],
        open_paths: frozenset[str],
        refused: Callable[[str, Scope], None],
    ) -> None:
        """`guard`: the process's guard, once it has started. `refused`: told every refusal's slug, and its request."""
        self._app, self._guard, self._open_paths, self._refused = app, guard, open_paths, refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers 401, 403, 429 or 503."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            caller = await self._admit(scope)
        except ServiceError as error:
            self._refuse(error, scope)
            await problem_answer(error, scope["path"])(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)

    def _refuse(self, error: ServiceError, scope: Scope) -> None:
        self._refused(error.slug, scope)
        if not isinstance(error, RateExceeded):  # whoever floods the door shall not flood the log
            status, address = int(error.status), address_of(scope.get("client"))
            log.info("refused at the door", type=error.type, status=status, path=scope["path"][:200], address=address)

    async def _admit(self, scope: Scope) -> Caller:
        if scope["path"] in self._open_paths:
            return ANYBODY
        return await self._guard().admit(Headers(scope=scope), scope.get("client"))
