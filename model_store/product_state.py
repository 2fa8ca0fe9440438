"""The state of a product beside its immutable bundles: active version, threshold overrides, history. No torch.

States are values: every change returns a new one with the next revision. `write_state` puts it on disk only if the
product was not changed since the revision that the change was made from.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import AwareDatetime, ConfigDict, Field, ValidationError

from glad.quality_gate.limits import QualityGate
from glad.settings import Frozen
from model_store.errors import BadProductState, NothingToRollBack, StateConflict
from model_store.files import make_folder, replace_file
from model_store.manifest import Calibration, Name, VerdictThresholds

STATE_NAME = "_product.json"
"""The underscore keeps it apart from versions: no version's name may start with one."""

NOBODY = "glad"
"""Who a default is recorded by."""

_LOCK_NAME = "._product.lock"
_HISTORY_KEPT = 200


class ThresholdOverrides(Frozen):
    """Thresholds that replace the calibrated ones; None keeps what calibration found."""

    model_config = ConfigDict(allow_inf_nan=False)

    review: float | None = None
    fail: float | None = Field(None, gt=0)
    pixel: float | None = Field(None, gt=0)

    def over(self, calibration: Calibration) -> VerdictThresholds:
        """Return the thresholds in force.

        Raises:
            ValueError: if review would lie above fail.
        """
        return VerdictThresholds(
            review=calibration.review if self.review is None else self.review,
            fail=calibration.fail if self.fail is None else self.fail,
            pixel=calibration.pixel if self.pixel is None else self.pixel,
        )


class GateOverrides(Frozen):
    """Limits of the quality gate that replace those that good images set; None keeps what was learnt."""

    model_config = ConfigDict(allow_inf_nan=False)

    darkest: float | None = Field(None, ge=0)
    brightest: float | None = Field(None, ge=0)
    black_share: float | None = Field(None, ge=0)
    white_share: float | None = Field(None, ge=0)
    sharpness: float | None = Field(None, ge=0)
    likeness: float | None = Field(None, ge=0, le=1, description="0: not asked")

    def over(self, gate: QualityGate) -> QualityGate:
        """Return the gate in force.

        Raises:
            ValueError: if no brightness would be allowed.
        """
        chosen = self.model_dump(exclude_none=True)
        if "likeness" in chosen:
            chosen["likeness"] = chosen["likeness"] or None
        made = gate.model_copy(update=chosen)
        if made.darkest > made.brightest:
            raise ValueError(
                f"darkest is {made.darkest:g} and brightest is {made.brightest:g}: every image would be stopped; set "
                "darkest below brightest"
            )
        return made


class ActivationKind(StrEnum):
    """The way in which a version came to be active."""

    DEFAULT = "default"
    """Nobody chose it: it was the product's first version, or the newest before there were records."""
    ACTIVATE = "activate"
    ROLLBACK = "rollback"


class Activation(Frozen):
    """One change of the active version."""

    version: Name
    kind: ActivationKind
    by: str
    at: AwareDatetime
    note: str = ""


class GateSwitch(Frozen):
    """The last switching of the product's quality gate."""

    on: bool
    by: str
    at: AwareDatetime
    note: str = ""


Overrides = TypeVar("Overrides", ThresholdOverrides, GateOverrides)

PicturesWhen = Literal["always", "on_demand"]
"""When the pictures of a part that passes are drawn: at once, or when somebody asks for one."""


class PicturesChoice(Frozen):
    """The last choice of when pictures are drawn of a product's parts that pass."""

    when: PicturesWhen
    by: str
    at: AwareDatetime
    note: str = ""


class ProductState(Frozen):
    """The whole of a product's state file. Overrides belong to a version: another model has another scale of scores."""

    format: Literal[1] = 1
    product: Name
    revision: int = Field(0, ge=0)
    active: Name | None = Field(None, description="None: not recorded yet, so the newest version")
    overrides: dict[Name, ThresholdOverrides] = Field(default_factory=dict)
    gate: GateSwitch | None = Field(None, description="None: on, where the bundle has one")
    gate_limits: dict[Name, GateOverrides] = Field(
        default_factory=dict, description="of a version's gate, as overrides"
    )
    pictures: PicturesChoice | None = Field(None, description="of parts that pass; None: on demand")
    history: tuple[Activation, ...] = ()
    changed_by: str | None = None
    changed_at: AwareDatetime | None = None

    def thresholds(self, version: str, calibration: Calibration) -> VerdictThresholds:
        """Return the thresholds in force for a version: calibrated, unless overridden."""
        return self.overrides.get(version, ThresholdOverrides()).over(calibration)

    def settle(self, version: str, *, at: AwareDatetime) -> ProductState:
        """Return the state with this version recorded as active by default. Nobody changed anything: same revision."""
        entry = Activation(version=version, kind=ActivationKind.DEFAULT, by=NOBODY, at=at)
        return self.model_copy(update={"active": version, "history": (*self.history, entry)})

    def activate(self, version: str, *, by: str, at: AwareDatetime, note: str = "") -> ProductState:
        """Return the state with this version active."""
        return self._activated(Activation(version=version, kind=ActivationKind.ACTIVATE, by=by, at=at, note=note))

    def roll_back(self, *, by: str, at: AwareDatetime, note: str = "") -> ProductState:
        """Return the state with the version before the active one active; a second call goes one further back.

        Raises:
            NothingToRollBack: if no version was active before.
        """
        path = self._path()
        if len(path) < 2:
            raise NothingToRollBack(
                f"product {self.product}: no version was active before {self.active or 'the newest'}; "
                f"activate one by name: glad bundle activate {self.product} VERSION"
            )
        return self._activated(Activation(version=path[-2], kind=ActivationKind.ROLLBACK, by=by, at=at, note=note))

    def override(self, version: str, overrides: ThresholdOverrides, *, by: str, at: AwareDatetime) -> ProductState:
        """Return the state with these overrides in place of the version's earlier ones; empty: the calibration's."""
        return self._changed(by, at, overrides=_with_version(self.overrides, version, overrides))

    def switch_gate(self, *, on: bool, by: str, at: AwareDatetime, note: str = "") -> ProductState:
        """Return the state with the quality gate switched on or off, whatever version inspects."""
        return self._changed(by, at, gate=GateSwitch(on=on, by=by, at=at, note=note))

    def limit_gate(self, version: str, limits: GateOverrides, *, by: str, at: AwareDatetime) -> ProductState:
        """Return the state with these limits in place of the version's earlier ones; empty: those that were learnt."""
        return self._changed(by, at, gate_limits=_with_version(self.gate_limits, version, limits))

    def forget(self, version: str, *, by: str, at: AwareDatetime) -> ProductState:
        """Return the state without what was changed for a version: of a new revision, also where nothing was."""
        overrides = _with_version(self.overrides, version, ThresholdOverrides())
        return self._changed(
            by, at, overrides=overrides, gate_limits=_with_version(self.gate_limits, version, GateOverrides())
        )

    @property
    def gate_on(self) -> bool:
        """Return whether the gate is used where a bundle has one: it is not switched off."""
        return self.gate is None or self.gate.on

    def gate_in_force(self, version: str, learnt: QualityGate) -> QualityGate:
        """Return the limits in force for a version's gate: learnt, unless overridden."""
        return self.gate_limits.get(version, GateOverrides()).over(learnt)

    def choose_pictures(self, when: PicturesWhen, *, by: str, at: AwareDatetime, note: str = "") -> ProductState:
        """Return the state with this choice of when pictures are drawn of parts that pass."""
        return self._changed(by, at, pictures=PicturesChoice(when=when, by=by, at=at, note=note))

    @property
    def pictures_when(self) -> PicturesWhen:
        """Return when pictures are drawn of parts that pass."""
        return "on_demand" if self.pictures is None else self.pictures.when

    def refuse_other_than(self, revision: int) -> None:
        """Check that this is the state of that revision.

        Raises:
            StateConflict: if it is not.
        """
        if self.revision != revision:
            raise StateConflict(
                f"product {self.product}: state is at revision {self.revision}, changed by {self.changed_by}; "
                f"yours was made from revision {revision}: read it again and repeat the change"
            )

    def to_bytes(self) -> bytes:
        """Return the bytes of the state file.

        What was never chosen is left out, so that versions of before there was a choice can read the file.
        """
        absent = {name for name in ("gate", "gate_limits", "pictures") if not getattr(self, name)}
        return (self.model_dump_json(indent=2, exclude=absent) + "\n").encode()

    def _path(self) -> list[str]:
        """Return the versions that led to the active one: an activation adds one, a rollback removes the last."""
        path: list[str] = []
        for activation in self.history:
            if activation.kind is ActivationKind.ROLLBACK:
                path = path[:-1]
            elif path[-1:] != [activation.version]:
                path.append(activation.version)
        return path

    def _activated(self, activation: Activation) -> ProductState:
        history = (*self.history, activation)[-_HISTORY_KEPT:]
        return self._changed(activation.by, activation.at, active=activation.version, history=history)

    def _changed(self, by: str, at: AwareDatetime, **changes: object) -> ProductState:
        fields = {**dict(self), **changes, "revision": self.revision + 1, "changed_by": by, "changed_at": at}
        return ProductState.model_validate(fields)


def _with_version(chosen: dict[str, Overrides], version: str, overrides: Overrides) -> dict[str, Overrides]:
    """Return the overrides of all versions, with these of one version; overrides that replace nothing are left out."""
    others = {name: kept for name, kept in chosen.items() if name != version}
    return others if overrides == type(overrides)() else {**others, version: overrides}


def read_state(folder: Path, product: str) -> ProductState:
    """Return the product's state; of revision 0 where nothing was changed yet.

    Raises:
        BadProductState: if the file cannot be read.
    """
    path = folder / STATE_NAME
    try:
        state = ProductState.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return ProductState(product=product)
    except (OSError, ValidationError) as error:
        raise BadProductState(
            f"{path}: not a readable product state: {error}. Restore it, or remove it to go back to the newest version"
        ) from error
    if state.product != product:
        raise BadProductState(f"{path}: state of product {state.product!r} in the folder of {product!r}: move it back")
    return state


def write_state(
    folder: Path,
    state: ProductState,
    record: Callable[[ProductState, ProductState], None] | None = None,
    check: Callable[[], None] | None = None,
) -> None:
    """Replace the state on disk, durably.

    Args:
        folder: of the product.
        state: to write.
        record: called before with the state on disk and the new one, while nobody else can change the product.
        check: called as the last thing before the state is replaced; what it raises leaves it as it is.

    Raises:
        StateConflict: if the state on disk is not of the revision just before `state`'s.
    """
    make_folder(folder)
    with locked(folder):
        before = read_state(folder, state.product)
        before.refuse_other_than(state.revision - 1)
        if record is not None:
            record(before, state)
        replace_file(folder / STATE_NAME, state.to_bytes(), check)


def write_default(folder: Path, product: str, version: str, *, at: AwareDatetime) -> ProductState:
    """Record a version as active, durably, unless one is already; return the state on disk."""
    make_folder(folder)
    with locked(folder):
        state = read_state(folder, product)
        if state.active is None:
            state = state.settle(version, at=at)
            replace_file(folder / STATE_NAME, state.to_bytes())
        return state


@contextmanager
def locked_state(folder: Path, product: str) -> Iterator[ProductState]:
    """Yield the product's state, which nobody else changes during the block.

    Raises:
        BadProductState: if the file cannot be read.
    """
    with locked(folder):
        yield read_state(folder, product)


def rewrite_state(folder: Path, state: ProductState) -> None:
    """Replace the state on disk, durably, within `locked_state`."""
    replace_file(folder / STATE_NAME, state.to_bytes())


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of one writer at a time, across processes; it ends with the process that holds it."""
    descriptor = os.open(folder / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
