"""What browsers are told: which other sites may call, and that nothing is loaded, framed, guessed or kept."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.oip.wire import HEADER_LENGTH
from service.api.problems import SECURITY_HEADERS


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
            HEADER_LENGTH,
        ],
        expose_headers=["ETag", "Location", "Retry-After", "Preference-Applied", HEADER_LENGTH],
    )
