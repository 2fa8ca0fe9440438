"""What the OpenAPI document says of probes and metrics."""

from __future__ import annotations

from typing import Any

from service.api.openapi.responses import RETRY_AFTER, Responses, shown

_CHECKS: dict[str, Any] = {
    "redis": {"ok": True, "required": True, "detail": "answers"},
    "durability": {"ok": True, "required": False, "detail": "keeps what it is given"},
    "artifacts": {"ok": True, "required": True, "detail": "can be written"},
    "products": {"ok": True, "required": True, "detail": "1 with a usable bundle"},
    "worker": {"ok": True, "required": False, "detail": "2 seen in the last 30 s"},
}
_AWAY = {"ok": False, "required": True, "detail": "Redis does not answer, or refuses; the service's log says more"}

LIVE_RESPONSES: Responses = {200: shown({"status": "alive"})}
READY_RESPONSES: Responses = {
    200: shown({"status": "ready", "checks": _CHECKS}),
    503: shown({"status": "unavailable", "checks": _CHECKS | {"redis": _AWAY}}, schema="Readiness")
    | {"description": "An image posted now would be refused", "headers": RETRY_AFTER},
}
METRICS_RESPONSES: Responses = {200: {"description": "Prometheus text format", "content": {"text/plain": {}}}}
