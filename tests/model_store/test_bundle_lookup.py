"""A bundle is meant by a product's name, by `product/version`, or by a folder; a wrong word is told the right ones."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from model_store.bundle_lookup import find_bundle
from model_store.errors import NoSuchBundle, ProductNotInStore, VersionNotInStore
from model_store.store import Store
from tests.support.bundles import new_version


@pytest.fixture
def store(bundle_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Store:
    """A store of toy 1 and toy 2, 1 active; the working folder is `work`."""
    opened = Store(bundle_folder.parent.parent)
    opened.activate("toy", "1", by="ann")
    new_version(bundle_folder, bundle_folder.parent / "2", created_at=datetime(2027, 1, 1, tzinfo=UTC))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return opened


@pytest.mark.parametrize(("given", "version"), [("toy", "1"), ("toy/", "1"), ("toy/2", "2"), ("toy/1", "1")])
def test_a_product_is_its_active_version_or_the_one_that_is_named(store: Store, given: str, version: str) -> None:
    found = find_bundle(given, store)
    assert (found.ref.version, found.in_store) == (version, True)


def test_a_version_may_stand_beside_the_product_but_not_twice(store: Store) -> None:
    assert find_bundle("toy", store, "2").ref.version == "2"
    with pytest.raises(ValueError, match="toy/1 names a version already: leave 2 out"):
        find_bundle("toy/1", store, "2")


def test_a_folder_is_taken_by_itself_and_comes_before_a_product_of_the_same_name(
    store: Store, sound_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "work" / "toy").symlink_to(sound_bundle)
    found = find_bundle("toy", store)
    assert (found.ref.path, found.in_store) == (sound_bundle.resolve(), False)
    with pytest.raises(ValueError, match="has one version: leave version out"):
        find_bundle(sound_bundle, store, "1")


def test_a_folder_that_only_has_a_products_name_does_not_hide_it(store: Store, tmp_path: Path) -> None:
    (tmp_path / "work" / "toy").mkdir()
    assert find_bundle("toy", store).in_store


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("toi", "there is no such folder and no such product"),
        ("toi", "toy (2, 1). Did you mean toy?"),
        ("bundles/toy/1", "there is no such folder"),
        ("../toy", "there is no such folder"),
        ("Toy Part", "there is no such folder"),
        ("a-file", "it is a file"),
        ("empty", "the folder has no manifest.json; give"),
        (Path("toy"), "there is no such folder"),  # a Path is a folder, whatever the store has
    ],
)
def test_what_is_no_bundle_is_told_what_the_store_has(
    store: Store, given: str | Path, why: str, tmp_path: Path
) -> None:
    (tmp_path / "work" / "a-file").write_text("")
    (tmp_path / "work" / "empty").mkdir()
    with pytest.raises(NoSuchBundle) as refused:
        find_bundle(given, store)
    assert why in str(refused.value)
    assert f"a product of the store {store.root}: toy (2, 1)" in str(refused.value)


def test_a_folder_of_versions_names_those_in_it(store: Store) -> None:
    with pytest.raises(NoSuchBundle) as refused:
        find_bundle(store.root / "toy", store)
    assert f"those in it do: {store.root}/toy/1, {store.root}/toy/2" in str(refused.value)


def test_an_unknown_version_is_told_the_known_ones(store: Store) -> None:
    with pytest.raises(VersionNotInStore, match="no version '3': use one of 2, 1"):
        find_bundle("toy/3", store)


def test_an_empty_store_says_how_to_fill_it(tmp_path: Path) -> None:
    with pytest.raises(NoSuchBundle, match="none yet: publish a bundle with `glad bundle publish FOLDER`"):
        find_bundle("toy", Store(tmp_path / "nothing"))


def test_the_nearest_product_is_named_wherever_one_is_unknown(store: Store) -> None:
    with pytest.raises(ProductNotInStore, match=r"known: toy\. Did you mean toy\?"):
        store.activate("toys", "1", by="ann")


def test_a_shipped_bundle_is_copied_into_the_store_before_it_is_added_to(sound_bundle: Path, tmp_path: Path) -> None:
    shipped = sound_bundle.parent.parent
    store = Store(tmp_path / "store", shipped=shipped, records=False)
    ref = find_bundle("toy", store).ref
    assert ref.path == sound_bundle
    own = store.own_copy(ref)
    assert (own.path, own.hash) == (tmp_path / "store" / "toy" / "1", ref.hash)
    assert store.own_copy(own) == own
