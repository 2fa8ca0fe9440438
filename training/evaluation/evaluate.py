"""`glad evaluate`: inspects a labelled folder with a bundle and measures what came out."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from model_store.bundle import open_bundle
from model_store.manifest import Verdict, VerdictThresholds
from training.data.dataset import TestImage, read_truth, test_images
from training.data.left_out import describe, find_left_out
from training.evaluation.figures import measure
from training.evaluation.record import described_data
from training.evaluation.rows import GOOD, Evaluation, EvaluationRow, Located, defects_of
from training.parallel_inspection import ImageResult, inspect_images
from training.progress import Progress, silent
from training.quality_gate import first_checks


def evaluate(
    bundle_folder: Path,
    data: Path,
    *,
    progress: Progress = silent,
    command: str = "",
    workers: int | None = None,
) -> Evaluation:
    """Inspect every image of `data`/test and measure.

    Raises:
        DataError, BundleError: before anything long begins.
    """
    bundle = open_bundle(bundle_folder)
    settings, limits = bundle.manifest.settings, bundle.manifest.calibration
    labelled = test_images(data)
    scanned = list(
        inspect_images(
            bundle_folder,
            settings,
            [image.path for image in labelled],
            keep_maps=True,
            progress=partial(progress, "inspecting"),
            workers=workers,
        )
    )
    gate = bundle.manifest.gate
    checks = [""] * len(labelled)
    if gate is not None:
        paths, show = [image.path for image in labelled], partial(progress, "quality gate")
        checks = first_checks(gate, settings, paths, progress=show, workers=workers)
    rows = tuple(
        evaluation_row(image, result, data, limits, check)
        for image, result, check in zip(labelled, scanned, checks, strict=True)
    )
    outcome = measure(rows, located_maps(labelled, scanned), limits, partial(progress, "measuring"))
    left_out = find_left_out(data)
    figures = {
        **outcome.figures,
        **({"left_out": describe(left_out, data)} if left_out else {}),
        **({} if gate is None else {"gate": gate_figures(rows)}),
        "bundle": {
            "product": bundle.manifest.product,
            "version": bundle.manifest.version,
            "hash": bundle.hash,
            "delta": settings.trigger.delta,
        },
        "data": described_data(labelled, data),
        "measured": {
            "glad": version("glad-inspect"),
            "command": command,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}",
        },
    }
    return replace(outcome, figures=figures)


def gate_figures(rows: Sequence[EvaluationRow]) -> dict[str, Any]:
    """Return how many images of each set the quality gate stops, and why."""
    return {
        kind: {
            "images": sum(row.defect == kind for row in rows),
            "gated": sum(row.defect == kind and row.gated != "" for row in rows),
            "reasons": dict(sorted(Counter(row.gated for row in rows if row.defect == kind and row.gated).items())),
        }
        for kind in (GOOD, *defects_of(rows))
    }


def evaluation_row(
    image: TestImage, result: ImageResult, data: Path, limits: VerdictThresholds | None, gated: str = ""
) -> EvaluationRow:
    """Return an image's row.

    Without thresholds it has no verdict. An image that the quality gate stops is for review, whatever its score.
    """
    by_score = None if limits is None else limits.verdict(result.score)
    file = image.path.relative_to(data).as_posix()
    return EvaluationRow(
        file=file,
        defect=image.defect,
        severity=severity_of(image.path) if image.defect != GOOD else None,
        group=image.group or file,
        score=result.score,
        verdict=by_score if by_score is None or not gated else Verdict.REVIEW,
        denoising_step=result.denoising_step,
        triggered=result.triggered,
        gated=gated,
    )


def severity_of(path: Path) -> int | None:
    """Return the severity in a sample product's file name (`s2_0007.png`), or None."""
    head = path.stem.split("_")[0]
    return int(head[1:]) if head[:1] == "s" and head[1:].isdigit() else None


def located_maps(labelled: Sequence[TestImage], scanned: Sequence[ImageResult]) -> list[Located]:
    """Return maps and truths of the images; defects without a mask are left out.

    It is not known which of their pixels are good.
    """
    return [
        Located(index, result.placement.restore(result.map), read_truth(image.mask, result.placement))
        for index, (image, result) in enumerate(zip(labelled, scanned, strict=True))
        if result.map is not None and (image.defect == GOOD or image.mask is not None)
    ]
