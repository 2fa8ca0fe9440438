"""What the yardstick said of the demo's images: recorded, since it learns for minutes, from images not shown here."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.inspected import GOOD, DemoVerdict, SampleImage

RECORD = Path(__file__).resolve().parent.parent / "bench" / "results" / "2026-11-29-yardstick-demo.json"
"""What `glad bench yardstick` wrote. Its data had the sample product's training images, and as test images these."""
RECORDED_IMAGES = {"seed": 2024, "renderer_version": 1}
"""`sample.json` of the images that it was recorded on; of others nothing is known."""


@dataclass(frozen=True)
class Yardstick:
    """The verdicts of a memory of pretrained features without diffusion, at thresholds of its own."""

    verdicts: dict[str, DemoVerdict]
    """By the image's name."""
    command: str
    day: str

    def confusion(self, samples: Iterable[SampleImage]) -> dict[str, dict[DemoVerdict, int]]:
        """Return how many of the good parts and of the defects got each verdict."""
        table = {truth: dict.fromkeys(DemoVerdict, 0) for truth in (GOOD, "defect")}
        for sample in samples:
            table[GOOD if sample.is_good else "defect"][self.verdicts[sample.name]] += 1
        return table


def recorded_yardstick(images: Path, samples: Iterable[SampleImage], record: Path = RECORD) -> Yardstick | None:
    """Return what was recorded of these images; None if they are others, or there is no record.

    Args:
        images: the folder of the rendered set.
        samples: of the set, each of which must have been recorded.
        record: a file of `glad bench yardstick --json`.
    """
    try:
        if json.loads((images / "sample.json").read_text(encoding="utf-8")) != RECORDED_IMAGES:
            return None
        written: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
    except OSError:
        return None
    memory = next(method for method in written["figures"]["methods"] if method["name"] == "patch memory")
    limits = memory["thresholds"]
    verdicts = {name: _verdict(score, limits["review"], limits["fail"]) for name, score in memory["scores"].items()}
    if any(sample.name not in verdicts for sample in samples):
        return None
    return Yardstick(verdicts, written["command"], written["at"][:10])


def _verdict(score: float, review: float, fail: float) -> DemoVerdict:
    """Return the verdict of a score, by the rule of the service."""
    if score >= fail:
        return DemoVerdict.FAIL
    return DemoVerdict.REVIEW if score >= review else DemoVerdict.PASS
