"""The record of a product's changes: who changed what and when, with the values before, so that it can be undone.

It lies beside the state and never in it: the state is read for each image, and by versions that know no record. A
change is recorded before it is made. So a record may tell of one that never came to be: its revision is then above the
state's, or it is followed by another one of the same revision, and readers leave it out. An evaluation of a version
changes no verdict and makes no revision; one that never came to be is not beside the bundles, or is followed by another
that began from the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, ConfigDict, ValidationError

from glad.settings import Frozen
from model_store.files import replace_file
from model_store.manifest import Name
from model_store.product_state import Activation, GateOverrides, ProductState, ThresholdOverrides

RECORD_NAME = "_changes.jsonl"
"""A line of JSON for each change, the oldest first."""
MOST_KEPT = 500

ChangeKind = Literal["active", "thresholds", "gate", "gate_limits", "pictures", "evaluation"]
ChangedValues = Mapping[str, bool | float | str | None]
"""Field of the call that makes the change -> value. null: what calibration or the gate's learning found."""


class StateChange(Frozen):
    """A change of a product."""

    model_config = ConfigDict(extra="ignore")

    revision: int | None
    """That it made; None: it was made before there was a record, or is of an evaluation."""
    kind: ChangeKind
    version: Name | None
    """The version that it concerns; None: the product, whatever its version."""
    before: dict[str, bool | float | str | None]
    after: dict[str, bool | float | str | None]
    by: str
    at: AwareDatetime
    note: str = ""


def record_change(folder: Path, before: ProductState, after: ProductState, *, note: str) -> None:
    """Add to the record, durably, what a change is about to make of a state.

    Raises:
        OSError: if it cannot be written.
    """
    add_changes(folder, _changes_between(before, after, note))


def add_changes(folder: Path, new: Iterable[StateChange]) -> None:
    """Add to the record, durably, what is about to be changed; the oldest go beyond `MOST_KEPT`.

    Raises:
        OSError: if it cannot be written.
    """
    lines = [one.model_dump_json() for one in (*_recorded(folder), *new)][-MOST_KEPT:]
    replace_file(folder / RECORD_NAME, "".join(f"{line}\n" for line in lines).encode())


def read_changes(
    folder: Path, state: ProductState, evaluated: Mapping[str, datetime] | None = None
) -> tuple[StateChange, ...]:
    """Return what led to this state, the latest first; of before there was a record the activations alone.

    Args:
        folder: of the product.
        state: of the product.
        evaluated: id of each evaluation beside the bundles -> when it was recorded or removed.
    """
    all_recorded = list(_recorded(folder))
    made = (one for one in all_recorded if one.revision is not None and one.revision <= state.revision)
    recorded = {one.revision: one for one in made}  # of several of one revision the last was made
    known = {one.at for one in recorded.values() if one.kind == "active"}
    changes = [*_activations(state, known), *recorded.values(), *_evaluations(all_recorded, evaluated or {})]
    return tuple(sorted(changes, key=lambda one: (one.at, one.revision or 0), reverse=True))


def _evaluations(recorded: Iterable[StateChange], evaluated: Mapping[str, datetime]) -> Iterator[StateChange]:
    """Yield the records of evaluations that were made."""
    of_one: dict[str, list[StateChange]] = {}
    for change in recorded:
        if change.kind == "evaluation":
            of_one.setdefault(str(change.after["evaluation"] or change.before["evaluation"]), []).append(change)
    for name, changes in of_one.items():
        for change, following in pairwise(changes):
            if following.before != change.before or change.before == change.after:
                yield change
        if name in evaluated and changes[-1].at <= evaluated[name]:
            yield changes[-1]


def _changes_between(before: ProductState, after: ProductState, note: str) -> Iterator[StateChange]:
    """Yield what differs between two states. Who and when: as the state after says."""
    common = {"revision": after.revision, "by": after.changed_by, "at": after.changed_at, "note": note}
    changed: list[tuple[ChangeKind, str | None, ChangedValues, ChangedValues]] = [
        ("active", after.active, {"version": before.active}, {"version": after.active}),
        ("gate", None, {"on": before.gate_on}, {"on": after.gate_on}),
        ("pictures", None, {"when": before.pictures_when}, {"when": after.pictures_when}),
    ]
    for version in sorted({*before.overrides, *after.overrides}):
        values = [one.overrides.get(version, ThresholdOverrides()).model_dump() for one in (before, after)]
        changed.append(("thresholds", version, values[0], values[1]))
    for version in sorted({*before.gate_limits, *after.gate_limits}):
        values = [one.gate_limits.get(version, GateOverrides()).model_dump() for one in (before, after)]
        changed.append(("gate_limits", version, values[0], values[1]))
    for kind, concerned, old, new in changed:
        if old != new:
            content = {**common, "kind": kind, "version": concerned, "before": old, "after": new}
            yield StateChange.model_validate(content)


def _activations(state: ProductState, known: set[AwareDatetime]) -> Iterator[StateChange]:
    previous: Activation | None = None
    for one in state.history:
        is_change = previous is None or previous.version != one.version
        if is_change and one.at not in known:
            yield StateChange(
                revision=None,
                kind="active",
                version=one.version,
                before={"version": previous.version if previous else None},
                after={"version": one.version},
                by=one.by,
                at=one.at,
                note=one.note,
            )
        previous = one


def _recorded(folder: Path) -> Iterator[StateChange]:
    """Yield the record, oldest first. A line that cannot be read, such as one of a later version, is left out."""
    try:
        # Not splitlines(): a note may hold U+2028, which ends no line of JSON.
        lines = (folder / RECORD_NAME).read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return
    for line in lines:
        try:
            yield StateChange.model_validate_json(line)
        except ValidationError:
            continue
