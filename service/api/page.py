"""The operators' page at `/`: HTML, scripts, styles and texts out of service/page, under a strict policy.

Every address of the page answers with the same document, whose scripts show what belongs to the address. It needs no
API key: it holds no data. What it shows it reads through the REST interface, with the reader's session.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Annotated

from fastapi import APIRouter, Header, HTTPException, Path
from starlette.responses import Response

ADDRESSES = (
    "/",
    "/line",
    "/line/{station:path}",
    "/review",
    "/history",
    "/inspections/{id}",
    "/products",
    "/products/{product}",
    "/stations/{station:path}/limit-samples",
    "/shift",
    "/sign-in",
)
"""The page's addresses: those of the table of routes in app/main.js."""
PUBLIC_TEMPLATES = frozenset({*(one.replace(":path}", "}") for one in ADDRESSES), "/page/{name}"})
"""The templates of the paths that this module serves, which need no key."""
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_TYPES = {".js": "text/javascript", ".css": "text/css", ".json": "application/json", ".svg": "image/svg+xml"}
"""The kinds of files that are served."""

router = APIRouter(include_in_schema=False)


async def document(if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """Return the page."""
    answer = _answer("index.html", "text/html", if_none_match)
    answer.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    return answer


for address in ADDRESSES:
    router.add_api_route(address, document, methods=["GET"], name=f"page {address}")


@router.get("/page/{name:path}")
async def page_file(name: Annotated[str, Path()], if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """Return a script, a style, the texts of a language or an icon."""
    media_type = _TYPES.get(f".{name.rpartition('.')[2]}")
    if media_type is None or _read(name) is None:
        raise HTTPException(404)
    return _answer(name, media_type, if_none_match)


def _answer(name: str, media_type: str, if_none_match: str | None) -> Response:
    content = _read(name)
    assert content is not None
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache"}  # asked again each time: an upgrade shows at once
    if if_none_match is not None and etag in if_none_match:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=f"{media_type}; charset=utf-8", headers=headers)


def _read(name: str) -> bytes | None:
    """Return a file of service/page; None if there is none of this name."""
    return _content(name) if name in _page_files() else None


@cache
def _page_files() -> dict[str, Traversable]:
    """Return name -> file. Names come from everybody: each is looked up here, and neither opened nor remembered."""
    return dict(_walk("", files("service") / "page"))


def _walk(prefix: str, folder: Traversable) -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(f"{prefix}{entry.name}/", entry)
        else:
            yield f"{prefix}{entry.name}", entry


@cache
def _content(name: str) -> bytes:
    return _page_files()[name].read_bytes()
