"""The OpenAPI document at /openapi.json, and the page at /docs, which shows it and makes calls.

Script, style and icon come from the package fastapi-offline, which holds Swagger UI: the page works without internet.
"""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse, JSONResponse, Response

from service.api.threads import RememberedOutcome, run_in_own_thread

SCRIPT, STYLE, ICON = "swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"
MEDIA_TYPES = {SCRIPT: "text/javascript", STYLE: "text/css", ICON: "image/png"}
FILES = frozenset(f"/docs/{name}" for name in MEDIA_TYPES)
"""The paths that the page loads."""

router = APIRouter(include_in_schema=False)


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    """Return the OpenAPI document.

    Building it takes half a second: that is done once, in a thread, so that other calls are answered meanwhile.
    """
    app = request.app
    made: RememberedOutcome[bytes] = app.state.document
    content = await made.get(lambda: run_in_own_thread(lambda: bytes(JSONResponse(app.openapi()).body), "openapi"))
    return Response(content, media_type=JSONResponse.media_type)


@router.get("/docs")
async def docs() -> HTMLResponse:
    """Return Swagger UI, with a Content-Security-Policy that runs only the page's own scripts."""
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="GLAD inspection service",
        swagger_js_url=f"/docs/{SCRIPT}",
        swagger_css_url=f"/docs/{STYLE}",
        swagger_favicon_url=f"/docs/{ICON}",
    )
    page.headers["Content-Security-Policy"] = content_security_policy(bytes(page.body).decode())
    return page


@router.get("/docs/{name}")
def page_file(name: Annotated[str, Path()]) -> Response:
    """Return a file that the page loads."""
    if name not in MEDIA_TYPES:
        raise HTTPException(404)
    content = files("fastapi_offline").joinpath("static", name).read_bytes()
    return Response(content, media_type=MEDIA_TYPES[name], headers={"Cache-Control": "private, max-age=3600"})


def content_security_policy(page: str) -> str:
    """Return a policy that allows this service's files, and the inline scripts of this page by their hashes.

    Args:
        page: the HTML of the page.
    """
    inline = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in inline
    )
    return (
        f"default-src 'none'; script-src 'self' {hashes}; connect-src 'self'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; frame-ancestors 'none'"
    )
