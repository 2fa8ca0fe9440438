"""What an evaluation found, made up: better than the yardstick in one figure, and not shown to be in another."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from model_store.evaluations import EvaluatedData, MeasuredQuality, Measurement

FIGURES = {
    "image_auroc": {"value": 0.97, "low": 0.95, "high": 0.985},
    "pixel_auroc": {"value": 0.99, "low": 0.98, "high": 0.995},
    "pro": {"value": 0.9, "low": 0.87, "high": 0.92},
    "found": {"value": 0.81, "low": 0.7, "high": 0.9},
    "false_rejects": {"value": 0.012, "low": 0.004, "high": 0.03},
}
YARDSTICK = {
    "image_auroc": {"value": 0.9, "low": 0.85, "high": 0.94},
    "pro": {"value": 0.93, "low": 0.91, "high": 0.95},
    "found": {"value": 0.75, "low": 0.65, "high": 0.85},
    "false_rejects": {"value": 0.03, "low": 0.01, "high": 0.06},
}
DIFFERENCES = {
    "image_auroc": {"value": 0.07, "low": 0.03, "high": 0.1},
    "pro": {"value": -0.03, "low": -0.05, "high": -0.01},
    "found": {"value": 0.06, "low": -0.02, "high": 0.14},
    "false_rejects": {"value": -0.018, "low": -0.03, "high": -0.004},
}


def measured_quality(
    bundle_hash: str, *, data: str = "plant", at: datetime = datetime(2026, 5, 1, 9, tzinfo=UTC), **changes: Any
) -> MeasuredQuality:
    """An evaluation of a bundle on a data set of this name: 40 good and 20 defective images."""
    fingerprint = hashlib.sha256(data.encode()).hexdigest()
    content: dict[str, Any] = {
        "bundle": bundle_hash,
        "data": EvaluatedData(name=data, fingerprint=fingerprint, good=40, defect=20),
        "figures": FIGURES,
        "yardstick": YARDSTICK,
        "minus_yardstick": DIFFERENCES,
        "measured": Measurement(at=at, machine="x86_64, Linux", glad="1.0", command="glad evaluate toy --data plant"),
    }
    return MeasuredQuality.model_validate({**content, **changes})
