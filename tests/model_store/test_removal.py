"""Out of the store: what is in use stays, what others share stays, and the rest is gone in one step."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from model_store.bundle import open_bundle
from model_store.cli.bundle import app
from model_store.errors import ProductNotInStore, StateConflict, VersionNotInStore
from model_store.product_state import ThresholdOverrides
from model_store.removal import RemovalRefused, plan_removal, remove
from model_store.store import Store
from tests.support.bundles import new_version


@pytest.fixture
def store(sound_bundle: Path, tmp_path: Path) -> Store:
    """Versions 1 (active), 2 and 3 of the product toy, which share their weights."""
    opened = Store(tmp_path / "data/store")
    opened.publish(sound_bundle)
    for version in ("2", "3"):
        opened.publish(new_version(sound_bundle, tmp_path / f"made/toy/{version}").path)
    return opened


def glad(store: Store, *words: str) -> Result:
    """`glad bundle remove` in this store."""
    return CliRunner().invoke(app, ["remove", *words, "--store", str(store.root)])


def test_a_version_goes_and_the_others_stay_whole(store: Store) -> None:
    done = glad(store, "toy", "2", "--yes")
    assert done.exit_code == 0, done.output
    assert [ref.version for ref in store.versions("toy")] == ["3", "1"]
    assert {path.name for path in (store.root / "toy").iterdir() if path.is_dir()} == {"1", "3"}
    for ref in store.versions("toy"):
        open_bundle(ref.path)
    # What is freed is the manifest alone: versions 1 and 3 have all weights, too.
    assert plan_removal(store, "toy", "3").freed_bytes == (store.root / "toy/3/manifest.json").stat().st_size


def test_the_active_version_stays(store: Store) -> None:
    done = glad(store, "toy/1", "--yes")
    assert done.exit_code == 1
    assert "toy 1 is active: activate another version first" in " ".join(done.output.split())
    planned = plan_removal(store, "toy", "2")
    store.activate("toy", "2", by="ann")  # between the question and the answer
    with pytest.raises(RemovalRefused, match="activated meanwhile"):
        remove(store, planned, by="bob")
    assert [ref.version for ref in store.versions("toy")] == ["3", "2", "1"]


def test_thresholds_of_a_version_go_with_it_and_the_state_has_a_new_revision(store: Store) -> None:
    store.override("toy", "2", ThresholdOverrides(fail=2.0), by="ann")
    before = store.state("toy")
    remove(store, plan_removal(store, "toy", "2"), by="bob")
    after = store.state("toy")
    assert (after.overrides, after.active, after.history) == ({}, before.active, before.history)
    assert (after.revision, after.changed_by) == (before.revision + 1, "bob")
    with pytest.raises(StateConflict):
        store.activate("toy", "3", by="ann", revision=before.revision)


def test_a_product_goes_with_all_that_belongs_to_it(store: Store) -> None:
    whole = plan_removal(store, "toy")
    assert whole.versions == ("1", "2", "3")
    done = glad(store, "toy", "--yes")
    assert done.exit_code == 0, done.output
    assert list(store.root.iterdir()) == []
    assert store.products() == ()
    with pytest.raises(ProductNotInStore):
        plan_removal(store, "toy")


def test_nothing_goes_without_a_yes(store: Store) -> None:
    done = glad(store, "toy")
    assert done.exit_code == 1
    said = " ".join(done.output.split())
    assert "nothing was removed: Remove product toy with versions 1, 2, 3, its thresholds and its history?" in said
    assert "Add --yes" in said
    assert len(store.versions("toy")) == 3


def test_what_ships_with_the_package_stays(store: Store, sound_bundle: Path, tmp_path: Path) -> None:
    above = Store(store.root, shipped=sound_bundle.parents[1])
    with pytest.raises(RemovalRefused, match="ships with the package, and so cannot be removed"):
        plan_removal(above, "toy")
    assert plan_removal(above, "toy", "2").versions == ("2",)
    with pytest.raises(ProductNotInStore, match="'toy' ships with the package: only what is published"):
        plan_removal(Store(tmp_path / "empty", shipped=sound_bundle.parents[1]), "toy")


def test_what_is_not_there_is_told_with_what_is(store: Store) -> None:
    with pytest.raises(VersionNotInStore, match="no version '4' of toy: use one of 1, 2, 3"):
        plan_removal(store, "toy", "4")
    with pytest.raises(ProductNotInStore, match="product 'car' does not lie there"):
        plan_removal(store, "car")
