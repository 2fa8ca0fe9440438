"""Cameras that stall in the middle of a file: the whole image is inspected, once, and not moved before it is whole."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest
import redis

from glad_client.camera import moved_files
from glad_client.camera.destination import Destination
from glad_client.camera.hot_folder import HotFolder
from glad_client.client import Client
from tests.support.hot_folders import accepted, put, settled_at_once
from tests.support.line import picture

WHOLE = picture(300, 200)
HALF = len(WHOLE) // 2


class SlowWriter:
    """Holds a file open between the halves of an image, as an FTP server does while the camera stalls."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)
        self._file.write(WHOLE[:HALF])

    def finish(self) -> None:
        self._file.write(WHOLE[HALF:])
        self._file.close()


def test_a_half_is_not_moved_and_the_whole_is_inspected_once(
    service: Client, folder: Path, client: redis.Redis, tmp_path: Path
) -> None:
    done = tmp_path / "done"
    hot = settled_at_once(service, folder, done, refused_s=1000)
    writer = SlowWriter(folder / "slow.png")
    (half,) = hot.poll()
    assert "400" in str(half.error)
    assert list(hot.poll()) == []
    assert not done.exists(), "it may be the half of an image"
    writer.finish()
    (whole,) = hot.poll()
    assert whole.is_accepted
    assert (done / "slow.png").read_bytes() == WHOLE
    assert not (done / "refused").exists()
    assert accepted(client) == 1


def test_a_camera_that_stalls_while_the_folder_is_watched_gets_its_one_inspection(
    service: Client, folder: Path, client: redis.Redis, tmp_path: Path
) -> None:
    stopped, done, writer = threading.Event(), tmp_path / "done", SlowWriter(folder / "slow.png")
    hot = HotFolder(service, Destination("toy"), folder, move_to=done, settle_s=0.05, every_s=0.01)
    outcomes = hot.run(stopped, wait_s=None)
    assert "400" in str(next(outcomes).error)
    writer.finish()
    assert next(outcomes).is_accepted
    stopped.set()
    assert list(outcomes) == []
    assert [path.name for path in done.rglob("*")] == ["slow.png"]
    assert accepted(client) == 1


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_a_half_that_was_moved_and_grows_comes_back_and_is_inspected(
    service: Client, folder: Path, client: redis.Redis, tmp_path: Path, restarted: bool
) -> None:
    done = tmp_path / "done"
    hot = settled_at_once(service, folder, done)
    (folder / "line-3").mkdir()
    writer = SlowWriter(folder / "line-3" / "slow.png")
    assert len(list(hot.poll())) == 1
    assert list(hot.poll()) == []
    assert (done / "refused" / "line-3" / "slow.png").exists()
    if restarted:
        hot = settled_at_once(service, folder, done)
        assert list(hot.poll()) == []
    writer.finish()
    back, whole = hot.poll()
    assert str(back.error).startswith(f"it changed after it was moved to {done}/refused/line-3/slow.png: moved back")
    assert (back.file, whole.file, whole.is_accepted) == ("line-3/slow.png", "line-3/slow.png", True)
    assert (done / "line-3" / "slow.png").read_bytes() == WHOLE
    assert not (done / "refused" / "line-3" / "slow.png").exists()
    assert accepted(client) == 1


def test_a_half_that_comes_back_waits_for_the_next_image_of_its_name(
    service: Client, folder: Path, client: redis.Redis, tmp_path: Path
) -> None:
    done = tmp_path / "done"
    hot = settled_at_once(service, folder, done)
    writer = SlowWriter(folder / "slow.png")
    list(hot.poll()), list(hot.poll())
    writer.finish()
    put(folder, "slow.png", picture(colour="red"))
    (red,) = hot.poll()
    assert red.is_accepted
    back, whole = hot.poll()
    assert (back.is_accepted, whole.is_accepted) == (False, True)
    assert sorted(path.read_bytes() for path in done.glob("*.png")) == sorted([WHOLE, picture(colour="red")])
    assert accepted(client) == 2


def test_a_file_that_is_written_to_its_full_size_first_is_inspected_again_when_its_pixels_come(
    service: Client, folder: Path, client: redis.Redis, tmp_path: Path
) -> None:
    """A bitmap with zeros where its pixels are still to come is a whole image to everybody."""
    whole = picture(300, 200, kind="BMP")
    done, path = tmp_path / "done", folder / "part.bmp"
    hot = settled_at_once(service, folder, done)
    with path.open("wb", buffering=0) as file:
        file.write(whole[:HALF] + bytes(len(whole) - HALF))
        (early,) = hot.poll()
        assert early.is_accepted
        file.seek(0)
        file.write(whole)
        os.utime(file.fileno(), (1_800_000_000, 1_800_000_000))
    back, later = hot.poll()
    assert "it changed after it was moved" in str(back.error)
    assert later.is_accepted
    assert (done / "part.bmp").read_bytes() == whole
    assert accepted(client) == 2


def test_another_file_in_the_place_of_an_accepted_one_is_left_there(
    service: Client, folder: Path, client: redis.Redis, tmp_path: Path
) -> None:
    done = tmp_path / "done"
    hot = settled_at_once(service, folder, done)
    put(folder, "a.png")
    assert len(list(hot.poll())) == 1
    put(tmp_path, "new", picture(colour="red")).replace(done / "a.png")
    assert list(hot.poll()) == []
    assert (done / "a.png").exists()
    assert accepted(client) == 1


def test_a_source_that_changes_while_it_is_copied_to_another_file_system_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system")
    source, target = put(tmp_path, "a.png"), other / f"glad-test-{os.getpid()}" / "a.png"
    copied = shutil.copy2

    def and_written_on(*paths: Path) -> None:
        copied(*paths)
        source.write_bytes(WHOLE)

    try:
        with monkeypatch.context() as patched:
            patched.setattr(shutil, "copy2", and_written_on)
            assert not moved_files.move_file(source, target)
        assert (source.read_bytes(), list(target.parent.iterdir())) == (WHOLE, [])
        assert moved_files.move_file(source, target)
        assert (target.read_bytes(), source.exists()) == (WHOLE, False)
    finally:
        target.unlink(missing_ok=True)
        target.parent.rmdir()
