"""A store lists what can be used, resolves what was chosen, and hides nothing that broke."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from model_store.bundle import open_bundle
from model_store.errors import (
    BadProductState,
    BrokenBundle,
    BundleExists,
    HashMismatch,
    NotCalibrated,
    NothingToRollBack,
    ProductNotInStore,
    StateConflict,
    UnsupportedStore,
    VersionNotInStore,
)
from model_store.manifest import MANIFEST_NAME, VerdictThresholds
from model_store.product_state import STATE_NAME, ActivationKind, ProductState, ThresholdOverrides, write_state
from model_store.store import SHIPPED_BUNDLES, Store
from tests.support.bundles import new_version

OLD, NEW = datetime(2025, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
WEIGHTS = "features/model.safetensors"


@pytest.fixture
def store(sound_bundle: Path, tmp_path: Path) -> Store:
    """Versions by age: 0 (2025), 1 (2026), 2 (2027)."""
    root = tmp_path / "root"
    shutil.copytree(sound_bundle, root / "toy" / "1")
    new_version(sound_bundle, root / "toy" / "2", created_at=NEW)
    new_version(sound_bundle, root / "toy" / "0", created_at=OLD)
    return Store(root)


def test_an_absent_root_is_an_empty_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "none")
    assert (store.products(), store.problems(), store.versions("toy")) == ((), (), ())
    with pytest.raises(ProductNotInStore, match="glad bundle publish"):
        store.resolve("toy")


def test_versions_are_listed_newest_first(store: Store) -> None:
    assert [ref.version for ref in store.versions("toy")] == ["2", "1", "0"]


def test_the_newest_is_active_where_nobody_has_chosen(store: Store) -> None:
    """As it was before there were records: an upgrade keeps what was active."""
    assert store.resolve("toy").version == "2"


def test_no_later_version_becomes_active_unasked(sound_bundle: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "root")
    store.publish(sound_bundle)
    store.publish(new_version(sound_bundle, tmp_path / "toy" / "2", created_at=NEW).path)
    assert (store.resolve("toy").version, store.state("toy").revision) == ("1", 0)
    assert [(one.version, one.kind) for one in store.state("toy").history] == [("1", ActivationKind.DEFAULT)]
    store.activate("toy", "2", by="ann")
    assert store.roll_back("toy", by="ann").active == "1"


def test_a_version_written_past_publishing_does_not_become_active_unasked(store: Store, sound_bundle: Path) -> None:
    assert store.resolve("toy").version == "2"
    new_version(sound_bundle, store.root / "toy" / "3", created_at=datetime(2028, 1, 1, tzinfo=UTC))
    assert [Store(store.root, records=records).resolve("toy").version for records in (True, False)] == ["2", "2"]


def test_an_upgrade_of_the_package_keeps_what_was_active(sound_bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(sound_bundle, tmp_path / "old" / "toy" / "1")
    new_version(sound_bundle, tmp_path / "new" / "toy" / "2", created_at=NEW)
    before = Store(tmp_path / "root", shipped=tmp_path / "old").resolve("toy")
    shutil.rmtree(tmp_path / "old")
    after = Store(tmp_path / "root", shipped=tmp_path / "new")
    assert (after.resolve("toy").hash, after.resolve("toy").open().manifest) == (before.hash, before.manifest)
    assert [ref.version for ref in after.versions("toy")] == ["2", "1"]


def test_an_upgrade_keeps_a_shipped_version_that_was_activated_before_there_were_records(
    sound_bundle: Path, tmp_path: Path
) -> None:
    shutil.copytree(sound_bundle, tmp_path / "old" / "toy" / "1")
    write_state(tmp_path / "root" / "toy", ProductState(product="toy").activate("1", by="ann", at=OLD))
    Store(tmp_path / "root", shipped=tmp_path / "old").resolve("toy")
    assert Store(tmp_path / "root", shipped=tmp_path / "new").resolve("toy").version == "1"


def test_what_was_active_stays_active_when_the_first_change_is_another(store: Store, sound_bundle: Path) -> None:
    store.override("toy", "2", ThresholdOverrides(fail=9), by="ann")
    new_version(sound_bundle, store.root / "toy" / "3", created_at=datetime(2028, 1, 1, tzinfo=UTC))
    assert Store(store.root, records=False).resolve("toy").version == "2"


def test_who_only_reads_records_nothing(store: Store) -> None:
    assert Store(store.root, records=False).resolve("toy").version == "2"
    assert not (store.root / "toy" / STATE_NAME).exists()


def test_a_store_that_cannot_be_written_still_says_what_is_active_and_says_once_that_nothing_is_recorded(
    sound_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "root").symlink_to(tmp_path / "not mounted")
    shutil.copytree(sound_bundle, tmp_path / "shipped" / "toy" / "1")
    store = Store(tmp_path / "root", shipped=tmp_path / "shipped")
    with capture_logs() as logs:
        assert [store.resolve("toy").version for _ in range(2)] == ["1", "1"]
    assert [entry["event"] for entry in logs] == ["active_version_not_recorded"]


def test_no_shipped_version_and_no_calibrated_threshold_decides_while_the_store_is_away(
    sound_bundle: Path, tmp_path: Path
) -> None:
    root, away = tmp_path / "root", tmp_path / "away"
    shutil.copytree(sound_bundle, tmp_path / "shipped" / "toy" / "1")
    store = Store(root, shipped=tmp_path / "shipped")
    store.publish(new_version(sound_bundle, tmp_path / "made" / "toy" / "2", created_at=NEW).path)
    store.activate("toy", "2", by="ann")
    store.override("toy", "2", ThresholdOverrides(fail=9), by="ann")
    chosen = store.resolve("toy")
    root.rename(away)
    with pytest.raises(BadProductState, match="was there and is gone"):
        store.resolve("toy")
    with pytest.raises(BadProductState, match="bring it back"):
        store.thresholds(chosen)
    assert not root.exists()
    away.rename(root)
    assert (store.resolve("toy").version, store.thresholds(chosen).fail) == ("2", 9)


def test_a_resolved_bundle_carries_hash_manifest_and_path(store: Store) -> None:
    ref = store.resolve("toy", "1")
    bundle = open_bundle(ref.path)
    assert (ref.product, ref.version, ref.hash, ref.manifest) == ("toy", "1", bundle.hash, bundle.manifest)
    assert ref.open() == bundle


def test_the_chosen_version_stays_active_when_a_newer_one_is_published(store: Store, tmp_path: Path) -> None:
    store.activate("toy", "1", by="ann")
    newest = new_version(store.resolve("toy", "1").path, tmp_path / "toy" / "3", created_at=datetime.now(UTC))
    store.publish(newest.path)
    assert store.resolve("toy").version == "1"


def test_a_rollback_returns_to_what_was_active_before(store: Store) -> None:
    store.activate("toy", "0", by="ann")
    store.activate("toy", "1", by="ann")
    assert [store.roll_back("toy", by="ann").active for _ in range(2)] == ["0", "2"]
    with pytest.raises(NothingToRollBack):
        store.roll_back("toy", by="ann")


def test_another_process_sees_the_change_at_once(store: Store) -> None:
    other = Store(store.root)
    assert other.resolve("toy").version == "2"
    store.activate("toy", "0", by="ann")
    assert other.resolve("toy").version == "0"


def test_an_unknown_version_names_the_known_ones(store: Store) -> None:
    with pytest.raises(VersionNotInStore, match="2, 1, 0"):
        store.resolve("toy", "9")


def test_an_unknown_product_names_the_known_ones(store: Store) -> None:
    with pytest.raises(ProductNotInStore, match="known: toy"):
        store.resolve("other")


def test_an_unknown_product_is_told_without_a_look_into_the_others(store: Store) -> None:
    (store.root / "broken" / "1").mkdir(parents=True)
    (store.root / "broken" / "1" / "manifest.json").write_text("{")
    assert store.products() == ("toy",)
    # Of a product whose files hang nobody else may wait, so it is told by its folder.
    with pytest.raises(ProductNotInStore, match="known: broken, toy"):
        store.resolve("other")


@pytest.mark.parametrize("name", ["../toy", "/etc", "", "Toy", "a/b"])
def test_no_name_leads_out_of_the_store(store: Store, name: str) -> None:
    assert store.versions(name) == ()
    with pytest.raises(ProductNotInStore, match="not allowed"):
        store.resolve(name)
    with pytest.raises(VersionNotInStore, match="not allowed"):
        store.resolve("toy", name)


def test_a_broken_bundle_is_left_out_logged_once_and_named(store: Store) -> None:
    (store.root / "toy" / "2" / WEIGHTS).unlink()
    with capture_logs() as logs:
        assert [ref.version for ref in store.versions("toy")] == ["1", "0"]
        assert store.resolve("toy").version == "1"
    assert [entry["event"] for entry in logs] == ["bundle ignored"]
    assert WEIGHTS in logs[0]["reason"]
    (problem,) = store.problems()
    assert problem.path == store.root / "toy" / "2"


def test_a_chosen_version_that_broke_is_an_error_never_another_version(store: Store) -> None:
    store.activate("toy", "1", by="ann")
    (store.root / "toy" / "1" / WEIGHTS).unlink()
    with pytest.raises(BrokenBundle, match=WEIGHTS):
        store.resolve("toy")
    shutil.rmtree(store.root / "toy" / "1")
    with pytest.raises(VersionNotInStore):
        store.resolve("toy")


def test_a_product_whose_only_bundle_is_broken_says_why(bundle_folder: Path) -> None:
    (bundle_folder / MANIFEST_NAME).write_text("{")
    store = Store(bundle_folder.parents[1])
    assert store.products() == ()
    with pytest.raises(BrokenBundle, match="Invalid JSON"):
        store.resolve("toy")


def test_altered_weights_of_the_same_size_are_found_when_the_bundle_is_opened(store: Store) -> None:
    ref = store.resolve("toy", "1")
    weights = ref.path / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    assert store.resolve("toy", "1") == ref
    with pytest.raises(HashMismatch):
        ref.open()


def test_altered_weights_are_not_activated(store: Store) -> None:
    weights = store.root / "toy" / "1" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    with pytest.raises(BrokenBundle):
        store.activate("toy", "1", by="ann")
    assert store.state("toy").revision == 0


def test_a_bundle_replaced_in_place_after_it_was_resolved_is_refused(store: Store, sound_bundle: Path) -> None:
    ref = store.resolve("toy", "2")
    shutil.rmtree(ref.path)
    new_version(sound_bundle, ref.path, created_at=NEW, title="another")
    with pytest.raises(HashMismatch, match="replaced in place"):
        ref.open()


def test_a_bundle_in_the_wrong_folder_is_left_out(store: Store) -> None:
    (store.root / "toy" / "1").rename(store.root / "toy" / "9")
    assert [ref.version for ref in store.versions("toy")] == ["2", "0"]
    (problem,) = store.problems()
    assert "move the bundle to toy/1" in problem.reason.lower()


def test_a_link_out_of_the_store_is_not_followed(store: Store, sound_bundle: Path) -> None:
    shutil.rmtree(store.root / "toy" / "1")
    (store.root / "toy" / "1").symlink_to(sound_bundle)
    assert [ref.version for ref in store.versions("toy")] == ["2", "0"]
    with pytest.raises(BrokenBundle, match="link"):
        store.resolve("toy", "1")


def test_stray_files_disturb_nothing_and_stray_folders_are_named(store: Store) -> None:
    (store.root / "README").write_text("x")
    (store.root / "toy" / "notes.txt").write_text("x")
    (store.root / "toy" / ".1.abc.tmp").mkdir()
    (store.root / "Not A Name").mkdir()
    assert store.products() == ("toy",)
    assert [problem.path.name for problem in store.problems()] == ["Not A Name"]


def test_publishing_adds_a_version_in_one_step(sound_bundle: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "new" / "root")
    published = store.publish(sound_bundle)
    assert published == store.resolve("toy")
    assert published.path == tmp_path / "new" / "root" / "toy" / "1"


def test_shipped_bundles_lie_beneath_the_root_and_are_never_written(sound_bundle: Path, tmp_path: Path) -> None:
    shipped = tmp_path / "shipped"
    shutil.copytree(sound_bundle, shipped / "toy" / "1")
    before = sorted(shipped.rglob("*"))
    store = Store(tmp_path / "root", shipped=shipped)
    store.publish(new_version(sound_bundle, tmp_path / "toy" / "2", created_at=NEW).path)
    assert [ref.version for ref in store.versions("toy")] == ["2", "1"]
    store.activate("toy", "1", by="ann")
    assert store.resolve("toy").version == "1"
    assert sorted(shipped.rglob("*")) == before


def test_a_shipped_version_cannot_be_published_with_other_content(sound_bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(sound_bundle, tmp_path / "shipped" / "toy" / "1")
    other = new_version(sound_bundle, tmp_path / "toy" / "1", title="another")
    with pytest.raises(BundleExists, match="new version"):
        Store(tmp_path / "root", shipped=tmp_path / "shipped").publish(other.path)


def test_a_bundle_that_covers_a_shipped_one_wins_and_the_covering_is_named(sound_bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(sound_bundle, tmp_path / "shipped" / "toy" / "1")
    upper = new_version(sound_bundle, tmp_path / "root" / "toy" / "1", title="another")
    store = Store(tmp_path / "root", shipped=tmp_path / "shipped")
    assert store.resolve("toy").hash == upper.hash
    (problem,) = store.problems()
    assert problem.path == tmp_path / "shipped" / "toy" / "1"
    (upper.path / WEIGHTS).unlink()
    assert store.versions("toy") == ()
    with pytest.raises(BrokenBundle):
        store.resolve("toy", "1")


def test_overrides_are_in_force_for_their_version_alone(store: Store) -> None:
    store.override("toy", "2", ThresholdOverrides(fail=9), by="ann")
    assert store.thresholds(store.resolve("toy", "2")) == VerdictThresholds(review=0.5, fail=9, pixel=1)
    assert store.thresholds(store.resolve("toy", "1")) == VerdictThresholds(review=0.5, fail=1, pixel=1)


def test_a_change_made_for_another_revision_is_refused_and_changes_nothing(store: Store) -> None:
    store.override("toy", "2", ThresholdOverrides(fail=9), by="ann", revision=0)
    changes: tuple[Callable[[], object], ...] = (
        lambda: store.override("toy", "2", ThresholdOverrides(fail=8), by="bob", revision=0),
        lambda: store.activate("toy", "1", by="bob", revision=0),
        lambda: store.roll_back("toy", by="bob", revision=2),
    )
    for change in changes:
        with pytest.raises(StateConflict, match="revision 1, changed by ann"):
            change()
    assert store.state("toy").revision == 1


def test_an_override_that_lifts_review_above_fail_is_refused(store: Store) -> None:
    with pytest.raises(BadProductState, match="lies above"):
        store.override("toy", "2", ThresholdOverrides(review=2), by="ann")


def test_an_unreadable_state_is_named_and_not_guessed_around(store: Store) -> None:
    (store.root / "toy" / STATE_NAME).write_text("{")
    with pytest.raises(BadProductState):
        store.resolve("toy")
    assert store.resolve("toy", "1").version == "1"
    (problem,) = store.problems()
    assert STATE_NAME in problem.reason


def test_a_file_url_names_a_local_store(store: Store) -> None:
    assert Store(f"file://{store.root}").products() == Store(str(store.root)).products() == ("toy",)


def test_a_remote_address_is_refused_with_the_way_out() -> None:
    with pytest.raises(UnsupportedStore, match="mount"):
        Store("s3://bucket/store")


def test_every_shipped_bundle_is_sound() -> None:
    store = Store(SHIPPED_BUNDLES, records=False)
    assert store.problems() == ()
    for product in store.products():
        for ref in store.versions(product):
            ref.open()


@pytest.fixture
def draft(sound_bundle: Path, tmp_path: Path) -> Path:
    """A bundle that nobody has calibrated, newer than all others."""
    return new_version(sound_bundle, tmp_path / "made" / "toy" / "draft", calibration=None, created_at=NEW).path


def test_a_bundle_that_is_not_calibrated_is_never_active(sound_bundle: Path, draft: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "root")
    published = store.publish(draft)
    assert (store.products(), store.versions("toy"), store.drafts()) == ((), (), (published,))
    with pytest.raises(NotCalibrated, match="glad calibrate"):
        store.resolve("toy")
    store.publish(sound_bundle)
    assert store.products() == ("toy",)
    assert store.resolve("toy").version == "1"
    with pytest.raises(NotCalibrated):
        store.activate("toy", "draft", by="ann")
    assert store.state("toy").revision == 0


def test_a_bundle_that_is_not_calibrated_is_found_by_name_and_is_no_problem(draft: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "root")
    store.publish(draft)
    ref = store.resolve("toy", "draft")
    assert ref.open().manifest.calibration is None
    assert store.problems() == ()
    for use in (lambda: store.thresholds(ref), lambda: store.override("toy", "draft", ThresholdOverrides(), by="ann")):
        with pytest.raises(NotCalibrated):
            use()
    with pytest.raises(VersionNotInStore, match="use one of draft"):
        store.resolve("toy", "9")
