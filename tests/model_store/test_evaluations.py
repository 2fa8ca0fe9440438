"""Evaluations beside the bundles: of one bundle and one data set, without a change of the bundle, and removable."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner, Result

from model_store.cli.bundle import app
from model_store.errors import EvaluationNotInStore, EvaluationOfAnother
from model_store.evaluations import EVALUATIONS_NAME, MOST_KEPT, MeasuredQuality, evaluations_of
from model_store.store import Store
from service.maintenance.backup.trees import files_of
from tests.support.bundles import new_version
from tests.support.evaluations import measured_quality

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def store(sound_bundle: Path, tmp_path: Path) -> Store:
    opened = Store(tmp_path / "data/store")
    opened.publish(sound_bundle)
    return opened


def glad(store: Store, *words: str) -> Result:
    """`glad bundle ...` in this store."""
    return CliRunner().invoke(app, [*words, "--store", str(store.root)])


def test_an_evaluation_is_kept_beside_the_bundle_and_changes_neither_hash_nor_revision(store: Store) -> None:
    before, revision = store.resolve("toy"), store.state("toy").revision
    store.record_evaluation(before, measured_quality(before.hash), by="ann", note="first", at=NOON)
    after = store.resolve("toy")
    assert (after.hash, store.state("toy").revision) == (before.hash, revision)
    after.open()  # every file is still what the manifest names
    [found] = store.evaluations(after)
    assert (found.by, found.at, found.note, found.data.name) == ("ann", NOON, "first", "plant")
    assert found.figures.image_auroc is not None
    assert found.figures.image_auroc.value == 0.97
    assert store.problems() == ()
    assert f"toy/{EVALUATIONS_NAME}" in list(files_of(store.root))  # a backup takes it along


def test_a_data_set_has_one_evaluation_and_the_latest_measurement_comes_first(store: Store) -> None:
    ref = store.resolve("toy")
    for number, data in enumerate(("a", "b", "a")):
        measured = measured_quality(ref.hash, data=data, at=NOON + timedelta(minutes=number))
        store.record_evaluation(ref, measured, by=f"person {number}")
    assert [(one.data.name, one.by) for one in store.evaluations(ref)] == [("a", "person 2"), ("b", "person 1")]


def test_an_evaluation_of_another_bundle_is_refused(store: Store, sound_bundle: Path, tmp_path: Path) -> None:
    other = store.publish(new_version(sound_bundle, tmp_path / "made/toy/2").path)
    with pytest.raises(EvaluationOfAnother, match=f"measured of the bundle {other.hash[:12]}"):
        store.record_evaluation(store.resolve("toy"), measured_quality(other.hash), by="ann")
    store.record_evaluation(other, measured_quality(other.hash), by="ann")
    assert (store.evaluations(store.resolve("toy")), len(store.evaluations(other))) == ((), 1)


def test_publishing_a_bundle_takes_along_what_was_measured_of_it_but_not_over_what_is_there(
    bundle_folder: Path, tmp_path: Path
) -> None:
    made, target = Store(bundle_folder.parent.parent), Store(tmp_path / "target")
    ref = made.resolve("toy")
    made.record_evaluation(ref, measured_quality(ref.hash, data="a"), by="ann")
    made.record_evaluation(ref, measured_quality(ref.hash, data="b"), by="ann")
    [gone] = [one.id for one in made.evaluations(ref) if one.data.name == "b"]
    made.remove_evaluation(ref, gone, by="ann")
    published = target.publish(bundle_folder)
    assert [one.data.name for one in target.evaluations(published)] == ["a"]
    target.record_evaluation(published, measured_quality(ref.hash, data="a"), by="bob")
    target.publish(bundle_folder)
    assert [one.by for one in target.evaluations(published)] == ["bob"]


def test_what_ships_is_shown_until_it_is_removed_and_recording_it_again_brings_it_back(
    bundle_folder: Path, tmp_path: Path
) -> None:
    made, store = Store(bundle_folder.parent.parent), Store(tmp_path / "own", shipped=bundle_folder.parent.parent)
    made.record_evaluation(made.resolve("toy"), measured_quality(made.resolve("toy").hash), by="the makers")
    ref = store.resolve("toy")
    [shipped] = store.evaluations(ref)
    store.remove_evaluation(ref, shipped.id, by="bob", at=NOON)
    assert store.evaluations(ref) == ()
    with pytest.raises(EvaluationNotInStore, match="nothing was measured of it"):
        store.remove_evaluation(ref, shipped.id, by="bob")
    [line] = (store.root / "toy" / EVALUATIONS_NAME).read_text().splitlines()
    assert json.loads(line)["removed"] == {"by": "bob", "at": "2026-05-01T12:00:00Z"}
    store.activate("toy", "1", by="bob")  # copies what ships, and not what was removed
    assert store.evaluations(ref) == ()
    store.record_evaluation(ref, shipped, by="bob")
    assert [one.by for one in store.evaluations(ref)] == ["bob"]


def test_lines_of_a_later_version_stay_and_the_file_does_not_grow_without_end(store: Store) -> None:
    ref, file = store.resolve("toy"), store.root / "toy" / EVALUATIONS_NAME
    file.write_text('{"kind": "of a later version"}\n')
    store.record_evaluation(ref, measured_quality(ref.hash, data="line\u2028end"), by="ann")
    assert file.read_text().split("\n")[0] == '{"kind": "of a later version"}'
    assert [one.data.name for one in store.evaluations(ref)] == ["line\u2028end"]
    line = file.read_text().split("\n")[0]
    file.write_text(f"{line}\n" * (MOST_KEPT + 50))
    store.record_evaluation(ref, measured_quality(ref.hash, data="last"), by="ann")
    assert len(file.read_text().splitlines()) == MOST_KEPT
    assert [one.data.name for one in store.evaluations(ref)] == ["last"]


def test_a_product_takes_its_evaluations_with_it_and_a_broken_file_costs_nothing_else(store: Store) -> None:
    ref = store.resolve("toy")
    (store.root / "toy" / EVALUATIONS_NAME).write_bytes(b"\xff\xfe no JSON")
    assert store.evaluations(ref) == ()
    assert store.resolve("toy").hash == ref.hash
    assert glad(store, "remove", "toy", "--yes").exit_code == 0
    assert not (store.root / "toy").exists()
    assert evaluations_of(ref.hash, [store.root / "toy"]) == ()


@pytest.mark.parametrize(
    "wrong",
    [
        {"figures": {}},
        {"figures": {"pro": {"value": 1.2, "low": 0, "high": 1}}},
        {"figures": {"pro": {"value": float("nan"), "low": 0, "high": 1}}},
        {"data": {"name": "", "fingerprint": "0" * 64, "good": 1, "defect": 0}},
        {"bundle": "7"},
    ],
)
def test_what_no_evaluation_can_say_is_refused(wrong: dict[str, Any]) -> None:
    sound = measured_quality("0" * 64).model_dump()
    assert MeasuredQuality.model_validate(sound)
    with pytest.raises(ValidationError):
        MeasuredQuality.model_validate({**sound, **wrong})


def test_a_file_of_an_evaluation_is_recorded_listed_and_removed_by_a_command(store: Store, tmp_path: Path) -> None:
    ref = store.resolve("toy")
    measured, file = measured_quality(ref.hash), tmp_path / "evaluation.json"
    file.write_text(json.dumps({"images": {}, "record": measured.model_dump(mode="json")}))
    added = glad(store, "evaluations", "toy", "--add", str(file), "--by", "ann", "--note", "week 48")
    assert added.exit_code == 0, added.output
    assert "plant: 40 good and 20 defective images" in added.output
    assert "I-AUROC        0.970 [0.950, 0.985]   yardstick 0.900 [0.850, 0.940]" in added.output
    assert "recorded by ann: week 48" in added.output
    assert "measured     " in glad(store, "show", "toy").output
    listed = json.loads(glad(store, "evaluations", "toy", "--json").output)
    assert [one["id"] for one in listed["evaluations"]] == [measured.id]
    removed = glad(store, "evaluations", "toy", "--remove", measured.id)
    assert "nothing was measured of it: glad evaluate toy --data DIR --record" in removed.output
    again = glad(store, "evaluations", "toy", "--remove", measured.id)
    assert (again.exit_code, "has no evaluation" in " ".join(again.output.split())) == (1, True)
    file.write_text("{}")
    wrong = glad(store, "evaluations", "toy", "--add", str(file))
    assert (wrong.exit_code, "holds no evaluation" in " ".join(wrong.output.split())) == (1, True)
