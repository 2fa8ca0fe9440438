"""Artifacts: durable, replaceable, and never outside their root."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from service.contract import new_inspection_id
from service.storage.artifacts import ArtifactNotFound, ArtifactStore, ArtifactsUnavailable
from tests.support.disk import files_of_at_most

ID = "019abc12-3456-7def-8123-456789abcdef"
# The first 48 bits of a UUIDv7 are milliseconds: 0x019abc123456 ms is 2025-11-25T15:33:31 UTC.
DAY = "2025-11-25"


@pytest.fixture(params=["folder", "file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ArtifactStore]:
    """The same store on a path, a file:// URL and an fsspec file system."""
    roots = {"folder": str(tmp_path), "file": tmp_path.as_uri(), "memory": f"memory://{uuid.uuid4().hex}"}
    yield ArtifactStore(roots[request.param])
    fsspec.filesystem("memory").store.clear()


def test_what_was_put_is_got_and_replaced_and_removed(store: ArtifactStore) -> None:
    ref = store.put(ID, "map.npy", b"one")
    assert ref == f"{DAY}/{ID}/map.npy"
    assert store.put(ID, "map.npy", b"two") == ref
    assert store.get(ref) == b"two"
    store.remove(ref)
    store.remove(ref)
    with pytest.raises(ArtifactNotFound):
        store.get(ref)


def test_each_attempt_has_names_of_its_own_and_the_image_one_for_all(store: ArtifactStore) -> None:
    refs = [store.put(ID, "map.npy", f"{attempt}".encode(), attempt) for attempt in (1, 2, 12)]
    assert refs == [f"{DAY}/{ID}/map.npy", f"{DAY}/{ID}/2.map.npy", f"{DAY}/{ID}/12.map.npy"]
    assert [store.get(ref) for ref in refs] == [b"1", b"2", b"12"]
    assert store.ref(ID, "image", 2) == f"{DAY}/{ID}/image"


def test_a_file_is_read_in_pieces(store: ArtifactStore) -> None:
    ref = store.put(ID, "image", bytes(range(100)))
    assert store.size(ref) == 100
    assert b"".join(store.get_piece(ref, start, 30) for start in range(0, 100, 30)) == bytes(range(100))
    assert store.get_piece(ref, 0, 1000) == bytes(range(100))
    store.remove(ref)
    with pytest.raises(ArtifactNotFound):
        store.get_piece(ref, 0, 30)
    with pytest.raises(ArtifactNotFound):
        store.size(ref)


def test_a_probe_leaves_nothing(store: ArtifactStore, tmp_path: Path) -> None:
    store.probe()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "ref",
    [
        "", "image", f"{DAY}/{ID}", f"{DAY}/{ID}/../secret", f"/{DAY}/{ID}/image", f"2025-01-01/{ID}/image",
        f"{DAY}/{ID}/other.png", f"{DAY}/{ID}/1.map.npy", f"{DAY}/{ID}/02.map.npy", f"{DAY}/{ID}/2.image",
        f"{DAY}/{ID}/2.other.png", f"../{ID}/image", f"{DAY}/../image", f"{DAY}/{ID}/image\0",
    ],
)  # fmt: skip
def test_no_other_path_can_be_reached(store: ArtifactStore, ref: str) -> None:
    with pytest.raises(ArtifactNotFound):
        store.get(ref)
    with pytest.raises(ArtifactNotFound):
        store.remove(ref)


def test_a_half_written_file_is_never_seen(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    ref = store.put(new_inspection_id(), "image", b"whole")
    with files_of_at_most(10), pytest.raises(ArtifactsUnavailable, match="File too large"):
        store.put(ref.split("/")[1], "image", b"half" * 100)
    assert store.get(ref) == b"whole"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["image"]


def test_an_empty_folder_goes_with_its_last_file(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    ref = store.put(ID, "image", b"x")
    store.remove(ref)
    assert list(tmp_path.rglob(ID)) == []
