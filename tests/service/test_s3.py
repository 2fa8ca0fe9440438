"""Artifacts in an object store that speaks S3: moto's server in a process of its own, s3fs as the client."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
import redis

from service.artifacts import ArtifactNotFound, ArtifactStore, ArtifactsUnavailable
from service.contract import new_inspection_id
from service.queue import keys
from service.retention import ArtifactLimits, Sweeper, Swept
from tests.support.processes import eventually

pytest.importorskip("s3fs", reason="pip install 'glad-inspect[s3]'")
pytest.importorskip("moto.server", reason="pip install 'glad-inspect[dev]'")

OLD = "019abc12-3456-7def-8123-456789abcdef"  # of 2025-11-25: see test_artifacts.py


class ObjectStore:
    """The server, which can be stopped as a whole."""

    def __init__(self, log: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
                stdout=output, stderr=output,
            )  # fmt: skip
        eventually(self._answers)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """A server of its own, named by the environment as a deployment names it."""
    server = ObjectStore(tmp_path / "s3.log")
    environment = {
        "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server.url, "AWS_MAX_ATTEMPTS": "1",
    }  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    yield server
    server.kill()
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture
def store(server: ObjectStore) -> ArtifactStore:
    """In a bucket of its own."""
    bucket = f"glad-{uuid.uuid4().hex}"
    fsspec.filesystem("s3").mkdir(bucket)
    return ArtifactStore(f"s3://{bucket}/line")


def test_files_are_put_got_listed_replaced_and_removed(store: ArtifactStore) -> None:
    ref = store.put(OLD, "image", b"one")
    store.put(OLD, "image", b"second")
    store.put(OLD, "map.npy", b"m")
    assert store.get(ref) == b"second"
    assert store.days() == ["2025-11-25"]
    (kept,) = store.kept("2025-11-25")
    assert (kept.inspection_id, kept.names, kept.bytes) == (OLD, frozenset({"image", "map.npy"}), 7)
    store.remove(ref)
    store.remove(ref)
    with pytest.raises(ArtifactNotFound):
        store.get(ref)
    store.remove_inspection(OLD)
    assert list(store.kept("2025-11-25")) == []
    store.probe()


def test_the_archive_folder_is_listed_and_kept_apart(store: ArtifactStore) -> None:
    archive = store.folder("archive")
    assert archive.names() == []
    archive.put("a.jsonl", json.dumps({"a": 1}).encode())
    assert archive.names() == ["a.jsonl"]
    assert archive.get("a.jsonl") == b'{"a": 1}'
    assert store.days() == []


def test_the_old_go_and_what_is_queued_or_young_stays(store: ArtifactStore, client: redis.Redis) -> None:
    young, queued = new_inspection_id(), "019abc12-3456-7def-8123-456789abcd00"
    for name in (OLD, young, queued):
        store.put(name, "image", b"1234")
    client.hset(keys.inspection(queued), "state", "queued")
    assert Sweeper(client, store, ArtifactLimits(max_age_s=86_400)).sweep() == Swept(too_old=1, bytes=4)
    left = {one.inspection_id for day in store.days() for one in store.kept(day)}
    assert left == {young, queued}


def test_another_process_sees_what_was_written_meanwhile(store: ArtifactStore) -> None:
    assert store.days() == []
    script = f"from service.artifacts import ArtifactStore; ArtifactStore({store.root!r}).put({OLD!r}, 'image', b'x')"
    subprocess.run([sys.executable, "-c", script], check=True)
    assert store.days() == ["2025-11-25"]
    assert [one.inspection_id for one in store.kept("2025-11-25")] == [OLD]


def test_a_store_that_is_away_is_unavailable(store: ArtifactStore, server: ObjectStore) -> None:
    ref = store.put(OLD, "image", b"x")
    server.kill()
    for call in (lambda: store.put(OLD, "image", b"y"), lambda: store.get(ref), store.days, store.probe):
        with pytest.raises(ArtifactsUnavailable):
            call()
