"""A production line in small: pictures, jobs, and a worker that knows its verdicts beforehand. No torch."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

from PIL import Image

from service.contract import (
    Findings,
    Job,
    PinnedThresholds,
    Region,
    Result,
    Timings,
    done_result,
    new_inspection_id,
    now,
)
from service.queue.claims import ClaimedJob

THRESHOLDS = PinnedThresholds(review=0.5, fail=1.0, pixel=1.0)
AT = datetime(2026, 11, 23, 8, 15, 30, 120_000, tzinfo=UTC)


def picture(width: int = 30, height: int = 20, kind: str = "PNG", colour: str = "teal", **options: Any) -> bytes:
    """An image file."""
    target = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(target, kind, **options)
    return target.getvalue()


def make_job(**fields: Any) -> Job:
    """A job of product "toy"; the image that it points to need not exist."""
    inspection_id = new_inspection_id()
    given: dict[str, Any] = {
        "id": inspection_id,
        "product": "toy",
        "bundle_version": "1",
        "bundle_hash": "ab" * 32,
        "thresholds": THRESHOLDS,
        "image_ref": f"2026-11-23/{inspection_id}/image",
        "image_sha256": "cd" * 32,
        "image_format": "PNG",
        "image_bytes": 90,
        "width": 30,
        "height": 20,
        "accepted_at": now(),
    }
    return Job.model_validate(given | fields)


def findings(score: float = 0.25, **fields: Any) -> Findings:
    """What a worker would have measured."""
    given: dict[str, Any] = {
        "score": score,
        "regions": (Region(box=(1, 2, 3, 4), area_px=9, peak=1.5),),
        "denoising_step": 421,
        "unet_evaluations": 25,
        "seed": 0,
        "timings_ms": Timings(queue=1, decode=2, encode=3, denoise=4, score=5, total=15),
    }
    return Findings.model_validate(given | fields)


def result_of(claimed: ClaimedJob, score: float = 0.25, **fields: Any) -> Result:
    """The result of a claim."""
    return done_result(claimed.job, findings(score, **fields), started_at=claimed.started_at, attempts=claimed.attempt)
