"""What a training has made, and what an evaluation has measured: the results of `train` and `evaluate`. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model_store.manifest import VerdictThresholds


@dataclass(frozen=True)
class UnusualImage:
    """A good image with a high score: if it shows a defect after all, it lets other defects pass."""

    image: str
    """Folder and file."""
    score: float


@dataclass(frozen=True)
class TrainedBundle:
    """A bundle that was trained and calibrated."""

    folder: Path
    product: str
    version: str
    hash: str
    thresholds: VerdictThresholds
    """review, fail and pixel: scores from which an image is for review, and fails; map values of a region."""
    good_images: int
    """So many good images set the thresholds."""
    promise: str
    """What these images promise of false rejects, in a sentence."""
    warning: str | None
    """What is to be put right before the promise holds; None: nothing."""
    unusual: tuple[UnusualImage, ...]
    """The good images with the highest scores, the highest first. Look at them."""
    data_warnings: tuple[str, ...]
    """What is probably not meant about the folder of images, such as images that take no part."""
    export: Path | None
    """The export for ONNX Runtime in the bundle's folder; None: there is none, and PyTorch serves."""
    export_problem: str | None
    """Why an export that was wanted is not there."""
    report: Path | None
    """The page about the training, in the run's folder; report.json lies beside it, and the bundle has a copy. None:
    it could not be written, which was printed."""


@dataclass(frozen=True)
class MeasuredFigure:
    """A figure with its 95 % interval; the ends are None where the images are too few to tell."""

    value: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        return f"{self.value:.3f}" if self.low is None else f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class DetectorFigures:
    """The figures of one detector on labelled images. None: the images cannot tell it, for lack of defects or masks."""

    image_auroc: MeasuredFigure | None
    """The chance that a defective image outscores a good one."""
    image_ap: MeasuredFigure | None
    image_f1_max: MeasuredFigure | None
    pixel_auroc: MeasuredFigure | None
    pixel_ap: MeasuredFigure | None
    pixel_f1_max: MeasuredFigure | None
    pro: MeasuredFigure | None
    """Mean overlap with the marked regions, of false positive rates to 0.3."""
    aupimo: MeasuredFigure | None
    found: MeasuredFigure | None
    """The share of the defective images that fail at its own threshold."""
    false_rejects: MeasuredFigure | None
    """The share of the good images that do."""


@dataclass(frozen=True)
class DefectFigures:
    """The figures of one defect in one severity, against all good images."""

    defect: str
    severity: int | None
    images: int
    image_auroc: MeasuredFigure
    pixel_auroc: MeasuredFigure | None
    pro: float | None
    failed: int | None
    passed: int | None


@dataclass(frozen=True)
class MeasuredImage:
    """What became of one labelled image."""

    file: str
    defect: str
    """`good`, or the defect's name."""
    severity: int | None
    score: float
    verdict: str | None
    gated: str | None
    """Why the quality gate stops it; None: it does not."""


@dataclass(frozen=True)
class EvaluatedBundle:
    """What a bundle finds on labelled images."""

    product: str
    version: str
    hash: str
    good_images: int
    defective_images: int
    metrics: DetectorFigures
    by_defect: tuple[DefectFigures, ...]
    yardstick: DetectorFigures | None
    """What a pretrained network gives without training on the same images; None: `yardstick_note` says why."""
    minus_yardstick: Mapping[str, MeasuredFigure]
    """The bundle's figures minus the yardstick's, by name; where an interval holds 0, these images cannot tell."""
    yardstick_note: str | None
    images: tuple[MeasuredImage, ...] = field(repr=False)
    report: Path | None
    """The JSON file that was asked for; .csv, .md and .html lie beside it."""
    figures: Mapping[str, Any] = field(repr=False)
    """All figures, as the JSON of `glad evaluate` has them."""
