"""Evaluations of bundles: figures that were measured on labelled images, kept beside the bundles. No torch.

A bundle never changes, and its manifest is part of its hash. So what is measured of it later lies beside it, in the
product's folder, and names the hash that it was measured of:

<store>/<product>/_evaluations.jsonl     a line of JSON for each evaluation, the oldest first

A bundle has one evaluation for each data set: measuring again replaces it. An evaluation that was removed stays as a
line that says who removed it, so that one that ships with the package can be removed too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Self

from pydantic import AwareDatetime, ConfigDict, Field, ValidationError, model_validator

from glad.settings import Frozen
from model_store.errors import EvaluationOfAnother
from model_store.files import make_folder, replace_file
from model_store.manifest import Sha256
from model_store.product_changes import StateChange
from model_store.product_state import locked

EVALUATIONS_NAME = "_evaluations.jsonl"
MOST_KEPT = 200
"""Lines of a product; the oldest go first."""

Figure = Annotated[float, Field(ge=-1, le=1)]
DataName = Annotated[str, Field(min_length=1, max_length=128)]


class FigureEstimate(Frozen):
    """A measured share or area, or a difference of two, with its 95 % interval."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    value: Figure
    low: Figure
    high: Figure


class QualityFigures(Frozen):
    """The figures of one detector; None: not measured, for lack of defects, of masks, or of thresholds."""

    model_config = ConfigDict(extra="ignore")

    image_auroc: FigureEstimate | None = None
    pixel_auroc: FigureEstimate | None = None
    pro: FigureEstimate | None = None
    found: FigureEstimate | None = None
    """Share of the defective images that fail at the detector's own threshold."""
    false_rejects: FigureEstimate | None = None
    """Share of the good images that do."""


class EvaluatedData(Frozen):
    """The labelled images."""

    model_config = ConfigDict(extra="ignore")

    name: DataName
    fingerprint: Sha256
    """Of every image and mask with its label: two folders with the same have the same."""
    good: int = Field(ge=1)
    defect: int = Field(ge=0)


class Measurement(Frozen):
    """When, where and how it was measured."""

    model_config = ConfigDict(extra="ignore")

    at: AwareDatetime
    machine: str = Field("", max_length=200)
    glad: str = Field("", max_length=50)
    """Version of glad."""
    command: str = Field("", max_length=2000)


class MeasuredQuality(Frozen):
    """What an evaluation found of a bundle, beside the frozen yardstick on the same images."""

    model_config = ConfigDict(extra="ignore")

    bundle: Sha256
    """The bundle's hash."""
    data: EvaluatedData
    figures: QualityFigures
    yardstick: QualityFigures | None = None
    minus_yardstick: QualityFigures | None = None
    """The bundle's figures minus the yardstick's, paired by image; None: not known."""
    measured: Measurement

    @model_validator(mode="after")
    def _has_figures(self) -> Self:
        if self.figures == QualityFigures():
            raise ValueError("the evaluation has no figures: give the `record` that `glad evaluate` wrote")
        return self

    @property
    def id(self) -> str:
        """Return the name of the evaluation: one for a bundle and a data set."""
        return hashlib.sha256(f"{self.bundle} {self.data.fingerprint}".encode()).hexdigest()[:16]


class EvaluationRemoval(Frozen):
    """Who removed an evaluation, and when."""

    model_config = ConfigDict(extra="ignore")

    by: str
    at: AwareDatetime


class RecordedEvaluation(MeasuredQuality):
    """An evaluation in a store, with who recorded it and when."""

    by: str
    at: AwareDatetime
    note: str = ""
    removed: EvaluationRemoval | None = None


def recorded_for(
    bundle_hash: str, measured: MeasuredQuality, *, by: str, at: datetime, note: str = ""
) -> RecordedEvaluation:
    """Return an evaluation as it is recorded for a bundle.

    Raises:
        EvaluationOfAnother: if it was measured of another bundle.
    """
    if measured.bundle != bundle_hash:
        raise EvaluationOfAnother(
            f"the evaluation was measured of the bundle {measured.bundle[:12]}, and this one is {bundle_hash[:12]}: "
            "record it for the bundle that was measured, or measure this one"
        )
    content = measured.model_dump(include=set(MeasuredQuality.model_fields))
    return RecordedEvaluation(**content, by=by, note=note, at=at)


def evaluations_of(bundle_hash: str, folders: Iterable[Path]) -> tuple[RecordedEvaluation, ...]:
    """Return what was measured of a bundle, the latest measurement first; without what was removed.

    Args:
        bundle_hash: of the bundle.
        folders: of the product, in the layers of a store. Of two records of one data set that of the first counts.
    """
    found: dict[str, RecordedEvaluation] = {}
    for folder in folders:
        for one in _recorded(folder):
            if one.bundle == bundle_hash:
                found.setdefault(one.id, one)
    shown = (one for one in found.values() if one.removed is None)
    return tuple(sorted(shown, key=lambda one: (one.measured.at, one.id), reverse=True))


def write_evaluations(
    folder: Path,
    new: Iterable[RecordedEvaluation],
    *,
    replace: bool = True,
    record: Callable[[], None] | None = None,
    check: Callable[[], None] | None = None,
) -> None:
    """Add evaluations to a product's folder, durably.

    Args:
        folder: of the product.
        new: to add.
        replace: what is recorded of the same bundle and data set; False: leave that as it is.
        record: called before, while nobody else can change the product.
        check: called as the last thing before they are there; what it raises leaves everything as it is.

    Raises:
        OSError: if it cannot be written.
    """
    added = {one.id: one for one in new}
    if not added:
        return
    make_folder(folder)
    with locked(folder):
        there = {one.id for one in _recorded(folder)}
        if not replace:
            added = {name: one for name, one in added.items() if name not in there}
        # What cannot be read, such as a line of a later version, is kept.
        kept = [line for line in _lines(folder) if (one := _parsed(line)) is None or one.id not in added]
        lines = [*kept, *(one.model_dump_json(exclude_none=True) for one in added.values())]
        if added:
            if record is not None:
                record()
            content = "".join(f"{line}\n" for line in lines[-MOST_KEPT:]).encode()
            replace_file(folder / EVALUATIONS_NAME, content, check)


def change_of(before: RecordedEvaluation | None, after: RecordedEvaluation, version: str) -> StateChange:
    """Return, for the record of a product's changes, what recording or removing an evaluation changes.

    Args:
        before: what was shown of the same bundle and data set; None: nothing.
        after: recorded now, or now removed.
        version: the bundle's.
    """
    made = after.removed or after
    return StateChange(
        revision=None,
        kind="evaluation",
        version=version,
        before=_shown(before),
        after=_shown(after),
        by=made.by,
        at=made.at,
        note="" if after.removed else after.note,
    )


def last_recorded(folder: Path) -> dict[str, RecordedEvaluation]:
    """Return every evaluation of a product's folder by its id, removed ones too."""
    return {one.id: one for one in _recorded(folder)}


def _shown(one: RecordedEvaluation | None) -> dict[str, bool | float | str | None]:
    """Return id, data set and figures as a change tells them; all None where nothing is shown."""
    if one is None or one.removed is not None:
        return dict.fromkeys(("evaluation", "data", *QualityFigures.model_fields))
    figures = {name: None if found is None else found.value for name, found in one.figures}
    return {"evaluation": one.id, "data": one.data.name, **figures}


def carry_evaluations(source: Path, target: Path, bundle_hash: str) -> None:
    """Copy what was measured of a bundle from one product's folder to another, but what is recorded there already."""
    if source.resolve() != target.resolve():
        write_evaluations(target, evaluations_of(bundle_hash, [source]), replace=False)


def _recorded(folder: Path) -> Iterator[RecordedEvaluation]:
    """Yield the evaluations of a product's folder, oldest first, without lines that cannot be read."""
    return (one for line in _lines(folder) if (one := _parsed(line)) is not None)


def _lines(folder: Path) -> list[str]:
    try:
        # Not splitlines(): it would end a line at any of Unicode's line ends, which JSON has within its texts.
        content = (folder / EVALUATIONS_NAME).read_bytes().decode(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [line for line in content.split("\n") if line]


def _parsed(line: str) -> RecordedEvaluation | None:
    try:
        return RecordedEvaluation.model_validate_json(line)
    except ValidationError:
        return None
