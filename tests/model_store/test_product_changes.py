"""The record of a product's changes: complete, enough to undo them, and never telling of one that was not made."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from model_store.errors import StateConflict
from model_store.evaluations import change_of, last_recorded, recorded_for, write_evaluations
from model_store.product_changes import RECORD_NAME, add_changes, read_changes, record_change
from model_store.product_state import (
    STATE_NAME,
    GateOverrides,
    ProductState,
    ThresholdOverrides,
    read_state,
    write_state,
)
from tests.support.evaluations import measured_quality
from tests.support.gates import a_gate

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def at(minute: int) -> datetime:
    return NOON + timedelta(minutes=minute)


def write(folder: Path, state: ProductState, note: str = "") -> ProductState:
    """As `Store` does it."""
    write_state(folder, state, lambda before, after: record_change(folder, before, after, note=note))
    return state


def test_each_change_is_recorded_with_the_values_before(tmp_path: Path) -> None:
    state = write(tmp_path, ProductState(product="toy").activate("1", by="ann", at=at(0)), "first")
    state = write(tmp_path, state.override("1", ThresholdOverrides(fail=2), by="bob", at=at(1)))
    state = write(tmp_path, state.switch_gate(on=False, by="cem", at=at(2)), "new lamp")
    state = write(tmp_path, state.limit_gate("1", GateOverrides(darkest=20), by="dee", at=at(3)))
    found = read_changes(tmp_path, state)
    assert [(one.revision, one.kind, one.by, one.note) for one in found] == [
        (4, "gate_limits", "dee", ""),
        (3, "gate", "cem", "new lamp"),
        (2, "thresholds", "bob", ""),
        (1, "active", "ann", "first"),
    ]
    assert (found[0].version, found[0].before["darkest"], found[0].after["darkest"]) == ("1", None, 20)
    assert (found[1].before, found[1].after) == ({"on": True}, {"on": False})
    assert found[2].before == {"review": None, "fail": None, "pixel": None}
    assert (found[3].before, found[3].after) == ({"version": None}, {"version": "1"})


def test_a_note_with_a_line_separator_keeps_its_change(tmp_path: Path) -> None:
    # U+2028 comes along when text is copied out of a document; JSON holds it as it is, and it ends no line there.
    state = write(tmp_path, ProductState(product="toy").switch_gate(on=False, by="ann", at=at(0)), "new\u2028lamp")
    state = write(tmp_path, state.switch_gate(on=True, by="bob", at=at(1)))
    assert [(one.by, one.note) for one in read_changes(tmp_path, state)] == [("bob", ""), ("ann", "new\u2028lamp")]


def test_an_evaluation_that_was_recorded_as_a_change_and_is_not_there_is_left_out(tmp_path: Path) -> None:
    def write(minute: int, found: float, by: str, check: Callable[[], None] | None = None) -> None:
        figures = {"found": {"value": found, "low": 0, "high": 1}}
        measured = measured_quality("ab" * 32, figures=figures)
        new = recorded_for("ab" * 32, measured, by=by, at=at(minute))
        known = last_recorded(tmp_path).get(new.id)
        change = change_of(known, new, "1")
        write_evaluations(tmp_path, [new], record=lambda: add_changes(tmp_path, [change]), check=check)

    def refuse() -> None:
        raise OSError("no space left on the device")

    def told() -> list[tuple[str, object, object]]:
        times = {name: one.at for name, one in last_recorded(tmp_path).items()}
        found = read_changes(tmp_path, ProductState(product="toy"), times)
        return [(one.by, one.before["found"], one.after["found"]) for one in found]

    for minute, check, by in (
        (0, refuse, "ann"),
        (1, None, "bob"),
        (2, refuse, "cem"),
        (3, None, "dee"),
        (4, refuse, "eva"),
    ):
        with suppress(OSError):
            write(minute, minute / 10, by, check)
        if minute == 0:
            assert told() == []
    assert told() == [("dee", 0.1, 0.3), ("bob", None, 0.1)]


def test_a_change_that_was_recorded_and_not_made_is_left_out(tmp_path: Path) -> None:
    state = write(tmp_path, ProductState(product="toy").switch_gate(on=False, by="ann", at=at(0)))
    record_change(tmp_path, state, state.switch_gate(on=True, by="lost", at=at(1)), note="")  # then the power went
    assert [one.by for one in read_changes(tmp_path, state)] == ["ann"]
    state = write(tmp_path, state.override("1", ThresholdOverrides(fail=2), by="bob", at=at(2)))
    assert [one.by for one in read_changes(tmp_path, state)] == ["bob", "ann"]
    with pytest.raises(StateConflict):
        write(tmp_path, ProductState(product="toy").switch_gate(on=True, by="late", at=at(3)))
    assert [one.by for one in read_changes(tmp_path, read_state(tmp_path, "toy"))] == ["bob", "ann"]


def test_activations_of_before_there_was_a_record_are_listed(tmp_path: Path) -> None:
    old = ProductState(product="toy").activate("1", by="ann", at=at(0)).activate("2", by="bob", at=at(1))
    (tmp_path / STATE_NAME).write_bytes(old.to_bytes())
    state = write(tmp_path, old.roll_back(by="cem", at=at(2)))
    found = read_changes(tmp_path, state)
    assert [(one.revision, one.before["version"], one.after["version"]) for one in found] == [
        (3, "2", "1"),
        (None, "1", "2"),
        (None, None, "1"),
    ]


def test_lines_of_a_later_version_are_left_out(tmp_path: Path) -> None:
    state = write(tmp_path, ProductState(product="toy").switch_gate(on=False, by="ann", at=at(0)))
    record = tmp_path / RECORD_NAME
    record.write_text('{"kind": "moon"}\nhalf a li\n' + record.read_text())
    assert [one.by for one in read_changes(tmp_path, state)] == ["ann"]


def test_a_state_without_limits_is_written_as_before_there_were_any() -> None:
    assert b"gate_limits" not in ProductState(product="toy").to_bytes()
    lowered = ProductState(product="toy").limit_gate("1", GateOverrides(darkest=20), by="ann", at=NOON)
    assert b"gate_limits" in lowered.to_bytes()
    restored = lowered.limit_gate("1", GateOverrides(), by="ann", at=NOON)
    assert b"gate_limits" not in restored.to_bytes()


def test_limits_replace_those_that_were_learnt_and_0_asks_for_no_likeness() -> None:
    made = GateOverrides(darkest=20, likeness=0).over(a_gate())
    assert (made.darkest, made.brightest, made.likeness) == (20, 160, None)
    with pytest.raises(ValueError, match="every image would be stopped"):
        GateOverrides(darkest=161).over(a_gate())
