"""What the OpenAPI document says of the event stream."""

from __future__ import annotations

import json
from typing import Any

from service.api.openapi.examples import ID, QUEUE_AWAY
from service.api.openapi.responses import Responses, problems
from service.errors import InvalidFields, TooManyStreams

EVENT: dict[str, Any] = {
    "type": "inspection.done",
    "inspection_id": ID,
    "product": "bracket",
    "serial": "SN-000123",
    "station": "line-3",
    "verdict": "fail",
    "score": 0.54,
    "at": "2026-11-23T08:15:31.432Z",
}
EVENTS_RESPONSES: Responses = {
    200: {
        "description": "Server-sent events, without end",
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"},
                "example": f"id: 1795421731432-0\nevent: inspection.done\ndata: {json.dumps(EVENT)}\n\n",
            }
        },
    },
    **problems(
        "/v1/events",
        InvalidFields("after: is '12x'; an event's id is digits, a hyphen, digits: send the last one that you saw"),
        TooManyStreams("100 clients follow the events; the limit is 100: close one, or raise GLAD_MAX_EVENT_STREAMS"),
        QUEUE_AWAY,
    ),
}
