"""What bundles of one store have in common lies on disk once."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from model_store.bundle import open_bundle
from model_store.store import Store
from tests.support.bundles import new_version
from tests.support.tiny_bundle import make_tiny_bundle

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def inode(bundle: Path) -> tuple[int, int]:
    """(which file, how many names it has)."""
    status = (bundle / WEIGHTS).stat()
    return status.st_ino, status.st_nlink


def test_fifteen_bundles_of_one_unet_keep_one_copy_of_it(tmp_path: Path) -> None:
    bundles = [make_tiny_bundle(tmp_path, product=f"class-{number}", prompt=number) for number in range(15)]
    assert {inode(bundle) for bundle in bundles} == {((bundles[0] / WEIGHTS).stat().st_ino, 15)}
    conditions = {(bundle / "condition/model.safetensors").stat().st_ino for bundle in bundles}
    assert len(conditions) == 15
    for bundle in bundles:
        open_bundle(bundle)


def test_a_published_bundle_shares_with_the_store_and_never_with_where_it_came_from(
    sound_bundle: Path, tmp_path: Path
) -> None:
    store = Store(tmp_path / "root")
    first = store.publish(sound_bundle).path
    second = store.publish(new_version(sound_bundle, tmp_path / "elsewhere" / "toy" / "2").path).path
    assert inode(first) == inode(second) == (inode(first)[0], 2)
    assert inode(sound_bundle)[1] == 1


def test_removing_one_bundle_leaves_the_other_whole(sound_bundle: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "root")
    first = store.publish(sound_bundle).path
    second = new_version(first, tmp_path / "root" / "toy" / "2").path
    assert inode(first)[1] == 2
    shutil.rmtree(first)
    assert open_bundle(second).manifest.version == "2"
    assert inode(second)[1] == 1


def test_a_bundle_outside_of_a_store_shares_with_nobody(sound_bundle: Path, tmp_path: Path) -> None:
    new_version(sound_bundle, tmp_path / "toy" / "1")
    loose = new_version(sound_bundle, tmp_path / "toy" / "loose", version="2")
    assert inode(loose.path)[1] == 1


def test_a_held_file_that_has_gone_bad_is_not_shared(sound_bundle: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "root")
    first = store.publish(sound_bundle).path
    good = (first / WEIGHTS).read_bytes()
    (first / WEIGHTS).write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    second = store.publish(new_version(sound_bundle, tmp_path / "made" / "toy" / "2").path).path
    assert (second / WEIGHTS).read_bytes() == good
    assert inode(first)[1] == inode(second)[1] == 1


def test_a_symlink_in_the_store_is_not_shared(sound_bundle: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "root")
    first = store.publish(sound_bundle).path
    (first / WEIGHTS).unlink()
    (first / WEIGHTS).symlink_to(sound_bundle / WEIGHTS)
    second = store.publish(new_version(sound_bundle, tmp_path / "made" / "toy" / "2").path).path
    assert not (second / WEIGHTS).is_symlink()
    open_bundle(second)


def test_where_the_file_system_has_no_links_files_are_copied(
    sound_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EXDEV, "cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    store = Store(tmp_path / "root")
    first = store.publish(sound_bundle).path
    second = new_version(sound_bundle, tmp_path / "root" / "toy" / "2").path
    assert inode(first)[1] == inode(second)[1] == 1
    open_bundle(second)
