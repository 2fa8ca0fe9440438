"""A backup: complete by itself, checked when it is restored, never over something else."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from service.artifacts import ArtifactStore
from service.backup.make import make_backup
from service.backup.record import RDB, RECORD, BackupError
from service.backup.restore import restore_backup
from service.borrowed_redis import borrowed_client
from service.child import Child
from service.contract import new_inspection_id
from service.private_redis import find_redis, redis_command, socket_path
from service.queue import keys, schema
from service.queue.connection import connect
from service.settings import Settings
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
    with borrowed_client(new) as client:  # as `glad serve` starts it: with an append-only file
        assert set(client.keys()) == {*plant[1].keys(), keys.BORN}
        assert client.xinfo_stream(keys.EVENTS)["last-generated-id"] == "1700000000000-5"
        assert client.xinfo_groups(keys.EVENTS)[0]["name"] == "outbox:mqtt"
        # No image of before is an orphan of this Redis; and it may sweep.
        assert int(str(client.get(keys.BORN))) >= born
        assert client.get(keys.SWEEPER) is None
    for name in ("artifacts", "store"):
        old = {path.relative_to(plant[0].data_dir): path.read_bytes() for path in files(plant[0].data_dir / name)}
        assert {path.relative_to(new.data_dir): path.read_bytes() for path in files(new.data_dir / name)} == old
        assert old


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
    expected = set(plant[1].keys())
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
    (made / RECORD).write_text(json.dumps({**record, "schema_version": schema.VERSION + 1}))
    with pytest.raises(
        BackupError, match=f"schema {schema.VERSION + 1} .* knows schema {schema.VERSION}: restore it with"
    ):
        restore_backup(Settings(data_dir=tmp_path / "new"), made, quiet)
    assert not (tmp_path / "new").exists()


def test_no_snapshot_no_backup(plant: Plant, tmp_path: Path) -> None:
    away = plant[0].model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    with pytest.raises((BackupError, redis.RedisError)):
        make_backup(away, tmp_path / "backups", quiet)
    assert list((tmp_path / "backups").iterdir()) == []


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
    with borrowed_client(Settings(data_dir=tmp_path / "new")) as client:
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
