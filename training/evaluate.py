"""`glad evaluate`: inspects a labelled folder with a bundle and measures what came out."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from model_store.bundle import open_bundle
from model_store.thresholds import Thresholds
from training.data import TestImage, read_truth, test_images
from training.figures import measure
from training.outcome import GOOD, Evaluation, Located, Row
from training.progress import Progress, silent
from training.scan import Scanned, scan


def evaluate(
    bundle_folder: Path,
    data: Path,
    *,
    progress: Progress = silent,
    command: str = "",
    workers: int | None = None,
) -> Evaluation:
    """Inspect every image of `data`/test and measure. Raises DataError or BundleError before anything long begins."""
    bundle = open_bundle(bundle_folder)
    settings, limits = bundle.manifest.settings, bundle.manifest.calibration
    labelled = test_images(data)
    scanned = list(
        scan(
            bundle_folder,
            settings,
            [image.path for image in labelled],
            keep_maps=True,
            progress=partial(progress, "inspecting"),
            workers=workers,
        )
    )
    rows = tuple(row_of(image, found, data, limits) for image, found in zip(labelled, scanned, strict=True))
    outcome = measure(rows, _located(labelled, scanned), limits, partial(progress, "measuring"))
    figures = {
        **outcome.figures,
        "bundle": {
            "product": bundle.manifest.product,
            "version": bundle.manifest.version,
            "hash": bundle.hash,
            "delta": settings.trigger.delta,
        },
        "measured": {
            "command": command,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}",
        },
    }
    return Evaluation(figures, outcome.rows, outcome.curves)


def row_of(image: TestImage, found: Scanned, data: Path, limits: Thresholds | None) -> Row:
    """An image's row; without thresholds it has no verdict."""
    file = image.path.relative_to(data).as_posix()
    return Row(
        file=file,
        defect=image.defect,
        severity=severity_of(image.path) if image.defect != GOOD else None,
        group=image.group or file,
        score=found.score,
        verdict=None if limits is None else limits.verdict(found.score),
        denoising_step=found.denoising_step,
        triggered=found.triggered,
    )


def severity_of(path: Path) -> int | None:
    """The severity in a sample product's file name (`s2_0007.png`), or None."""
    head = path.stem.split("_")[0]
    return int(head[1:]) if head[:1] == "s" and head[1:].isdigit() else None


def _located(labelled: Sequence[TestImage], scanned: Sequence[Scanned]) -> list[Located]:
    """Defects without a mask are left out: nobody knows which of their pixels are good."""
    return [
        Located(index, found.placement.restore(found.map), read_truth(image.mask, found.placement))
        for index, (image, found) in enumerate(zip(labelled, scanned, strict=True))
        if found.map is not None and (image.defect == GOOD or image.mask is not None)
    ]
