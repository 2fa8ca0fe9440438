"""What a store keeps of an evaluation: figures beside the yardstick's, and the fingerprint of the images."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from model_store.evaluations import (
    EvaluatedData,
    FigureEstimate,
    MeasuredQuality,
    Measurement,
    QualityFigures,
)
from model_store.files import hash_file
from training.data.dataset import TestImage
from training.evaluation.rows import Evaluation

_WAYS = {
    "image_auroc": ("image", "auroc"),
    "pixel_auroc": ("pixel", "auroc"),
    "pro": ("pixel", "pro"),
    "found": ("found_at_its_threshold", "found"),
    "false_rejects": ("found_at_its_threshold", "false_rejects"),
}
"""Figure of a record -> the way to it in an evaluation's figures."""


def described_data(images: Sequence[TestImage], root: Path) -> dict[str, str]:
    """Return the name and the fingerprint of labelled images.

    Args:
        images: those that are measured.
        root: their folder; the name is the folder's.
    """
    name = os.fsencode(root.resolve().name).decode(errors="backslashreplace")
    printable = "".join(letter if letter.isprintable() else "?" for letter in name)
    return {"name": printable[:128] or "images", "fingerprint": fingerprint_of(images, root)}


def fingerprint_of(images: Sequence[TestImage], root: Path) -> str:
    """Return the SHA-256 over each image's path in its folder, label, part and content, and its mask's content."""
    lines = sorted(
        "\t".join(
            (
                image.path.relative_to(root).as_posix(),
                image.defect,
                image.group or "",
                hash_file(image.path.resolve()).sha256,
                "" if image.mask is None else hash_file(image.mask.resolve()).sha256,
            )
        )
        for image in images
    )
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def with_record(outcome: Evaluation, name: str = "") -> Evaluation:
    """Return an evaluation whose figures have the `record` that a store keeps; as it is where nothing can be kept.

    Args:
        outcome: with its yardstick, if there is one.
        name: of the data set; "": the folder's.
    """
    record = _record(outcome.figures, name)
    return outcome if record is None else replace(outcome, figures={**outcome.figures, "record": record})


def _record(figures: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    own = _chosen(figures)
    if own == QualityFigures():
        return None
    data, measured, images = figures["data"], figures["measured"], figures["images"]
    yardstick = figures.get("yardstick", {})
    is_frozen = yardstick.get("frozen", False)
    made = MeasuredQuality(
        bundle=figures["bundle"]["hash"],
        data=EvaluatedData(
            name=name or data["name"], fingerprint=data["fingerprint"], good=images["good"], defect=images["defect"]
        ),
        figures=own,
        yardstick=_chosen(yardstick) if is_frozen else None,
        minus_yardstick=_differences(figures["minus_yardstick"])
        if is_frozen and "minus_yardstick" in figures
        else None,
        measured=Measurement(
            at=measured["at"], machine=measured["machine"], glad=measured["glad"], command=measured["command"][:2000]
        ),
    )
    return made.model_dump(mode="json", exclude_none=True)


def _chosen(figures: Mapping[str, Any]) -> QualityFigures:
    """Return the figures of one detector that a record has."""
    return QualityFigures(
        **{name: _estimate(figures.get(part, {}).get(figure)) for name, (part, figure) in _WAYS.items()}
    )


def _differences(paired: Mapping[str, Any]) -> QualityFigures:
    return QualityFigures(**{name: _estimate(paired.get(name)) for name in _WAYS})


def _estimate(found: Mapping[str, float] | None) -> FigureEstimate | None:
    """Return an estimate; None where there is none, or no bootstrap round could be measured."""
    if found is None or not all(math.isfinite(found[name]) for name in ("value", "low", "high")):
        return None
    return FigureEstimate(value=found["value"], low=found["low"], high=found["high"])
