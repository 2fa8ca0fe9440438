"""Data folders behind a URL, by real file systems of fsspec: one in memory, and an object store that speaks S3."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from glad.image_codec import decode_image
from tests.support.commands import call
from tests.support.line import picture
from tests.support.object_store import ObjectStore, credentials
from training.data.dataset import good_split
from training.data.image_files import DataError
from training.data.remote_folder import local_copy


class CountingMemory(MemoryFileSystem):  # type: ignore[misc]
    """A file system in memory that notes which files were read, and that can be told to fail."""

    store: ClassVar[dict[str, object]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    read: ClassVar[list[str]] = []
    fails_after: ClassVar[int | None] = None

    def get_file(self, rpath: str, lpath: str, *others: object, **options: object) -> None:
        """Copy a file, as the class above does."""
        if self.fails_after is not None and len(self.read) >= self.fails_after:
            raise OSError("the connection was reset")
        super().get_file(rpath, lpath, *others, **options)
        if not Path(lpath).is_dir():
            self.read.append(rpath.rpartition("/")[2])


@pytest.fixture
def remote() -> Iterator[CountingMemory]:
    """An empty one."""
    fsspec.register_implementation("memory", CountingMemory, clobber=True)
    CountingMemory.store.clear()
    CountingMemory.pseudo_dirs[:] = [""]
    CountingMemory.read.clear()
    CountingMemory.fails_after = None
    yield fsspec.filesystem("memory")
    fsspec.register_implementation("memory", MemoryFileSystem, clobber=True)


def put(remote: CountingMemory, count: int) -> None:
    for number in range(count):
        remote.pipe_file(f"/parts/bracket/train/good/{number}.png", picture(24 + number, 24))
    remote.pipe_file("/parts/bracket/groups.csv", b"file,group\n")


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_what_lies_behind_a_url_trains_as_a_folder_does(remote: CountingMemory, tmp_path: Path) -> None:
    put(remote, 10)
    folder = local_copy("memory://parts/bracket", tmp_path)
    assert folder.name == "bracket"
    assert names(folder) == {"groups.csv", *(f"train/good/{number}.png" for number in range(10))}
    assert decode_image((folder / "train/good/3.png").read_bytes()).pixels.shape == (24, 27, 3)
    split = good_split(folder, 0.2, 0)
    assert len(split.train) + len(split.calibration) == 10


def test_only_what_has_changed_is_fetched_again(remote: CountingMemory, tmp_path: Path) -> None:
    put(remote, 5)
    folder = local_copy("memory://parts/bracket", tmp_path)
    assert len(remote.read) == 6
    remote.read.clear()
    local_copy("memory://parts/bracket", tmp_path)
    assert remote.read == []
    remote.pipe_file("/parts/bracket/train/good/1.png", picture(99, 24))
    remote.rm("/parts/bracket/train/good/2.png")
    assert local_copy("memory://parts/bracket", tmp_path) == folder
    assert remote.read == ["1.png"]
    assert (folder / "train/good/1.png").read_bytes() == picture(99, 24)
    assert not (folder / "train/good/2.png").exists()


def test_an_interrupted_copy_goes_on_and_leaves_no_half_file(
    remote: CountingMemory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.data.remote_folder.AT_ONCE", 2)
    put(remote, 8)
    CountingMemory.fails_after = 5
    with pytest.raises(DataError, match="the connection was reset; the same command goes on where it stopped"):
        local_copy("memory://parts/bracket", tmp_path)
    CountingMemory.fails_after = None
    remote.read.clear()
    folder = local_copy("memory://parts/bracket", tmp_path)
    # Four files in whole pairs had come; the fifth came without its pair, and comes again.
    assert len(remote.read) == 5
    assert len(names(folder)) == 9


def test_a_file_damaged_or_removed_in_the_copy_comes_again(remote: CountingMemory, tmp_path: Path) -> None:
    put(remote, 2)
    folder = local_copy("memory://parts/bracket", tmp_path)
    (folder / "train/good/0.png").unlink()
    (folder / "stray.txt").write_text("not of the store")
    local_copy("memory://parts/bracket", tmp_path)
    assert names(folder) == {"groups.csv", "train/good/0.png", "train/good/1.png"}


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("memory://parts/nothing", "holds no files: give the folder that holds train/good"),
        ("nosuch://parts/bracket", "nosuch"),
    ],
)
def test_a_url_that_gives_nothing_is_refused_in_words(
    url: str, says: str, remote: CountingMemory, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=says):
        local_copy(url, tmp_path)


def test_no_message_shows_a_password(tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        local_copy("nosuch://user:secret@host/parts?token=secret", tmp_path)
    assert "secret" not in str(refused.value)


def test_a_copy_of_an_object_store_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs", reason="pip install 'glad-inspect[s3]'")
    pytest.importorskip("moto.server", reason="pip install 'glad-inspect[dev]'")
    server = ObjectStore(tmp_path / "log")
    try:
        for name, value in credentials(server.url).items():
            monkeypatch.setenv(name, value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        system = fsspec.filesystem("s3")
        system.mkdir("parts")
        for number in range(40):
            system.pipe_file(f"parts/bracket/train/good/{number}.png", picture(24 + number, 24))
        folder = local_copy("s3://parts/bracket", tmp_path / "cache")
        copied = {path.name: path.read_bytes() for path in (folder / "train/good").iterdir()}
        assert copied == {f"{number}.png": picture(24 + number, 24) for number in range(40)}
        before = os.stat(folder / "train/good/0.png").st_mtime_ns
        local_copy("s3://parts/bracket", tmp_path / "cache")
        assert os.stat(folder / "train/good/0.png").st_mtime_ns == before
    finally:
        server.kill()
        fsspec.get_filesystem_class("s3").clear_instance_cache()


def test_a_command_takes_a_url_where_it_takes_a_folder(
    remote: CountingMemory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put(remote, 10)
    monkeypatch.setenv("GLAD_DATA_CACHE", str(tmp_path / "cache"))
    given = ["light", "--kinds", "spot", "--columns", "1", "--out", str(tmp_path / "drawn.png"), "--data"]
    assert call(("preview",), [*given, "memory://parts/bracket"], capsys)[0] == 0
    assert (tmp_path / "drawn.png").is_file()
    status, printed = call(("preview",), [*given, "memory://parts/nothing"], capsys)
    assert status == 1
    assert "memory://parts/nothing holds no files" in printed
    for wrong, says in ((tmp_path / "nowhere", "does not exist"), (tmp_path / "drawn.png", "is a file")):
        status, printed = call(("preview",), [*given, str(wrong)], capsys)
        assert status == 2
        assert says in printed
