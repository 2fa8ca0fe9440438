"""A product's state: values, history, and writes that lose no change."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from model_store.errors import BadProductState, NothingToRollBack, StateConflict
from model_store.manifest import Calibration, VerdictThresholds
from model_store.product_state import (
    STATE_NAME,
    GateSwitch,
    PicturesChoice,
    ProductState,
    ThresholdOverrides,
    read_state,
    write_state,
)

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
CALIBRATION = Calibration(review=1, fail=2, pixel=3, pixel_quantile=0.99, good_images=1, good_scores=(0.5,))


def activated(*versions: str) -> ProductState:
    state = ProductState(product="toy")
    for version in versions:
        state = state.activate(version, by="ann", at=NOON)
    return state


def test_a_change_returns_a_new_state_and_leaves_the_old_one() -> None:
    before = ProductState(product="toy")
    after = before.activate("1", by="ann", at=NOON, note="first")
    assert (before.active, before.revision) == (None, 0)
    assert (after.active, after.revision, after.changed_by, after.changed_at) == ("1", 1, "ann", NOON)
    assert after.history[-1].note == "first"


def test_rolling_back_twice_goes_two_versions_back_not_back_and_forth() -> None:
    state = activated("a", "b", "c")
    once = state.roll_back(by="bob", at=NOON)
    twice = once.roll_back(by="bob", at=NOON)
    assert (once.active, twice.active) == ("b", "a")
    assert [entry.version for entry in twice.history] == ["a", "b", "c", "b", "a"]


def test_after_a_rollback_and_a_new_activation_the_way_back_leaves_the_bad_version_out() -> None:
    state = activated("a", "b").roll_back(by="bob", at=NOON).activate("c", by="bob", at=NOON)
    assert state.roll_back(by="bob", at=NOON).active == "a"


def test_activating_the_active_version_again_adds_no_step_to_the_way_back() -> None:
    assert activated("a", "b", "b").roll_back(by="bob", at=NOON).active == "a"


def test_there_is_no_way_back_from_the_first_version() -> None:
    with pytest.raises(NothingToRollBack, match="glad bundle activate toy"):
        activated("a").roll_back(by="bob", at=NOON)


def test_the_version_in_use_before_anybody_chose_is_where_a_rollback_leads() -> None:
    state = ProductState(product="toy").settle("newest", at=NOON).activate("old", by="ann", at=NOON)
    assert state.roll_back(by="ann", at=NOON).active == "newest"


def test_thresholds_are_the_calibrated_ones_but_where_overridden() -> None:
    state = ProductState(product="toy").override("1", ThresholdOverrides(fail=5), by="ann", at=NOON)
    assert state.thresholds("1", CALIBRATION) == VerdictThresholds(review=1, fail=5, pixel=3)
    assert state.thresholds("2", CALIBRATION) == VerdictThresholds(review=1, fail=2, pixel=3)


def test_empty_overrides_restore_the_calibration() -> None:
    state = ProductState(product="toy").override("1", ThresholdOverrides(fail=5), by="ann", at=NOON)
    restored = state.override("1", ThresholdOverrides(), by="ann", at=NOON)
    assert restored.overrides == {}
    assert restored.revision == 2


def test_an_override_that_lifts_review_above_fail_is_refused() -> None:
    with pytest.raises(ValidationError, match="lies above"):
        ThresholdOverrides(review=2.5).over(CALIBRATION)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_threshold_is_a_number(value: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        ThresholdOverrides(review=value)


def test_the_history_is_bounded() -> None:
    assert len(activated(*(f"v{number}" for number in range(250))).history) == 200


def test_a_written_state_is_read_back(tmp_path: Path) -> None:
    state = activated("a")
    write_state(tmp_path, state)
    assert read_state(tmp_path, "toy") == state


def test_no_file_means_that_nobody_has_chosen(tmp_path: Path) -> None:
    assert read_state(tmp_path, "toy") == ProductState(product="toy")


def test_a_change_made_from_an_old_revision_is_refused(tmp_path: Path) -> None:
    write_state(tmp_path, activated("a"))
    with pytest.raises(StateConflict, match="revision 1, changed by ann"):
        write_state(tmp_path, activated("b"))
    assert read_state(tmp_path, "toy").active == "a"


def test_of_many_writers_at_once_one_wins_and_the_others_know(tmp_path: Path) -> None:
    def attempt(number: int) -> bool:
        try:
            write_state(tmp_path, activated(f"v{number}"))
        except StateConflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(8))) == 1
    assert read_state(tmp_path, "toy").revision == 1


@pytest.mark.parametrize("content", ["", "{}", '{"product": "toy", "surprise": 1}', '{"product": "other"}'])
def test_an_unreadable_state_is_an_error_not_a_default(tmp_path: Path, content: str) -> None:
    (tmp_path / STATE_NAME).write_text(content)
    with pytest.raises(BadProductState, match=STATE_NAME):
        read_state(tmp_path, "toy")


def test_the_gate_is_on_until_somebody_switches_it_off_and_that_is_remembered(tmp_path: Path) -> None:
    state = read_state(tmp_path, "toy")
    assert state.gate_on
    assert b"gate" not in state.to_bytes()  # nobody has switched it: older versions can read the state
    off = state.switch_gate(on=False, by="ann", at=NOON, note="new lamp")
    write_state(tmp_path, off)
    read = read_state(tmp_path, "toy")
    assert not read.gate_on
    assert read.gate == GateSwitch(on=False, by="ann", at=NOON, note="new lamp")
    assert read.switch_gate(on=True, by="bob", at=NOON).gate_on


def test_pictures_of_good_parts_are_drawn_on_demand_until_somebody_chooses_otherwise(tmp_path: Path) -> None:
    state = read_state(tmp_path, "toy")
    assert state.pictures_when == "on_demand"
    assert b"pictures" not in state.to_bytes()  # nobody has chosen: older versions can read the state
    write_state(tmp_path, state.choose_pictures("always", by="ann", at=NOON, note="audit"))
    read = read_state(tmp_path, "toy")
    assert read.pictures == PicturesChoice(when="always", by="ann", at=NOON, note="audit")
    assert (read.pictures_when, read.revision) == ("always", 1)
    assert read.choose_pictures("on_demand", by="bob", at=NOON).pictures_when == "on_demand"
