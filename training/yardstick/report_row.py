"""The yardstick's row beside a bundle's: learnt from the same folder, read from a file, or kept by the bundle.

Three keys of an evaluation's figures belong to it:

yardstick         its figures, as far as the report shows them; absent where there is no row
minus_yardstick   the bundle's figures minus the yardstick's, paired; where it was learnt here
yardstick_note    what the row is, or why there is none and what to do
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from model_store.backbones.loading import load_backbone
from model_store.bundle import open_bundle
from training.data.dataset import TestImage, good_split, test_images
from training.evaluation.comparison import differences
from training.evaluation.evaluate import evaluation_row, located_maps
from training.evaluation.figures import measure_overall
from training.evaluation.rows import GOOD, Evaluation
from training.progress import Progress, silent
from training.recipe import CalibrationRecipe
from training.yardstick.patch_memory import (
    YARDSTICK,
    LearntYardstick,
    YardstickConfiguration,
    inspect_all,
    learn_memory,
    learn_patch_memory,
)

AUTO, NONE = "auto", "none"
"""What `--yardstick` takes besides a file: learn it, and leave it out."""
SHOWN = ("images", "image", "pixel", "found_at_its_threshold", "thresholds")
"""The figures of a yardstick that a report keeps."""


def with_learnt_yardstick(
    outcome: Evaluation,
    bundle_folder: Path,
    data: Path,
    *,
    configuration: YardstickConfiguration = YARDSTICK,
    progress: Progress = silent,
) -> Evaluation:
    """Return an evaluation beside the yardstick, which learns from the good images of the same folder.

    Where it cannot, beside the row that the bundle's manifest keeps, if that is of as many test images; else with the
    reason alone. Nothing is downloaded. A yardstick never costs the evaluation itself: its errors become the reason.

    Args:
        outcome: of the images of `data`/test.
        data: the folder of one class.
    """

    def show(stage: str, done: int, total: int) -> None:
        progress(f"yardstick: {stage}", done, total)

    try:
        learnt = learn_yardstick(data, configuration, show)
        measured = measure_yardstick(learnt, data, show)
        paired = differences(outcome, measured)
    except (ValueError, OSError) as error:
        return _with_kept_yardstick(outcome, bundle_folder, str(error).rstrip("."))
    note = (
        "The yardstick is what a pretrained network gives without training: a memory of features of the "
        f"{learnt.calibration.good_images} good images of {data}, learnt during this evaluation. Each detector finds "
        "at its own threshold. The difference is the bundle minus the yardstick; where its interval holds 0, these "
        "images cannot tell the two apart."
    )
    extra = {"yardstick": _row(learnt, measured), "minus_yardstick": paired, "yardstick_note": note}
    return replace(outcome, figures={**outcome.figures, **extra})


def learn_yardstick(data: Path, configuration: YardstickConfiguration, progress: Progress) -> LearntYardstick:
    """Return the patch memory of a folder's good images, split as for a training, with its thresholds.

    Raises:
        ValueError: if there are too few good images, or the backbone is not on this machine.
    """
    split = good_split(data, CalibrationRecipe().holdout, 0)
    network = load_backbone(configuration.backbone).backbone.cut(max(configuration.embedding.levels))
    return learn_patch_memory(learn_memory(data, split, network, configuration, progress), progress)


def measure_yardstick(learnt: LearntYardstick, data: Path, progress: Progress) -> Evaluation:
    """Return a yardstick measured on the test images of a folder: all of them together, not by defect."""
    images = test_images(data)
    results = inspect_all(learnt, [image.path for image in images], progress)
    progress("measuring", 0, 1)
    rows = [evaluation_row(image, one, data, learnt.calibration) for image, one in zip(images, results, strict=True)]
    measured = measure_overall(rows, located_maps(images, results), learnt.calibration)
    progress("measuring", 1, 1)
    return measured


def with_yardstick_of_file(outcome: Evaluation, found: dict[str, Any], file: Path) -> Evaluation:
    """Return an evaluation beside the yardstick that `read_yardstick` found in a file."""
    other = "" if found["frozen"] else " Its configuration is not the frozen one."
    note = f"The yardstick's row is that of {file}, made by glad bench yardstick.{other}"
    return replace(outcome, figures={**outcome.figures, "yardstick": found, "yardstick_note": note})


def read_yardstick(file: Path, images: Sequence[TestImage]) -> dict[str, Any]:
    """Return the figures of the first yardstick in a file of `glad bench yardstick`, those that a report shows.

    Args:
        images: those that the bundle is measured on.

    Raises:
        ValueError: if it is no such file, or was measured on another number of images.
    """
    if not file.is_file():
        raise ValueError(
            f"--yardstick {file}: there is no such file; give {AUTO}, {NONE}, or a JSON of glad bench yardstick"
        )
    try:
        content = json.loads(file.read_text(encoding="utf-8"))["figures"]
        first = content["methods"][0]
        found = {name: first[name] for name in ("name", "images", "image", "found_at_its_threshold")}
        good, defect = found["images"]["good"], found["images"]["defect"]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"{file} holds no yardstick ({error!r}): make it with glad bench yardstick --json") from error
    here = sum(image.defect == GOOD for image in images)
    if (good, defect) != (here, len(images) - here):
        raise ValueError(
            f"{file} was measured on {good} good and {defect} defective images, the bundle is to be on {here} and "
            f"{len(images) - here}: measure the yardstick on the same images"
        )
    about = {"configuration": content.get("yardstick"), "frozen": content.get("frozen", True)}
    return {**found, **{name: first[name] for name in SHOWN if name in first}, **about}


def _row(learnt: LearntYardstick, measured: Evaluation) -> dict[str, Any]:
    return {
        "name": learnt.name,
        **{name: measured.figures[name] for name in SHOWN if name in measured.figures},
        "configuration": learnt.embedder.configuration.model_dump(mode="json"),
        "frozen": learnt.embedder.configuration == YARDSTICK,
        "promise": learnt.promise,
        "scores": {row.file: round(row.score, 6) for row in measured.rows},
    }


def _with_kept_yardstick(outcome: Evaluation, bundle_folder: Path, reason: str) -> Evaluation:
    """Return an evaluation beside the row of the bundle's manifest, or with the reason why there is none."""
    kept: dict[str, Any] = open_bundle(bundle_folder).manifest.quality.get("yardstick", {})
    if kept and kept.get("images") == outcome.figures["images"]:
        note = f"The yardstick's row is the one that the bundle keeps: it could not be learnt here, because {reason}."
        return replace(outcome, figures={**outcome.figures, "yardstick": kept, "yardstick_note": note})
    note = (
        f"There is no yardstick's row, because it could not be learnt: {reason}. Put that right, or give the JSON of "
        "glad bench yardstick on these images: --yardstick FILE."
    )
    return replace(outcome, figures={**outcome.figures, "yardstick_note": note})
