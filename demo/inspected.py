"""A sample image, its true defect, and the service's answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

GOOD = "good"


class DemoVerdict(StrEnum):
    """The service's answer, in the order of the confusion table's columns."""

    PASS = "pass"
    REVIEW = "review"
    FAIL = "fail"


@dataclass(frozen=True)
class SampleImage:
    """An image of the rendered set: test/good/0000.png, or test/scratch/s2_0000.png with its mask in ground_truth/."""

    root: Path
    name: str

    @property
    def path(self) -> Path:
        """The image file."""
        return self.root / self.name

    @property
    def defect(self) -> str:
        """The kind of defect: "good", "scratch", "missing_screw" ..."""
        return Path(self.name).parent.name

    @property
    def severity(self) -> int | None:
        """1 to 3 for a defect; None for a good part."""
        stem = Path(self.name).stem
        return int(stem[1]) if not self.is_good and stem[:1] == "s" and stem[1:2].isdigit() else None

    @property
    def is_good(self) -> bool:
        """Whether the part has no defect."""
        return self.defect == GOOD

    @property
    def truth(self) -> str:
        """The true state as text: "good", "scratch 2"."""
        words = self.defect.replace("_", " ")
        return words if self.severity is None else f"{words} {self.severity}"

    @property
    def mask(self) -> Path | None:
        """The defect's true mask, where there is one."""
        path = self.root / "ground_truth" / self.defect / f"{Path(self.name).stem}_mask.png"
        return path if path.exists() else None


@dataclass(frozen=True)
class InspectedSample:
    """A sample with its finished inspection."""

    sample: SampleImage
    id: str
    verdict: DemoVerdict
    score: float
    calibrated_score: float
    review: float
    fail: float
    denoising_step: int | None
    latency_ms: float
    """From the camera's POST to the verdict, the wait in the queue included."""
    artifacts: dict[str, str]
    """artifact name -> path on the service"""

    @classmethod
    def from_shot(cls, sample: SampleImage, shot: dict[str, Any]) -> Self | None:
        """Return an inspection from what `glad camera` wrote of it; None if it has no verdict, or no score to show."""
        answer = shot.get("inspection")
        if answer is None or answer["verdict"] is None or answer["score"] is None:
            return None
        step = answer["denoising_step"]
        return cls(
            sample=sample,
            id=answer["id"],
            verdict=DemoVerdict(answer["verdict"]),
            score=float(answer["score"]),
            calibrated_score=float(answer["calibrated_score"]),
            review=float(answer["thresholds"]["review"]),
            fail=float(answer["thresholds"]["fail"]),
            denoising_step=None if step is None else int(step),
            latency_ms=float(answer["timings_ms"]["total"]) + float(shot["accept_ms"]),
            artifacts=dict(answer["artifacts"]),
        )

    @property
    def step(self) -> str:
        """The denoising step as text."""
        if self.denoising_step is None:
            return "-"
        return str(self.denoising_step) if self.denoising_step else "none: clear at once"

    @property
    def is_wrong(self) -> bool:
        """Whether a defect passed or a good part failed; `review` is never wrong."""
        return self.verdict is (DemoVerdict.FAIL if self.sample.is_good else DemoVerdict.PASS)


def samples(root: Path) -> list[SampleImage]:
    """Return the test images of a rendered set: good parts first, then defect by defect."""
    names = (path.relative_to(root).as_posix() for path in root.glob("test/*/*.png"))
    found = [SampleImage(root, name) for name in names]
    return sorted(found, key=lambda sample: (not sample.is_good, sample.name))


def confusion(results: Iterable[InspectedSample]) -> dict[str, dict[DemoVerdict, int]]:
    """Return how many of the good parts and of the defects got each verdict."""
    table = {truth: dict.fromkeys(DemoVerdict, 0) for truth in (GOOD, "defect")}
    for result in results:
        table[GOOD if result.sample.is_good else "defect"][result.verdict] += 1
    return table


def as_table(results: Sequence[InspectedSample]) -> str:
    """Return the results as aligned text."""
    header = ("file", "truth", "verdict", "score", "time")
    rows = [
        (
            result.sample.name,
            result.sample.truth,
            result.verdict + (" !" if result.is_wrong else ""),
            f"{result.score:.4f}",
            f"{result.latency_ms / 1000:.2f} s",
        )
        for result in results
    ]
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    right = {3, 4}
    return "\n".join(
        "  ".join(f"{cell:>{width}}" if i in right else f"{cell:<{width}}" for i, (cell, width) in enumerate(pairs))
        for pairs in ([*zip(row, widths, strict=True)] for row in [header, *rows])
    )
