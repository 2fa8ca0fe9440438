"""The page at /docs: the OpenAPI document, to read and to try.

Its script and style come from a public CDN, so a browser without internet shows it empty; /openapi.json needs nothing.
"""

from __future__ import annotations

import base64
import hashlib
import re

from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def docs() -> HTMLResponse:
    """Swagger UI, under a policy that lets only this page's own script run."""
    page = get_swagger_ui_html(openapi_url="/openapi.json", title="GLAD inspection service")
    page.headers["Content-Security-Policy"] = policy_of(bytes(page.body).decode())
    return page


def policy_of(page: str) -> str:
    """The page's own inline scripts by their hashes, and the files that it names."""
    inline = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in inline
    )
    return (
        f"default-src 'none'; script-src https://cdn.jsdelivr.net {hashes}; connect-src 'self'; "
        "style-src https://cdn.jsdelivr.net 'unsafe-inline'; img-src 'self' data: https://fastapi.tiangolo.com; "
        "frame-ancestors 'none'"
    )
