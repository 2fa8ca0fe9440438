"""A folder that hangs, as on a share whose server is gone: each call ends, and it is found again by itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.contract import IMAGE, new_inspection_id
from service.storage import bounded
from service.storage.artifacts import ArtifactStore, ArtifactsUnavailable
from tests.support.disk import go_on, hang
from tests.support.processes import eventually


@pytest.fixture(autouse=True)
def _no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the folder is asked again at once."""
    monkeypatch.setattr(bounded, "REST_S", 0.0)


@contextmanager
def no_answer(reason: str = "did not answer in time") -> Iterator[None]:
    """The folder counts as away, after less time than usual; where it answers it has that, on a busy machine too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounded, "ANSWER_S", 0.3)
        with pytest.raises(ArtifactsUnavailable, match=reason):
            yield


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    """A marked folder, whose marker every write reads."""
    store = ArtifactStore(tmp_path)
    marker = store.marker(make=True)
    assert marker is not None
    store.require_marker(marker)
    return store


def is_writable(store: ArtifactStore) -> bool:
    """Whether an image can be stored now."""
    try:
        store.put(new_inspection_id(), IMAGE, b"image")
    except ArtifactsUnavailable:
        return False
    return True


def test_a_write_into_a_folder_that_hangs_ends_and_the_folder_is_found_again(
    store: ArtifactStore, tmp_path: Path
) -> None:
    marker, late, later = hang(tmp_path), new_inspection_id(), new_inspection_id()
    with no_answer():
        store.put(late, IMAGE, b"late")
    go_on(tmp_path, marker)
    eventually((tmp_path / store.ref(late, IMAGE)).is_file)  # what hung does its work
    assert store.get(store.put(later, IMAGE, b"later")) == b"later"


def test_while_the_folder_hangs_one_call_at_a_time_asks_it_and_no_more_than_so_many_wait(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "MOST_LEFT_BEHIND", 2)
    marker = hang(tmp_path)
    for reason in ("did not answer in time", "did not answer in time", "2 earlier calls still wait"):
        with no_answer(reason):
            store.put(new_inspection_id(), IMAGE, b"late")
    go_on(tmp_path, marker)
    eventually(lambda: is_writable(store))


def test_one_file_that_hangs_is_one_file(store: ArtifactStore, tmp_path: Path) -> None:
    healthy = store.put(new_inspection_id(), IMAGE, b"healthy")
    hung = store.put(new_inspection_id(), IMAGE, b"hung")
    (tmp_path / hung).unlink()
    os.mkfifo(tmp_path / hung)
    with no_answer():
        store.get(hung)
    assert store.get(healthy) == b"healthy"
    with (tmp_path / hung).open("w") as fifo:
        fifo.write("so that its thread ends")
