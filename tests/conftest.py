"""What holds for all tests."""

from __future__ import annotations

import httpx

_CALLS = (httpx.delete, httpx.get, httpx.head, httpx.patch, httpx.post, httpx.put, httpx.request, httpx.stream)
for _call in (*_CALLS, httpx.Client.__init__, httpx.AsyncClient.__init__):
    # httpx's own five seconds are fewer than a busy machine may need. This only bounds a failing test.
    _call.__kwdefaults__ = {**(_call.__kwdefaults__ or {}), "timeout": httpx.Timeout(60)}
