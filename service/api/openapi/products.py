"""What the OpenAPI document says of products."""

from __future__ import annotations

from typing import Any

from service.api.openapi.examples import ID, NO_PRODUCT, QUEUE_AWAY, UNUSABLE
from service.api.openapi.responses import ETAG, Responses, problems, shown
from service.errors import (
    InvalidFields,
    PreconditionFailed,
    StateChanged,
    StorageUnavailable,
    UnknownVersion,
    VersionUnusable,
)

_LIMITS: dict[str, Any] = {"review": 0.31, "fail": 0.36, "pixel": 0.42}
_GATE: dict[str, Any] = {
    "on": False,
    "by": "a.meier",
    "at": "2026-11-23T08:15:30.120Z",
    "note": "new lamp; limits to be learned anew",
    "limits": {
        "darkest": 86.7,
        "brightest": 156.8,
        "black_share": 0.05,
        "white_share": 0.05,
        "sharpness": 0.107,
        "likeness": 0.92,
        "good_images": 700,
    },
}
_BUNDLE: dict[str, Any] = {
    "version": "2",
    "hash": "5f" * 32,
    "title": "Bracket, milled, seen from above",
    "created_at": "2026-11-20T17:02:11.000Z",
    "resolution": 256,
    "thresholds": _LIMITS,
    "quality": {},
}
_PRODUCT: dict[str, Any] = {
    "product": "bracket",
    "revision": 3,
    "active": _BUNDLE,
    "versions": [_BUNDLE],
    "gate": _GATE,
}
PRODUCTS_RESPONSES: Responses = {200: shown({"products": [_PRODUCT]})}
PRODUCT_RESPONSES: Responses = {
    200: shown(_PRODUCT) | {"headers": ETAG},
    **problems("/v1/products/brackt", NO_PRODUCT, UNUSABLE),
}
_NO_VERSION = UnknownVersion("product 'bracket' has no version '9': use one of 2, 1")
_CANNOT_WRITE = StorageUnavailable("the product's state could not be written; nothing changed", retry_after_s=2)
_STATE_CHANGED = StateChanged(
    "product bracket: state is at revision 3, changed by ann; yours was made from revision 2: read it again and repeat"
)
_OTHER_REVISION = PreconditionFailed(
    'product bracket is at revision 3, changed by ann; If-Match is "2": read the product again, look at what changed, '
    "and repeat with its ETag"
)
ACTIVE_RESPONSES: Responses = {
    200: {
        "headers": ETAG,
        "content": {
            "application/json": {
                "example": {
                    "product": "bracket",
                    "active": "2",
                    "revision": 1,
                    "history": [
                        {
                            "version": "2",
                            "kind": "activate",
                            "by": "a.meier",
                            "at": "2026-11-23T08:15:30.120Z",
                            "note": "less false alarms",
                        }
                    ],
                }
            }
        },
    },
    **problems(
        "/v1/products/bracket/active",
        NO_PRODUCT,
        UNUSABLE,
        _NO_VERSION,
        VersionUnusable("product bracket: no version was active before 2; activate one by name"),
        _STATE_CHANGED,
        _OTHER_REVISION,
        InvalidFields("request: give either `version`, or `roll_back`: true"),
        _CANNOT_WRITE,
    ),
}
GATE_RESPONSES: Responses = {
    200: {
        "headers": ETAG,
        **shown(_GATE),
    },
    **problems(
        "/v1/products/bracket/gate",
        NO_PRODUCT,
        UNUSABLE,
        VersionUnusable("a version of product 'bracket' is broken; the service's log says how: publish it again"),
        _STATE_CHANGED,
        _OTHER_REVISION,
        InvalidFields("on: Field required"),
        _CANNOT_WRITE,
    ),
}
THRESHOLDS_RESPONSES: Responses = {
    200: {
        "headers": ETAG,
        "content": {
            "application/json": {
                "example": {
                    "product": "bracket",
                    "version": "2",
                    "revision": 4,
                    "applied": False,
                    "calibrated": _LIMITS,
                    "before": _LIMITS,
                    "after": _LIMITS | {"fail": 0.4},
                    "effect": {
                        "compared": 1000,
                        "changed": 3,
                        "changes": [{"before": "fail", "after": "review", "count": 3}],
                        "oldest": "2026-11-23T06:02:11.871Z",
                        "examples": [ID],
                    },
                }
            }
        },
    },
    **problems(
        "/v1/products/bracket/thresholds",
        NO_PRODUCT,
        UNUSABLE,
        _NO_VERSION,
        VersionUnusable("a version of product 'bracket' is broken; the service's log says how: publish it again"),
        _STATE_CHANGED,
        _OTHER_REVISION,
        InvalidFields("review: review threshold 0.5 lies above fail threshold 0.36: lower it"),
        QUEUE_AWAY,
        _CANNOT_WRITE,
    ),
}
