"""A backup: complete by itself, checked when it is restored, never over something else."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from service.contract import DEFAULT_POOL, new_inspection_id
from service.host.child_process import Child
from service.host.private_redis import connect_for_command, find_redis, redis_command, socket_path
from service.maintenance.backup.make import make_backup
from service.maintenance.backup.record import RDB, RECORD, STORE, SUMS, BackupError, read_record
from service.maintenance.backup.restore import restore_backup
from service.maintenance.backup.sums import Earlier, read_sums
from service.maintenance.backup.trees import save
from service.queue import keys
from service.queue.connection import connect, connect_async
from service.queue.redis_health import read_redis_state
from service.settings import Settings
from service.storage.artifacts import ArtifactStore
from tests.service.conftest import write_toy
from tests.support.processes import eventually
from tests.support.redis_server import RedisServer

Plant = tuple[Settings, redis.Redis]


def quiet(_: str) -> None:
    """Nobody watches."""


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    """An installation whose Redis runs, with one image, one bundle and one job's hash."""
    data = tmp_path / "old"
    settings = Settings(data_dir=data)
    server = RedisServer(data)
    server.start()
    name = new_inspection_id()
    ArtifactStore(settings.artifacts).put(name, "image", b"picture")
    write_toy(data / "store" / "toy" / "1")
    with connect(server.url) as client:
        client.hset(keys.inspection(name), mapping={"state": "queued"})
        client.xadd(keys.EVENTS, {"id": name, "event": "{}"}, id="1700000000000-5")
        client.xgroup_create(keys.EVENTS, keys.outbox_group("mqtt"), id="0")
        yield settings, client
    server.kill()


def backup(plant: Plant, tmp_path: Path, say: Callable[[str], None] = quiet) -> Path:
    """Of the plant, into the folder of backups."""
    return make_backup(plant[0], tmp_path / "backups", say)


def test_a_restored_redis_starts_with_its_data_and_its_places_in_the_event_stream(plant: Plant, tmp_path: Path) -> None:
    new = Settings(data_dir=tmp_path / "new")
    made = backup(plant, tmp_path)
    born = plant[1].time()[0] * 1000
    restore_backup(new, made, quiet)
    with connect_for_command(new) as client:  # as `glad serve` starts it: with an append-only file
        assert {*client.keys(), keys.BACKUP} == {*plant[1].keys(), keys.BORN}  # that it is whole is told after it
        assert client.xinfo_stream(keys.EVENTS)["last-generated-id"] == "1700000000000-5"
        assert client.xinfo_groups(keys.EVENTS)[0]["name"] == "outbox:mqtt"
        # No image of before is an orphan of this Redis; and it may sweep.
        assert int(str(client.get(keys.BORN))) >= born
        assert client.get(keys.SWEEPER) is None
    for name in ("artifacts", "store"):
        old = {path.relative_to(plant[0].data_dir): path.read_bytes() for path in files(plant[0].data_dir / name)}
        assert {path.relative_to(new.data_dir): path.read_bytes() for path in files(new.data_dir / name)} == old
        assert old


def test_a_session_is_not_brought_back_and_what_people_decided_is(plant: Plant, tmp_path: Path) -> None:
    new, client = Settings(data_dir=tmp_path / "new"), plant[1]
    kept = {
        keys.review_plan("toy"),
        keys.disposition("SN-1"),
        keys.limit_samples("line-3"),
        f"{keys.WAITING_PREFIX}fail",
    }
    for key in (*kept, keys.session("ab" * 32), keys.session("cd" * 32)):
        client.set(key, "{}", ex=3600)
    made = backup(plant, tmp_path)
    restore_backup(new, made, quiet)
    with connect_for_command(new) as restored:
        assert kept <= set(restored.keys())
        assert list(restored.scan_iter(match=keys.session("*"))) == []  # one of them may have been signed out since


async def test_only_a_whole_backup_is_told(plant: Plant, tmp_path: Path) -> None:
    """Where it fails the alert goes on counting from the one before."""
    folder = tmp_path / "backups"
    folder.mkdir()
    folder.chmod(0o500) if os.geteuid() else (folder / ".lock").mkdir()
    with pytest.raises(OSError, match=r"lock|ermission"):
        backup(plant, tmp_path)
    assert plant[1].get(keys.BACKUP) is None
    folder.chmod(0o700) if os.geteuid() else (folder / ".lock").rmdir()
    began = plant[1].time()[0]
    backup(plant, tmp_path)
    async with connect_async(f"unix://{socket_path(plant[0].data_dir)}") as client:
        state = await read_redis_state(client, [DEFAULT_POOL])
    assert state.backup_at_s is not None
    assert began <= state.backup_at_s <= plant[1].time()[0] + 1


def keys_after_start(data: Path) -> set[str]:
    """Of a Redis as `glad serve` starts it on this data folder: with an append-only file."""
    server = RedisServer(data)
    server.start()
    try:
        with server.connect() as client:
            return set(client.keys())
    finally:
        server.kill()


def test_the_rdb_alone_is_a_trap_that_a_restore_avoids(plant: Plant, tmp_path: Path) -> None:
    made = backup(plant, tmp_path)
    expected = set(plant[1].keys()) - {keys.BACKUP}
    assert expected
    # Beside no append-only file Redis starts empty; beside an old one it starts with what is in that one.
    alone, beside, restored = (tmp_path / name for name in ("alone", "beside", "restored"))
    assert keys_after_start(beside) == set()
    for data in (alone, beside):
        (data / "redis").mkdir(parents=True, exist_ok=True)
        shutil.copy(made / RDB, data / "redis" / "dump.rdb")
        assert keys_after_start(data) == set(), "Redis reads the RDB now: docs/backup.md and this test can go"
    restore_backup(Settings(data_dir=restored), made, quiet)
    assert not (restored / "redis" / "dump.rdb").exists()
    assert keys_after_start(restored) == expected | {keys.BORN}


def files(folder: Path) -> list[Path]:
    """All of them."""
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_second_backup_copies_only_what_is_new_and_outlives_the_first(plant: Plant, tmp_path: Path) -> None:
    first = backup(plant, tmp_path)
    new = ArtifactStore(plant[0].artifacts).put(new_inspection_id(), "image", b"new")
    second = backup(plant, tmp_path)
    shared = {path.relative_to(second).as_posix() for path in files(second) if path.stat().st_nlink == 2}
    assert shared == {
        path.relative_to(first).as_posix() for path in [*files(first / "artifacts"), *files(first / "store")]
    }
    assert (second / "artifacts" / new).read_bytes() == b"new"
    shutil.rmtree(first)
    subprocess.run(["sha256sum", "--quiet", "--check", "SHA256SUMS"], cwd=second, check=True)


def test_nothing_is_swept_during_a_backup_and_the_next_sweep_may_begin_after_it(plant: Plant, tmp_path: Path) -> None:
    holders: list[object] = []
    backup(plant, tmp_path, lambda _: holders.append(plant[1].get(keys.SWEEPER)))
    assert len(holders) == 3
    assert all(str(holder).startswith("backup-") for holder in holders)
    assert plant[1].get(keys.SWEEPER) is None


def test_one_backup_is_made_at_a_time_and_what_a_killed_one_left_is_removed(plant: Plant, tmp_path: Path) -> None:
    left = tmp_path / "backups" / ".20260101T000000.000000Z.unfinished"
    (left / "artifacts").mkdir(parents=True)
    (left / "artifacts" / "image").write_bytes(b"half")
    refused: list[str] = []

    def meanwhile(_: str) -> None:
        with pytest.raises(BackupError, match=r"another backup into .* is under way") as found:
            backup(plant, tmp_path)
        refused.append(str(found.value))

    made = backup(plant, tmp_path, meanwhile)
    assert len(refused) == 3
    assert [path for path in (tmp_path / "backups").iterdir() if path.is_dir()] == [made]
    backup(plant, tmp_path)


def test_where_no_links_can_be_made_files_are_copied(plant: Plant, tmp_path: Path) -> None:
    first = backup(plant, tmp_path)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:  # another file system
        target, artifacts = Path(elsewhere), plant[0].data_dir / "artifacts"
        if target.stat().st_dev == first.stat().st_dev:
            pytest.skip("/dev/shm is no file system of its own")
        copied = dict(save(artifacts, target, "artifacts", Earlier(first), lambda: None))
        assert {name: (target / name).read_bytes() for name in copied} == {
            path.relative_to(first).as_posix(): path.read_bytes() for path in files(first / "artifacts")
        }


def test_an_earlier_backup_that_is_removed_meanwhile_costs_this_one_nothing(plant: Plant, tmp_path: Path) -> None:
    class Removed(Earlier):
        """Its files go just after they were looked at."""

        def hash_if_same(self, name: str, source: Path) -> str | None:
            found = super().hash_if_same(name, source)
            (self.folder / name).unlink()
            return found

    first = backup(plant, tmp_path)
    expected = {path.relative_to(first).as_posix() for path in files(first / "artifacts")}
    saved = dict(save(plant[0].data_dir / "artifacts", tmp_path / "x", "artifacts", Removed(first), lambda: None))
    assert set(saved) == expected
    assert all((tmp_path / "x" / name).exists() for name in expected)


def test_only_what_has_changed_is_read_again(plant: Plant, tmp_path: Path) -> None:
    backup(plant, tmp_path)
    names = [path.relative_to(plant[0].data_dir) for path in files(plant[0].data_dir / "store")]
    changed, gone, new = names[0], names[1], plant[0].data_dir / "store" / "a new one"
    (plant[0].data_dir / changed).write_bytes(b"changed")
    (plant[0].data_dir / gone).unlink()
    new.write_bytes(b"new")
    second = backup(plant, tmp_path)
    shared = {path.relative_to(second) for path in files(second / "store") if path.stat().st_nlink == 2}
    assert shared == set(names) - {changed, gone}
    assert dict(read_sums(second)).keys() == {
        path.relative_to(second).as_posix() for path in files(second) if path.name not in {RECORD, SUMS}
    }


def test_a_folder_that_cannot_be_read_makes_no_backup_that_looks_whole(plant: Plant, tmp_path: Path) -> None:
    deep, name = plant[0].data_dir / "store", "d" * 250
    place = os.open(deep, os.O_RDONLY)
    for _ in range(20):  # longer than a path may be
        os.mkdir(name, dir_fd=place)
        above, place = place, os.open(name, os.O_RDONLY, dir_fd=place)
        os.close(above)
    os.close(place)
    with pytest.raises(OSError, match="File name too long"):
        backup(plant, tmp_path)
    assert not list((tmp_path / "backups").glob("2*"))


def test_a_list_of_files_that_was_cut_off_is_found_at_the_restore(plant: Plant, tmp_path: Path) -> None:
    made = backup(plant, tmp_path)
    lines = (made / SUMS).read_text().splitlines(keepends=True)
    (made / SUMS).write_text("".join(lines[:-1]))
    with pytest.raises(BackupError, match=f"names {len(lines) - 1} files, backup.json says {len(lines)}"):
        restore_backup(Settings(data_dir=tmp_path / "new"), made, quiet)


def test_what_lies_elsewhere_is_told_and_not_looked_for_at_the_restore(plant: Plant, tmp_path: Path) -> None:
    elsewhere = plant[0].model_copy(update={"artifacts_url": "s3://parts/line"})
    made = make_backup(elsewhere, tmp_path / "backups", quiet)
    assert read_record(made).artifacts_elsewhere == "s3://parts/line"
    assert {name.partition("/")[0] for name, _ in read_sums(made)} == {RDB, STORE}
    restore_backup(elsewhere.model_copy(update={"data_dir": tmp_path / "new"}), made, quiet)
    assert not (tmp_path / "new" / "artifacts").exists()
    whole = backup(plant, tmp_path)
    with pytest.raises(BackupError, match="the backup holds artifacts, and GLAD_ARTIFACTS_URL is s3://parts/line"):
        restore_backup(elsewhere.model_copy(update={"data_dir": tmp_path / "other"}), whole, quiet)


def test_a_place_that_holds_something_is_not_overwritten(plant: Plant, tmp_path: Path) -> None:
    made = backup(plant, tmp_path)
    kept = tmp_path / "new" / "artifacts" / "kept"
    kept.parent.mkdir(parents=True)
    kept.write_text("old")
    with pytest.raises(BackupError, match="artifacts is not empty: a restore overwrites nothing"):
        restore_backup(Settings(data_dir=tmp_path / "new"), made, quiet)
    assert files(tmp_path / "new" / "artifacts") == [kept]


def test_a_damaged_file_is_found_at_the_restore(plant: Plant, tmp_path: Path) -> None:
    made = backup(plant, tmp_path)
    [image] = (made / "artifacts").rglob("image")
    image.write_bytes(b"Picture")
    with pytest.raises(BackupError, match=r"image is damaged: its SHA-256 is .* use another backup"):
        restore_backup(Settings(data_dir=tmp_path / "new"), made, quiet)


def test_a_backup_of_a_newer_schema_is_refused_before_anything_is_written(plant: Plant, tmp_path: Path) -> None:
    made = backup(plant, tmp_path)
    record = json.loads((made / RECORD).read_text())
    (made / RECORD).write_text(json.dumps({**record, "schema_version": keys.SCHEMA_VERSION + 1}))
    with pytest.raises(
        BackupError, match=f"schema {keys.SCHEMA_VERSION + 1} .* knows schema {keys.SCHEMA_VERSION}: restore it with"
    ):
        restore_backup(Settings(data_dir=tmp_path / "new"), made, quiet)
    assert not (tmp_path / "new").exists()


def test_no_snapshot_no_backup(plant: Plant, tmp_path: Path) -> None:
    away = plant[0].model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    with pytest.raises((BackupError, redis.RedisError)):
        make_backup(away, tmp_path / "backups", quiet)
    assert [path.name for path in (tmp_path / "backups").iterdir()] == [".lock"]


def test_a_redis_elsewhere_is_asked_over_tcp_with_its_password(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    path = socket_path(tmp_path / "elsewhere")
    command = redis_command(find_redis(), tmp_path / "elsewhere", path)
    child = Child("Redis", [*command, "--port", str(port), "--requirepass", "s3cret"], log=tmp_path / "redis.log")
    child.start()
    try:
        url = f"redis://:s3cret@127.0.0.1:{port}/0"
        with connect(url) as client:
            eventually(lambda: answered(client))
            client.set("glad:v1:turns:default", 3)
        made = make_backup(Settings(data_dir=tmp_path / "here", redis_url=url), tmp_path / "backups", quiet)
    finally:
        child.kill()
    restore_backup(Settings(data_dir=tmp_path / "new"), made, quiet)
    with connect_for_command(Settings(data_dir=tmp_path / "new")) as client:
        assert client.get("glad:v1:turns:default") == "3"


def answered(client: redis.Redis) -> bool:
    """It listens already."""
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


@pytest.mark.parametrize("folder", ["artifacts", "store/backups"])
def test_a_backup_into_what_is_backed_up_is_refused(plant: Plant, folder: str) -> None:
    with pytest.raises(BackupError, match="give a folder elsewhere"):
        make_backup(plant[0], plant[0].data_dir / folder, quiet)


def test_what_is_no_backup_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match=r"is no backup .* give the folder that `glad backup` printed"):
        restore_backup(Settings(data_dir=tmp_path / "new"), tmp_path, quiet)
