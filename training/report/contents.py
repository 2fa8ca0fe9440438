"""What a report of a training says: the typed form of report.json, from which the page is drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, Protocol

from pydantic import AwareDatetime, Field

from glad.quality_gate.limits import QualityGate
from glad.settings import Frozen
from glad.settings.method import MethodSettings
from model_store.engines.export_manifest import Proof
from model_store.manifest import Calibration, Provenance

REPORT_JSON = "report.json"
REPORT_HTML = "report.html"
FEW_STEPS = 20
"""A curve of fewer points says nothing of its course."""


class DescribedBundle(Protocol):
    """What a report takes from a bundle: its manifest, or what is to become one."""

    @property
    def product(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def settings(self) -> MethodSettings: ...

    @property
    def calibration(self) -> Calibration | None: ...

    @property
    def gate(self) -> QualityGate | None: ...

    @property
    def provenance(self) -> Provenance: ...

    @property
    def quality(self) -> Mapping[str, Any]: ...


class StageTime(Frozen):
    """How long a stage of the training took."""

    name: str
    begun: str = ""
    seconds: float = Field(ge=0)
    peak_memory_bytes: int = Field(0, description="of the GPU where there is one, else of the process; 0: not measured")
    resumed: int = Field(0, description="how often it went on after a stop")
    finished: bool = True


class LossCurve(Frozen):
    """The course of a training loop, thinned: each point is the mean of some steps."""

    stage: str
    steps: tuple[int, ...]
    loss: tuple[float, ...]
    images_per_s: float | None = Field(None, description="the median over all steps")


class GoodImageShown(Frozen):
    """A good image with one of the highest scores."""

    image: str = Field(description="folder and file")
    score: float
    picture: str | None = Field(None, description="file of input, reconstruction, heatmap, overlay")
    of_training: bool = Field(False, description="learnt from, and held against the others alone")


class AnomalyShown(Frozen):
    """A good image with a synthetic anomaly, as the finished models see it."""

    image: str
    score: float
    picture: str


class Pictures(Frozen):
    """The pictures of a report, by their files' names."""

    good: tuple[GoodImageShown, ...] = ()
    anomalies: tuple[AnomalyShown, ...] = ()
    course: str | None = Field(None, description="reconstructions at several steps of the UNet's training")
    sheet: str | None = Field(None, description="the anomalies that were trained with, a row for each kind")
    sensitivity: str | None = Field(None, description="what share of synthetic anomalies is found, by size")

    @property
    def files(self) -> tuple[str, ...]:
        """Return the names of all files."""
        shown = (
            *(one.picture for one in self.good),
            *(one.picture for one in self.anomalies),
            self.course,
            self.sheet,
            self.sensitivity,
        )
        return tuple(file for file in shown if file is not None)


class ExportShown(Frozen):
    """An export of the bundle, as it was compared with the bundle's own weights."""

    engine: str
    proofs: tuple[Proof, ...]


class TrainingReport(Frozen):
    """The whole of report.json."""

    format: Literal[1] = 1
    product: str
    version: str
    title: str = ""
    folder: str = Field("", description="of the bundle, when it was written")
    bundle_hash: str | None = Field(None, description="None in the bundle's own copy, of which the hash depends")
    finished: bool = Field(True, description="false: the training goes on, or was stopped")
    made_at: AwareDatetime
    machine: str
    command: str
    recipe: dict[str, Any]
    seed: int
    software: dict[str, str]
    data: dict[str, Any] = Field(description="folder, number of images, how they were split, digest of their bytes")
    resolution: int = Field(description="side of the square that the models see, in pixels")
    framing: str
    calibration: Calibration | None = None
    quality: dict[str, Any] = Field(default_factory=dict, description="as in the bundle's manifest")
    warnings: tuple[str, ...] = ()
    stages: tuple[StageTime, ...] = ()
    curves: tuple[LossCurve, ...] = ()
    pictures: Pictures = Pictures()
    exports: tuple[ExportShown, ...] = ()

    @property
    def seconds(self) -> float:
        """Return the time of all stages together."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def promise(self) -> str:
        """Return what the thresholds promise, in words; "" without any."""
        return str(self.quality.get("calibration", {}).get("promise", ""))


def read_report(folder: Path) -> TrainingReport | None:
    """Return the report that lies in a folder; None: there is none.

    Raises:
        ValueError: if it is not one of this format.
    """
    file = folder / REPORT_JSON
    return TrainingReport.model_validate_json(file.read_bytes()) if file.is_file() else None


def report_warnings(report: TrainingReport, of_data: Sequence[str]) -> tuple[str, ...]:
    """Return the warnings of calibration, quality gate, data and curves, a sentence or two each.

    Args:
        report: of the training.
        of_data: what is probably not meant about the folder of images.
    """
    learned = (report.quality.get(part, {}).get("warning") for part in ("calibration", "gate"))
    return (*(str(one) for one in learned if one), *of_data, *_of_curves(report.curves))


def _of_curves(curves: Sequence[LossCurve]) -> Iterator[str]:
    for curve in curves:
        if len(curve.loss) >= FEW_STEPS and not _falls(curve):
            yield (
                f"the loss of stage {curve.stage} did not fall: it has learnt little. Look at its curve; a lower "
                "learning_rate or more steps may help"
            )


def _falls(curve: LossCurve) -> bool:
    """Return whether the last tenth of a curve lies below the first."""
    part = max(1, len(curve.loss) // 10)
    return fmean(curve.loss[-part:]) < fmean(curve.loss[:part])
