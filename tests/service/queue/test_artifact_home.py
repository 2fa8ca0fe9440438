"""A folder of artifacts is told from an empty mount point by its marker, which Redis remembers."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Timer

import pytest
import redis

from service.contract import IMAGE, new_inspection_id
from service.queue import keys
from service.queue.artifact_home import ArtifactHome
from service.storage.artifacts import ArtifactNotFound, ArtifactStore, ArtifactsUnavailable
from service.storage.local import MARKER


def api(client: redis.Redis, folder: Path) -> ArtifactStore:
    """The store of an API that takes images in there."""
    return checked(client, folder, make=True)


def worker(client: redis.Redis, folder: Path) -> ArtifactStore:
    """The store of a worker."""
    return checked(client, folder, make=False)


def checked(client: redis.Redis, folder: Path, *, make: bool) -> ArtifactStore:
    store = ArtifactStore(folder)
    ArtifactHome(client, store).check(make=make)
    return store


def test_a_first_start_marks_the_folder_and_later_ones_find_it(client: redis.Redis, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "artifacts"
    api(client, folder)
    marker = (folder / MARKER).read_text().strip()
    assert (len(marker), client.get(keys.ARTIFACTS)) == (32, marker)
    for start in (api, worker):
        start(client, folder)
    assert (folder / MARKER).read_text().strip() == marker


def test_several_processes_that_start_at_once_agree(client: redis.Redis, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        stores = list(pool.map(lambda _: api(client, tmp_path / "artifacts"), range(24)))
    for store in stores:
        store.put(new_inspection_id(), IMAGE, b"x")


def test_a_marker_that_another_process_is_about_to_write_is_waited_for(client: redis.Redis, tmp_path: Path) -> None:
    marker = tmp_path / MARKER
    marker.touch()
    writes = Timer(0.2, marker.write_text, [f"{'a' * 32}\n"])
    writes.start()
    api(client, tmp_path)
    writes.join()
    assert client.get(keys.ARTIFACTS) == "a" * 32


@pytest.mark.parametrize("start", [api, worker])
@pytest.mark.parametrize("place", ["empty", "absent"])
def test_an_empty_mount_point_is_no_store(client: redis.Redis, tmp_path: Path, start: object, place: str) -> None:
    api(client, tmp_path / "share")
    mount_point = tmp_path / "mount"
    if place == "empty":
        mount_point.mkdir()
    with pytest.raises(ArtifactsUnavailable, match=rf"has no {MARKER}.*mount that folder here"):
        (api if start is api else worker)(client, mount_point)
    assert list(tmp_path.glob("mount/*")) == []


def test_the_folder_of_another_service_is_no_store(client: redis.Redis, tmp_path: Path) -> None:
    api(client, tmp_path / "other")
    client.delete(keys.ARTIFACTS)
    api(client, tmp_path / "ours")
    with pytest.raises(ArtifactsUnavailable, match=f"has another {MARKER}"):
        worker(client, tmp_path / "other")


def test_a_share_that_goes_away_under_a_process_takes_nothing_and_hides_nothing(
    client: redis.Redis, tmp_path: Path
) -> None:
    folder = tmp_path / "artifacts"
    store = api(client, folder)
    ref = store.put(new_inspection_id(), IMAGE, b"kept")
    away = folder.rename(tmp_path / "away")
    folder.mkdir()
    for call in (
        lambda: store.get(ref),
        lambda: store.get_piece(ref, 0, 4),
        lambda: store.size(ref),
        lambda: store.put(new_inspection_id(), IMAGE, b"new"),
        store.probe,
    ):
        with pytest.raises(ArtifactsUnavailable, match=MARKER):
            call()
    assert list(folder.iterdir()) == []
    folder.rmdir()
    away.rename(folder)
    assert store.get(ref) == b"kept"
    with pytest.raises(ArtifactNotFound):
        store.get(store.ref(new_inspection_id(), IMAGE))


def test_what_the_error_says_marks_a_folder_that_takes_its_place(client: redis.Redis, tmp_path: Path) -> None:
    api(client, tmp_path / "old")
    new = tmp_path / "new"
    new.mkdir()
    with pytest.raises(ArtifactsUnavailable) as refused:
        api(client, new)
    subprocess.run(str(refused.value).partition("mark it: ")[2], shell=True, check=True)
    api(client, new).put(new_inspection_id(), IMAGE, b"x")


def test_an_emptied_redis_takes_over_the_marker_that_is_there(client: redis.Redis, tmp_path: Path) -> None:
    api(client, tmp_path)
    marker = (tmp_path / MARKER).read_text()
    client.flushall()
    api(client, tmp_path)
    assert (client.get(keys.ARTIFACTS), (tmp_path / MARKER).read_text()) == (marker.strip(), marker)


def test_a_worker_beside_an_older_api_goes_on_without_a_marker(client: redis.Redis, tmp_path: Path) -> None:
    store = worker(client, tmp_path)
    store.put(new_inspection_id(), IMAGE, b"x")
    assert (client.exists(keys.ARTIFACTS), (tmp_path / MARKER).exists()) == (0, False)


def test_a_bucket_needs_no_marker(client: redis.Redis) -> None:
    ArtifactHome(client, ArtifactStore("memory://bucket/prefix")).check(make=True)
    assert client.exists(keys.ARTIFACTS) == 0
