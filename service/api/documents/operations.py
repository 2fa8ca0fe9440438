"""What the OpenAPI document says of probes and metrics."""

from __future__ import annotations

from service.api.documents.responses import RETRY_AFTER, Responses

READY_RESPONSES: Responses = {503: {"description": "An image posted now would be refused", "headers": RETRY_AFTER}}
METRICS_RESPONSES: Responses = {200: {"description": "Prometheus text format", "content": {"text/plain": {}}}}
