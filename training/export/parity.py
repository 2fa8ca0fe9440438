"""Two engines' models of one bundle on the same inputs: may the second replace the first?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glad.models import ComponentModels
from glad.settings.method import MethodSettings
from model_store.engines.backends import Backend
from model_store.engines.export_manifest import Precision, Proof
from model_store.inspection import InspectedImage, inspect
from model_store.manifest import Manifest, VerdictThresholds
from training.data.image_files import read_pixels
from training.export.component_parity import ComponentRow, in_units, measured
from training.export.forms import export_form
from training.export.tolerances import Tolerances
from training.progress import Progress
from training.synthesis.pairs import single_square_settings
from training.synthesis.probes import Probe

COMPONENT_IMAGES = 8
"""Images by which the models are compared one by one; all images are inspected end to end."""


ROUNDING = 1e-5
"""Scores that differ by less, relatively, are equal: some hundred roundoffs of float32."""


@dataclass(frozen=True)
class ImageRow:
    """An image that both engines inspected."""

    file: str
    defective: bool
    reference_score: float
    candidate_score: float
    score_difference: float
    """Absolute."""
    relative_difference: float
    """In units of the fail threshold, or of the reference scores' median."""
    reference_step: int | None
    candidate_step: int | None
    map_correlation: float
    reference_verdict: str | None
    """None without thresholds, and for a score that is not finite."""
    candidate_verdict: str | None
    at_threshold: bool = False
    """Both scores are a threshold, but for rounding: a threshold is a good image's score, and this is that image."""
    near_tie: bool = False
    """Both engines came to a decision on the way so near its threshold that a device may decide it otherwise."""

    @property
    def step_differs(self) -> bool:
        """Return whether the two decided for different denoising steps, and more than rounding decided that."""
        return self.reference_step != self.candidate_step and not self.near_tie

    @property
    def undecided(self) -> bool:
        """Return whether rounding alone sent the two different ways: what came of it compares no engines."""
        return self.reference_step != self.candidate_step and self.near_tie

    @property
    def flipped(self) -> bool:
        """Return whether the two gave different verdicts, and more than rounding decided that."""
        return self.reference_verdict != self.candidate_verdict and not self.at_threshold and not self.undecided


@dataclass(frozen=True)
class Summary:
    """The numbers that are held against the tolerances; NaN where any image or output gave NaN.

    Scores and maps of images that rounding sent different ways are not among them.
    """

    images: int
    component_error: float
    row_difference: float
    score_difference: float
    """Relative."""
    absolute_score_difference: float
    step_differences: float
    """Share of the images."""
    map_correlation: float
    """The smallest."""
    verdict_flips: int
    undecided: int = 0
    """Images that rounding sent different ways."""


@dataclass(frozen=True)
class Parity:
    """The outcome of a comparison."""

    product: str
    version: str
    runner: Backend
    """The candidate."""
    device: str
    tolerances: Tolerances
    thresholds: VerdictThresholds | None
    components: tuple[ComponentRow, ...]
    images: tuple[ImageRow, ...]

    @property
    def precision(self) -> Precision:
        """The candidate's precision."""
        return self.runner.precision

    @property
    def summary(self) -> Summary:
        """The worst value of each figure."""
        compared = self._compared or self.images
        return Summary(
            images=len(self.images),
            component_error=_largest([row.relative_error for row in self.components]),
            row_difference=_largest([row.row_difference for row in self.components]),
            score_difference=_largest([row.relative_difference for row in compared]),
            absolute_score_difference=_largest([row.score_difference for row in compared]),
            step_differences=float(np.mean([row.step_differs for row in self.images])),
            map_correlation=float(np.min([row.map_correlation for row in compared])),
            verdict_flips=sum(row.flipped for row in self.images),
            undecided=len(self.images) - len(self._compared),
        )

    @property
    def problems(self) -> tuple[str, ...]:
        """All that is over its limit, each with its value, its limit and where it was found."""
        return (*self._component_problems(), *self._image_problems(), *self._share_problems())

    @property
    def passed(self) -> bool:
        """Return whether the candidate may replace the reference."""
        return not self.problems

    @property
    def proof(self) -> Proof:
        """Return what the export's manifest keeps of the comparison; a difference that is NaN is infinite there."""
        largest = self.summary.absolute_score_difference
        return Proof(
            runner=str(self.runner),
            precision=self.precision,
            passed=self.passed,
            images=len(self.images),
            verdict_flips=self.summary.verdict_flips,
            largest_score_difference=math.inf if math.isnan(largest) else largest,
        )

    def as_json(self) -> dict[str, Any]:
        """Return the whole comparison as plain JSON.

        Numbers that are not finite stand by their names, because JSON has none.
        """
        thresholds = self.thresholds
        content = {
            "product": self.product,
            "version": self.version,
            "reference": "torch-float32",
            "candidate": str(self.runner),
            "device": self.device,
            "passed": self.passed,
            "problems": list(self.problems),
            "summary": asdict(self.summary),
            "tolerances": self.tolerances.model_dump(),
            "thresholds": thresholds and {"review": thresholds.review, "fail": thresholds.fail},
            "components": [asdict(row) for row in self.components],
            "images": [asdict(row) for row in self.images],
        }
        return {name: _plain(value) for name, value in content.items()}

    @property
    def _compared(self) -> tuple[ImageRow, ...]:
        return tuple(row for row in self.images if not row.undecided)

    def _component_problems(self) -> Iterator[str]:
        limit = self.tolerances.component_error
        for row in self.components:
            if not row.relative_error <= limit:  # not `>`: NaN is a problem
                yield f"{row.name}: largest error is {row.relative_error:.3g} of the RMS; the limit is {limit:g}"
            if not row.row_difference <= limit:
                yield (
                    f"{row.name}: a row's output depends on its batch by {row.row_difference:.3g} of the RMS; "
                    f"the limit is {limit:g}"
                )

    def _image_problems(self) -> Iterator[str]:
        limits = self.tolerances
        unit = "reference scores' median" if self.thresholds is None else "fail threshold"
        for row in self._compared:
            if not row.relative_difference <= limits.score_difference:
                yield (
                    f"{row.file}: score is {row.candidate_score:.6g}, reference {row.reference_score:.6g}: differs by "
                    f"{row.relative_difference:.3g} of the {unit}; the limit is {limits.score_difference:g}"
                )
            if not row.map_correlation >= limits.map_correlation:
                yield (
                    f"{row.file}: correlation of the maps is {row.map_correlation:.6g}; "
                    f"the limit is {limits.map_correlation:g}"
                )

    def _share_problems(self) -> Iterator[str]:
        limits, summary = self.tolerances, self.summary
        if 2 * summary.undecided > summary.images:
            yield (
                f"rounding decided the denoising step of {summary.undecided} of {summary.images} images: delta lies "
                "among the trigger scores of nearly all, as it does where a UNet has hardly been trained; train longer"
            )
        if summary.step_differences > limits.step_differences:
            files = ", ".join(row.file for row in self.images if row.step_differs)
            yield (
                f"denoising step differs in {summary.step_differences:.3g} of the images ({files}); "
                f"the limit is {limits.step_differences:g}"
            )
        if summary.verdict_flips > limits.verdict_flips:
            files = ", ".join(row.file for row in self.images if row.flipped)
            yield f"{summary.verdict_flips} verdicts flip ({files}); the limit is {limits.verdict_flips}"


def compare(
    reference: ComponentModels,
    candidate: ComponentModels,
    manifest: Manifest,
    images: Sequence[Probe],
    tolerances: Tolerances,
    *,
    runner: Backend,
    progress: Progress,
    device: str = "cpu",
    batches: Sequence[int] = (1, 2, 4),
) -> Parity:
    """Compare every model by itself, then every image end to end, under the bundle's settings and thresholds.

    Args:
        reference: the bundle's own weights.
        candidate: of the same form.
        images: of `training.synthesis.probes.make_probes`, inspected as one model image each.
        runner: the backend on which the candidate runs.
        device: of both models' tensors.

    Raises:
        ValueError: without images, or if an output has another shape than the reference's.
    """
    if not images:
        raise ValueError("0 images to compare on: give at least one")
    settings, limits = single_square_settings(manifest.settings), manifest.calibration
    components: list[ComponentRow] = []
    todo = list(export_form(reference).trials(reference, settings, images[:COMPONENT_IMAGES], device))
    for done, trial in enumerate(todo, start=1):
        components += measured(trial, reference, candidate, batches)
        progress("models", done, len(todo))
    pairs = []
    for done, probe in enumerate(images, start=1):
        pairs.append((_inspected(probe, reference, settings, device), _inspected(probe, candidate, settings, device)))
        progress("images", done, len(images))
    unit = float(np.median([ours.score for ours, _ in pairs])) if limits is None else limits.fail
    return Parity(
        product=manifest.product,
        version=manifest.version,
        runner=runner,
        device=device,
        tolerances=tolerances,
        thresholds=limits,
        components=tuple(components),
        images=tuple(_row(probe, *pair, unit, limits) for probe, pair in zip(images, pairs, strict=True)),
    )


def correlation(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    """Return Pearson's correlation of two maps.

    Equal maps give 1, also constant ones; a constant map beside another gives 0; NaN stays NaN.
    """
    if np.array_equal(ours, theirs):
        return 1.0
    first, second = (part.astype(np.float64) - part.mean(dtype=np.float64) for part in (ours, theirs))
    spread = math.sqrt(float((first**2).sum()) * float((second**2).sum()))
    return 0.0 if spread == 0 else float((first * second).sum()) / spread


def _inspected(probe: Probe, models: ComponentModels, settings: MethodSettings, device: str) -> InspectedImage:
    with np.errstate(invalid="ignore"):  # the picture of a reconstruction that is NaN; its score stays NaN, and fails
        (image,) = inspect([read_pixels(probe.path)], models.assemble(), settings, device=device)
    return image


def _row(
    probe: Probe, ours: InspectedImage, theirs: InspectedImage, unit: float, limits: VerdictThresholds | None
) -> ImageRow:
    difference = abs(theirs.score - ours.score)
    return ImageRow(
        file=probe.path.name,
        defective=probe.defective,
        reference_score=ours.score,
        candidate_score=theirs.score,
        score_difference=difference,
        relative_difference=in_units(difference, unit),
        reference_step=ours.lane.denoising_step,
        candidate_step=theirs.lane.denoising_step,
        map_correlation=correlation(ours.placement.restore(ours.map), theirs.placement.restore(theirs.map)),
        reference_verdict=_verdict(ours.score, limits),
        candidate_verdict=_verdict(theirs.score, limits),
        near_tie=ours.lane.near_tie and theirs.lane.near_tie,
        at_threshold=limits is not None
        and any(_both_are(limit, ours, theirs) for limit in (limits.review, limits.fail)),
    )


def _both_are(limit: float, ours: InspectedImage, theirs: InspectedImage) -> bool:
    return all(math.isclose(one.score, limit, rel_tol=ROUNDING) for one in (ours, theirs))


def _verdict(score: float, limits: VerdictThresholds | None) -> str | None:
    return None if limits is None or not math.isfinite(score) else limits.verdict(score).value


def _largest(values: Sequence[float]) -> float:
    return float(np.max(values))  # NaN if any is: the built-in max may pass over it


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {name: _plain(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
        case float() if not math.isfinite(value):
            return str(value)
        case _:
            return value
