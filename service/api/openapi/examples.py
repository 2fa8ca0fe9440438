"""Examples that several calls share."""

from __future__ import annotations

from typing import Any

from service.errors import (
    BacklogFull,
    DeadlineUnreachable,
    ProductUnusable,
    QueueUnavailable,
    StorageUnavailable,
    UnknownInspection,
    UnknownProduct,
    WaitTooLong,
)

ID = "019abc12-3456-7def-8123-456789abcdef"
OLD_ID = "019abc12-0000-7def-8123-456789abcdef"
PATH = "/v1/products/bracket/inspections"

QUEUED: dict[str, Any] = {
    "serial": "SN-000123",
    "lot": "L-42",
    "view": "top",
    "station": "line-3",
    "captured_at": "2026-11-23T08:15:30.120Z",
    "metadata": {"shift": 2},
    "id": ID,
    "state": "queued",
    "product": "bracket",
    "bundle": {"version": "1", "hash": "5f" * 32},
    "priority": "normal",
    "deadline_ms": None,
    "quality": None,
    "score": None,
    "calibrated_score": None,
    "thresholds": {"review": 0.31, "fail": 0.36, "pixel": 0.42},
    "verdict": None,
    "regions": [],
    "denoising_step": None,
    "unet_evaluations": None,
    "seed": None,
    "timings_ms": None,
    "artifacts": {"image": f"/v1/inspections/{ID}/image"},
    "image_sha256": "9c" * 32,
    "width": 512,
    "height": 512,
    "accepted_at": "2026-11-23T08:15:30.412Z",
    "started_at": None,
    "finished_at": None,
    "attempts": 0,
    "replay_of": None,
    "error": None,
    "reviews": [],
}
DONE: dict[str, Any] = QUEUED | {
    "state": "done",
    "quality": {"passed": True, "reasons": []},
    "score": 0.54,
    "calibrated_score": 0.6,
    "verdict": "fail",
    "regions": [{"box": [211, 87, 34, 29], "area_px": 702, "peak": 0.91}],
    "denoising_step": 421,
    "unet_evaluations": 25,
    "seed": 0,
    "timings_ms": {"queue": 12.0, "decode": 9.1, "encode": 31.0, "denoise": 880.5, "score": 64.2, "total": 1020.3},
    "artifacts": {
        name: f"/v1/inspections/{ID}/{name}"
        for name in ("heatmap.png", "overlay.png", "reconstruction.png", "mask.png", "map.npy", "image")
    },
    "started_at": "2026-11-23T08:15:30.424Z",
    "finished_at": "2026-11-23T08:15:31.432Z",
    "attempts": 1,
}

UNFIT: dict[str, Any] = DONE | {
    "quality": {
        "passed": False,
        "reasons": [
            {
                "check": "too_dark",
                "measure": "darkest",
                "value": 41.2,
                "limit": 86.7,
                "detail": "too dark: brightness 41 of 255, at least 87: check lamp, exposure and lens cap",
            }
        ],
    },
    "score": None,
    "calibrated_score": None,
    "verdict": "review",
    "regions": [],
    "denoising_step": None,
    "unet_evaluations": 0,
    "seed": None,
    "timings_ms": {"queue": 12.0, "decode": 21.4, "encode": 0.0, "denoise": 0.0, "score": 0.0, "total": 34.1},
    "artifacts": {"image": f"/v1/inspections/{ID}/image"},
}
"""The quality gate stopped it."""

QUEUE_AWAY = QueueUnavailable("the queue does not answer, or refuses writes: try again later", retry_after_s=2)
STORAGE_AWAY = StorageUnavailable(
    "the image could not be stored; it was not accepted: send it again later", retry_after_s=2
)
FULL = BacklogFull("1000 inspections are queued or running; the limit is 1000: send it again later", retry_after_s=2)
SLOW = WaitTooLong(
    "a new inspection would wait about 4200 s; the limit is 3600 s: send it again later", retry_after_s=600
)
LATE = DeadlineUnreachable(
    "a new inspection would wait about 12.5 s; its deadline_ms is 5000: give it more time, or send it later",
    retry_after_s=8,
)
NO_PRODUCT = UnknownProduct("no product 'brackt'; known: bracket")
UNUSABLE = ProductUnusable(
    "product 'bracket' has no usable bundle; the service's log says why: restore it or activate another version"
)
NO_INSPECTION = UnknownInspection(f"no inspection {ID!r}: it was never accepted here, or is no longer kept")
