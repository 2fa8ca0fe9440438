"""The addresses of the API as clients really call them: which route answers, HEAD for GET, and a slash too many."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.convertors import Convertor
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.contract import CALLS_OF_STATIONS

ENDLESS = frozenset({"/v1/events"})
"""Answers without an end, of which HEAD would learn nothing."""


def find_route(routes: Sequence[BaseRoute], scope: Scope) -> Route | None:
    """Return the route that will answer a request; None if its address does not exist, or not with its method."""
    for route in routes:
        if isinstance(route, Route) and route.matches(scope)[0] is Match.FULL:
            return route
    return None


def without_slash(routes: Sequence[BaseRoute], scope: Scope) -> str | None:
    """Return the path and query of a request without the slash at its end, if there is a route for that alone."""
    path = str(scope["path"]).rstrip("/")
    if path == scope["path"] or not path or find_route(routes, {**scope, "path": path}) is None:
        return None
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    query = f"?{bytes(scope['query_string']).decode('latin-1')}" if scope["query_string"] else ""
    return "/" + raw.decode("latin-1").strip("/") + query  # one slash: //host would be another server


class StationConvertor(Convertor[str]):
    """The name of a station in a route, which may have slashes: `line/3`, sent as `line%2F3` or as it is.

    Servers decode %2F before routing, so that the slashes of a name and of an address look alike. A part of a name that
    follows a slash is therefore never one of `CALLS_OF_STATIONS`, and none is empty: see `check_station`.
    """

    regex = f"[^/]+(?:/(?!(?:{'|'.join(sorted(CALLS_OF_STATIONS))})(?:/|$))[^/]+)*"

    def convert(self, value: str) -> str:
        """Return the name as it stands in the path."""
        return value

    def to_string(self, value: str) -> str:
        """Return the name as it stands in a path."""
        return value


class _HeadSent(Exception):
    """Ends the application: nobody wants the rest of its answer."""


class HeadMiddleware:
    """ASGI middleware: answers HEAD as GET, without the body. Load balancers and download managers ask so."""

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        """Wrap `app`; `routes`: all of the application, in its order."""
        self._app, self._routes = app, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, as GET if it is HEAD and an answer to GET has an end."""
        as_get = {**scope, "method": "GET"} if scope["type"] == "http" and scope["method"] == "HEAD" else None
        route = None if as_get is None else find_route(self._routes, as_get)
        if as_get is None or route is None or route.path_format in ENDLESS:
            await self._app(scope, receive, send)
            return
        scope["route"] = route  # for middleware outside, which sees this scope

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                return
            await send({"type": "http.response.body"})
            raise _HeadSent

        try:
            await self._app(as_get, receive, send_head)
        except _HeadSent:
            return
