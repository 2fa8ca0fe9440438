"""What the OpenAPI document says of the history, reviews and parts."""

from __future__ import annotations

from typing import Any

from service.api.openapi.examples import DONE, ID, NO_INSPECTION, QUEUE_AWAY, UNFIT
from service.api.openapi.responses import Responses, inspection, problems
from service.errors import InvalidFields, NotReviewable, UnknownPart

HISTORY_RESPONSES: Responses = {
    200: {
        "description": "One page",
        "content": {
            "application/json": {
                "example": {"inspections": [DONE, UNFIT], "next": "aDE6MTgwNjU1MjU4NjAwMDAwMA", "more": False}
            }
        },
    },
    **problems(
        "/v1/inspections",
        InvalidFields("after: is no cursor of this call: send `next` of an earlier page as it came, or leave it out"),
        QUEUE_AWAY,
    ),
}
REVIEW: dict[str, Any] = {
    "decision": "ok",
    "note": "scratch is on the fixture",
    "by": "a.meier",
    "key": "console",
    "at": "2026-11-23T08:17:02.005Z",
}
REVIEW_RESPONSES: Responses = {
    200: inspection("The inspection, with all its reviews", DONE | {"reviews": [REVIEW]}, {}),
    **problems(
        f"/v1/inspections/{ID}/review",
        NO_INSPECTION,
        NotReviewable(f"inspection {ID} is running: it can be reviewed when it has ended"),
        InvalidFields("decision: Input should be 'ok' or 'defect'"),
        QUEUE_AWAY,
    ),
}
PART_RESPONSES: Responses = {
    200: {
        "description": "The part, as all its images show it",
        "content": {
            "application/json": {
                "example": {
                    "serial": "SN-000123",
                    "verdict": "review",
                    "finished": True,
                    "views": [
                        {
                            "product": "bracket",
                            "view": "bottom",
                            "state": None,
                            "verdict": "review",
                            "reason": "missing",
                            "inspection_id": None,
                        },
                        {
                            "product": "bracket",
                            "view": "top",
                            "state": "done",
                            "verdict": "pass",
                            "reason": "score",
                            "inspection_id": ID,
                        },
                    ],
                }
            }
        },
    },
    **problems(
        "/v1/parts/SN-000124",
        UnknownPart("no image with serial 'SN-000124' is kept: check the serial, or the time since its inspection"),
        InvalidFields("serial: String should have at most 128 characters"),
        QUEUE_AWAY,
    ),
}
