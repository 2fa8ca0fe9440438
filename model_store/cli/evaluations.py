"""`glad bundle evaluations`: what was measured of a bundle, listed, recorded and removed. No torch."""

from __future__ import annotations

import errno
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from model_store.bundle_lookup import FoundBundle, find_bundle
from model_store.cli.common import (
    DEFAULT_DATA_FOLDER,
    BundleName,
    DataFolder,
    StoreFolder,
    chosen_store,
    explained,
    user_name,
)
from model_store.errors import StoreError
from model_store.evaluations import (
    EVALUATIONS_NAME,
    FigureEstimate,
    MeasuredQuality,
    RecordedEvaluation,
    evaluations_of,
    recorded_for,
    write_evaluations,
)
from model_store.store import Store

FIGURES = {
    "image_auroc": "I-AUROC",
    "pixel_auroc": "P-AUROC",
    "pro": "PRO",
    "found": "found",
    "false_rejects": "false rejects",
}
"""Field of `QualityFigures` -> its name in reports."""


def evaluations_command(
    bundle: BundleName,
    version: Annotated[str | None, typer.Argument(metavar="VERSION", help="Default: the active one.")] = None,
    *,
    add: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", exists=True, dir_okay=False, help="Record what `glad evaluate --json FILE` measured."
        ),
    ] = None,
    remove: Annotated[
        str | None, typer.Option(metavar="ID", help="Remove one; adding it again brings it back.")
    ] = None,
    by: Annotated[str, typer.Option(help="Who changes it. Default: the user that runs this command.")] = "",
    note: Annotated[str, typer.Option(help="What the page shows beside the figures added.")] = "",
    store: StoreFolder = None,
    data_dir: DataFolder = DEFAULT_DATA_FOLDER,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """List what was measured of a bundle on labelled images, beside the yardstick; record one more, or remove one.

    Example: glad bundle evaluations bracket --add evaluation.json
    """
    opened = chosen_store(store, data_dir)
    with explained(ValueError):
        found = find_bundle(bundle, opened, version)
        if add is not None:
            record_evaluation(opened, found, read_record(add), by=by or user_name(), note=note)
        if remove is not None:
            _remove(opened, found, remove, by or user_name())
        recorded = known_evaluations(opened, found)
    if as_json:
        shown = [{"id": one.id, **one.model_dump(mode="json", exclude={"removed"})} for one in recorded]
        typer.echo(json.dumps({"bundle": found.ref.hash, "evaluations": shown}, indent=2))
        return
    ref = found.ref
    typer.echo(f"{ref.product} {ref.version}, bundle {ref.hash[:12]}")
    for one in recorded:
        typer.echo("\n".join(evaluation_lines(one)))
    if not recorded:
        typer.echo(f"nothing was measured of it: glad evaluate {bundle} --data DIR --record")


def record_evaluation(
    store: Store, found: FoundBundle, measured: MeasuredQuality, *, by: str, note: str = ""
) -> list[Path]:
    """Record an evaluation where its bundle lies, and return the files that have it.

    Of a bundle that was named by its folder, that is beside the folder, and in the store if that has the bundle too.

    Raises:
        StoreError: if it was measured of another bundle.
        OSError: if it cannot be written.
    """
    ref = found.ref
    if found.in_store:
        store.record_evaluation(ref, measured, by=by, note=note)
        return [store.root / ref.product / EVALUATIONS_NAME]
    recorded = recorded_for(ref.hash, measured, by=by, note=note, at=datetime.now(UTC))
    write_evaluations(ref.path.parent, [recorded])
    files = [ref.path.parent / EVALUATIONS_NAME]
    if _is_published(store, found):
        store.record_evaluation(ref, measured, by=by, note=note)
        files.append(store.root / ref.product / EVALUATIONS_NAME)
    return files


def refuse_unwritable(store: Store, found: FoundBundle) -> None:
    """Refuse a place where an evaluation could not be kept, before the long work and not after it.

    Raises:
        PermissionError: if it may not be written.
    """
    folder = store.root / found.ref.product if found.in_store else found.ref.path.parent
    lowest = next(one for one in (folder, *folder.parents) if one.exists())
    if not os.access(lowest, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "may not be written", str(lowest))


def read_record(file: Path) -> MeasuredQuality:
    """Return the record in a JSON file of `glad evaluate`.

    Raises:
        ValueError: if there is none.
    """
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return MeasuredQuality.model_validate(content["record"])
    except (KeyError, TypeError, ValueError) as error:
        why = str(error) if isinstance(error, ValidationError) else repr(error)
        raise ValueError(
            f"{file} holds no evaluation that can be recorded ({why}): make it with `glad evaluate BUNDLE --data DIR "
            f"--json {file}`"
        ) from error


def evaluation_lines(one: RecordedEvaluation) -> list[str]:
    """Return an evaluation in words: the data, then each figure beside the yardstick's."""
    by = f"{one.by}: {one.note}" if one.note else one.by
    lines = [
        f"{one.measured.at.date()}  {one.data.name}: {one.data.good} good and {one.data.defect} defective images  "
        f"(id {one.id}, recorded by {by})"
    ]
    for name, label in FIGURES.items():
        own = getattr(one.figures, name)
        if own is not None:
            yardstick = getattr(one.yardstick, name) if one.yardstick else None
            beside = f"   yardstick {_in_words(yardstick)}" if yardstick else ""
            lines.append(f"    {label:<14} {_in_words(own)}{beside}")
    return lines


def _in_words(figure: FigureEstimate) -> str:
    return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"


def known_evaluations(store: Store, found: FoundBundle) -> tuple[RecordedEvaluation, ...]:
    """Return what was measured of a bundle, as its place and the store know it, the latest first."""
    ref = found.ref
    if found.in_store:
        return store.evaluations(ref)
    return evaluations_of(ref.hash, [ref.path.parent, store.root / ref.product])


def _remove(store: Store, found: FoundBundle, evaluation: str, by: str) -> None:
    if not found.in_store:
        raise ValueError(f"--remove {evaluation}: name the bundle as PRODUCT/VERSION of the store that has it")
    store.remove_evaluation(found.ref, evaluation, by=by)


def _is_published(store: Store, found: FoundBundle) -> bool:
    try:
        return store.resolve(found.ref.product, found.ref.version).hash == found.ref.hash
    except StoreError:
        return False
