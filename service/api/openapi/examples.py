"""Examples of successful bodies in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from service.contract import Result

ID = "019abc12-3456-7def-8123-456789abcdef"
OLD_ID = "019abc12-0000-7def-8123-456789abcdef"

THRESHOLDS: dict[str, Any] = {"review": 0.31, "fail": 0.36, "pixel": 0.42}

QUEUED: dict[str, Any] = Result.model_validate(
    {
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
        "thresholds": THRESHOLDS,
        "artifacts": {"image": f"/v1/inspections/{ID}/image"},
        "image_sha256": "9c" * 32,
        "width": 512,
        "height": 512,
        "accepted_at": "2026-11-23T08:15:30.412Z",
    }
).model_dump(mode="json")
DONE: dict[str, Any] = QUEUED | {
    "state": "done",
    "quality": {"passed": True, "reasons": [], "measures": {"darkest": 96.2, "sharpness": 0.21}},
    "score": 0.54,
    "calibrated_score": 0.6,
    "verdict": "fail",
    "regions": [{"box": [211, 87, 34, 29], "area_px": 702, "peak": 0.91}],
    "hottest": {"x": 229, "y": 101, "peak": 0.91},
    "denoising_step": 421,
    "unet_evaluations": 25,
    "near_tie": False,
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
    "hottest": None,
    "denoising_step": None,
    "unet_evaluations": 0,
    "seed": None,
    "timings_ms": {"queue": 12.0, "decode": 21.4, "encode": 0.0, "denoise": 0.0, "score": 0.0, "total": 34.1},
    "artifacts": {"image": f"/v1/inspections/{ID}/image"},
}
"""An inspection that the quality gate ended."""
REVIEW: dict[str, Any] = {
    "decision": "ok",
    "note": "scratch is on the fixture",
    "by": "a.meier",
    "key": "console",
    "at": "2026-11-23T08:17:02.005Z",
}
WITHDRAWN_REVIEW: dict[str, Any] = REVIEW | {
    "withdrawn_at": "2026-11-23T08:17:09.441Z",
    "withdrawn_by": "a.meier",
}
CLAIM = f"{ID}.5f0c2a9b1e77d3a1"
BLIND: dict[str, Any] = {
    name: DONE[name]
    for name in ("serial", "lot", "view", "station", "id", "state", "product", "image_sha256", "width", "height")
} | {
    "captured_at": None,
    "metadata": None,
    "artifacts": {"image": f"/v1/inspections/{ID}/image"},
    "accepted_at": DONE["accepted_at"],
}
"""An inspection as a person sees it who judges blind."""
REVIEW_TASK: dict[str, Any] = {
    "claim": CLAIM,
    "until": "2026-11-23T08:19:02.005Z",
    "task": "audit",
    "blind": True,
    "inspection": BLIND,
}
CLAIM_RENEWAL: dict[str, Any] = {"claim": CLAIM, "until": "2026-11-23T08:20:41.310Z"}
REVIEW_SUMMARY: dict[str, Any] = {
    "waiting": {"fail": 3, "no_result": 1, "review": 12, "audit": 40, "double_read": 2, "disputed": 0},
    "reviewed": 310,
    "withdrawn": 4,
    "agreement": {
        "pass": {"ok": 118, "defect": 2},
        "review": {"ok": 95, "defect": 15},
        "fail": {"ok": 9, "defect": 71},
    },
    "double_read": {"pairs": 30, "agreed": 28, "kappa": 0.84},
}
REVIEW_PLAN: dict[str, Any] = {
    "product": "bracket",
    "revision": 2,
    "by": "q.engineer",
    "at": "2026-11-23T06:00:00.000Z",
    "audit_share": 0.02,
    "double_read_share": 0.1,
    "defect_codes": [{"code": "scratch", "title": "Scratch", "key": "s"}],
    "earlier": [],
}
DISPOSITION: dict[str, Any] = {
    "disposition": "rework",
    "note": "polished by hand",
    "by": "a.meier",
    "key": "console",
    "at": "2026-11-23T08:20:11.612Z",
}
PART: dict[str, Any] = {
    "serial": "SN-000123",
    "verdict": "review",
    "review_reasons": ["missing"],
    "finished": True,
    "views": [
        {
            "product": "bracket",
            "view": "bottom",
            "state": None,
            "verdict": "review",
            "reason": "missing",
            "review_reasons": ["missing"],
            "inspection_id": None,
            "hold": None,
        },
        {
            "product": "bracket",
            "view": "top",
            "state": "done",
            "verdict": "pass",
            "reason": "score",
            "review_reasons": [],
            "inspection_id": ID,
            "hold": None,
        },
    ],
}
_COUNTS: dict[str, int] = {"parts": 412, "pass": 400, "review": 4, "fail": 8}
STATISTICS: dict[str, Any] = _COUNTS | {
    "no_result": 1,
    "since": "2026-11-23T05:00:00.000Z",
    "until": "2026-11-23T06:00:00.000Z",
    "images": 824,
    "unfinished": 1,
    "overtime": 0,
    "yield": 0.970873786407767,
    "by_station": [_COUNTS | {"name": "line-3", "no_result": 1}],
    "by_product": [_COUNTS | {"name": "bracket", "no_result": 1}],
    "by_defect_code": [{"code": "scratch", "parts": 5}, {"code": None, "parts": 3}],
    "by_hour": [{"at": "2026-11-23T05:00:00.000Z"} | _COUNTS],
    "dispositions": {"scrap": 3, "rework": 4, "use_as_is": 1},
}
SHIFTS: dict[str, Any] = {
    "time_zone": "Europe/Berlin",
    "shifts": [
        {"name": "06:00-14:00", "since": "2026-11-23T05:00:00.000Z", "until": "2026-11-23T13:00:00.000Z"},
        {"name": "22:00-06:00", "since": "2026-11-22T21:00:00.000Z", "until": "2026-11-23T05:00:00.000Z"},
    ],
}
EVENT: dict[str, Any] = {
    "type": "inspection.done",
    "inspection_id": ID,
    "product": "bracket",
    "serial": "SN-000123",
    "station": "line-3",
    "verdict": "fail",
    "score": 0.54,
    "calibrated_score": 0.6,
    "thresholds": THRESHOLDS,
    "denoising_step": 421,
    "accepted_at": "2026-11-23T08:15:30.412Z",
    "at": "2026-11-23T08:15:31.432Z",
}
GATE: dict[str, Any] = {
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
GATE_DISTRIBUTION: dict[str, Any] = {
    "product": "bracket",
    "version": "2",
    "on": True,
    "limits": GATE["limits"] | {"darkest": 60.0},
    "learned": GATE["limits"],
    "compared": 1000,
    "oldest": "2026-11-23T06:02:11.871Z",
    "measures": [
        {
            "name": "brightness",
            "low": 41.2,
            "high": 156.8,
            "bins": [{"from": 41.2, "to": 99.0, "passed": 11, "stopped": 2}],
        }
    ],
}
GATE_LIMITS_CHANGE: dict[str, Any] = {
    "product": "bracket",
    "version": "2",
    "revision": 5,
    "applied": False,
    "learned": GATE["limits"],
    "before": GATE["limits"],
    "after": GATE["limits"] | {"darkest": 60.0},
    "effect": {
        "compared": 1000,
        "changed": 2,
        "newly_stopped": 0,
        "newly_inspected": 2,
        "per_day": 16.0,
        "per_shift": 5.3,
        "oldest": "2026-11-23T06:02:11.871Z",
        "examples": [ID],
    },
}
SCORES: dict[str, Any] = {
    "product": "bracket",
    "version": "2",
    "thresholds": THRESHOLDS,
    "calibrated": THRESHOLDS,
    "compared": 5000,
    "oldest": "2026-11-23T06:02:11.871Z",
    "low": 0.11,
    "high": 1.36,
    "bins": [
        {"from": 0.11, "to": 0.13, "pass": 212, "review": 0, "fail": 0, "ok": 3, "defect": 0, "calibration": 19},
        {"from": 1.36, "to": 4.02, "pass": 0, "review": 0, "fail": 14, "ok": 0, "defect": 9, "calibration": 0},
    ],
}
_FIGURES = {"image_auroc": 0.97, "pixel_auroc": 0.99, "pro": 0.9, "found": 0.81, "false_rejects": 0.012}
PRODUCT_CHANGES: dict[str, Any] = {
    "product": "bracket",
    "revision": 4,
    "changes": [
        {
            "revision": None,
            "kind": "evaluation",
            "version": "2",
            "before": dict.fromkeys(("evaluation", "data", *_FIGURES)),
            "after": {"evaluation": "3f9a0c52d1e84b77", "data": "plant set, week 48", **_FIGURES},
            "by": "a.meier",
            "at": "2026-11-23T09:02:11.480Z",
            "note": "",
            "evaluation": None,
        },
        {
            "revision": 4,
            "kind": "thresholds",
            "version": "2",
            "before": {"review": None, "fail": None, "pixel": None},
            "after": {"review": None, "fail": 0.4, "pixel": None},
            "by": "a.meier",
            "at": "2026-11-23T08:15:30.120Z",
            "note": "too many false alarms",
            "evaluation": None,
        },
    ],
}
BUNDLE: dict[str, Any] = {
    "version": "2",
    "hash": "5f" * 32,
    "title": "Bracket, milled, seen from above",
    "created_at": "2026-11-20T17:02:11.000Z",
    "resolution": 256,
    "thresholds": THRESHOLDS,
    "calibrated": THRESHOLDS,
    "report": "/v1/products/bracket/versions/2/report",
    "quality": {},
    "evaluations": [],
}
PRODUCT: dict[str, Any] = {
    "product": "bracket",
    "revision": 3,
    "active": BUNDLE,
    "versions": [BUNDLE],
    "gate": GATE,
    "pictures": "on_demand",
}
ACTIVATION: dict[str, Any] = {
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
THRESHOLD_CHANGE: dict[str, Any] = {
    "product": "bracket",
    "version": "2",
    "revision": 4,
    "applied": False,
    "calibrated": THRESHOLDS,
    "before": THRESHOLDS,
    "after": THRESHOLDS | {"fail": 0.4},
    "effect": {
        "compared": 1000,
        "changed": 3,
        "changes": [{"before": "fail", "after": "review", "count": 3}],
        "per_day": 24.0,
        "per_shift": 8.0,
        "oldest": "2026-11-23T06:02:11.871Z",
        "examples": [ID],
    },
}
STATION_SETTINGS: dict[str, Any] = {
    "product": "bracket",
    "lot": "L-42",
    "view": None,
    "priority": "normal",
    "deadline_ms": None,
    "expected_views": ["top", "bottom"],
    "hold": None,
    "takt_ms": 800,
}
STATION: dict[str, Any] = STATION_SETTINGS | {
    "station": "line-3",
    "changed_at": "2026-11-23T06:00:00.000Z",
    "changed_by": "mes",
    "held_at": None,
    "held_by": None,
    "check_hold": None,
}
STATION_CHANGES: dict[str, Any] = {
    "changes": [{"at": STATION["changed_at"], "by": "mes", "settings": STATION_SETTINGS}]
}
LIMIT_SAMPLES: dict[str, Any] = {
    "station": "line-3",
    "samples": [{"serial": "LIMIT-BAD-1", "expected": "bad", "note": "scratch of 0.4 mm, top left"}],
    "changed_at": "2026-11-20T17:02:11.000Z",
    "changed_by": "a.meier",
    "check": {
        "started_at": "2026-11-23T06:00:00.000Z",
        "by": "b.huber",
        "state": "passed",
        "samples": [
            {
                "serial": "LIMIT-BAD-1",
                "expected": "bad",
                "verdict": "fail",
                "inspection_id": ID,
                "ok": True,
                "views": [None],
            }
        ],
        "expected_views": [],
        "ended_at": "2026-11-23T06:00:21.480Z",
    },
    "earlier": [],
}
SESSION: dict[str, Any] = {
    "needs_key": True,
    "signed_in": True,
    "person": "A. Meier",
    "key": "console",
    "scopes": ["read", "review"],
    "expires_at": "2026-11-23T20:15:30.120Z",
    "csrf": "9c" * 32,
}
CHECKS: dict[str, Any] = {
    "redis": {"ok": True, "required": True, "detail": "answers"},
    "durability": {"ok": True, "required": False, "detail": "keeps what it is given"},
    "clock": {"ok": True, "required": False, "detail": "agrees with that of Redis"},
    "artifacts": {"ok": True, "required": True, "detail": "can be written"},
    "products": {"ok": True, "required": True, "detail": "1 with a usable bundle"},
    "worker": {"ok": True, "required": False, "detail": "2 seen in the last 30 s"},
}
REDIS_AWAY: dict[str, Any] = {
    "ok": False,
    "required": True,
    "detail": "Redis does not answer, or refuses; the service's log says more",
}
