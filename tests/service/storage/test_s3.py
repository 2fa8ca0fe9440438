"""Artifacts in an object store that speaks S3: moto's server in a process of its own, s3fs as the client."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from urllib.parse import unquote

import fsspec
import pytest
import redis

from service.contract import new_inspection_id
from service.maintenance.retention import ArtifactLimits, Sweeper, Swept
from service.queue import keys
from service.storage import remote as remote_store
from service.storage.artifacts import ArtifactNotFound, ArtifactStore, ArtifactsUnavailable
from tests.service.conftest import Running, StartApp
from tests.support.line import picture
from tests.support.object_store import ObjectStore
from tests.support.redis_server import RedisServer
from tests.support.wire import Wire

OLD = "019abc12-3456-7def-8123-456789abcdef"  # of 2025-11-25: see test_artifacts.py
URL = "/v1/products/toy/inspections"


def test_files_are_put_got_listed_replaced_and_removed(bucket: ArtifactStore) -> None:
    ref = bucket.put(OLD, "image", b"one")
    bucket.put(OLD, "image", b"second")
    bucket.put(OLD, "map.npy", b"m")
    assert bucket.get(ref) == b"second"
    assert bucket.days() == ["2025-11-25"]
    (kept,) = bucket.inspections("2025-11-25")
    assert (kept.inspection_id, kept.names, kept.bytes) == (OLD, frozenset({"image", "map.npy"}), 7)
    bucket.remove(ref)
    bucket.remove(ref)
    with pytest.raises(ArtifactNotFound):
        bucket.get(ref)
    bucket.remove_inspection(OLD)
    assert list(bucket.inspections("2025-11-25")) == []
    bucket.probe()


async def test_a_large_image_is_sent_in_pieces(
    client: redis.Redis, shared_redis: RedisServer, start_app: StartApp, bucket: ArtifactStore
) -> None:
    running: Running = await start_app(shared_redis.url, artifacts_url=bucket.root)
    image = picture(600, 600, "BMP")
    accepted = (await running.http.post(URL, content=image)).json()["id"]
    answer = await running.http.get(f"/v1/inspections/{accepted}/image")
    assert (answer.content, answer.headers["content-length"]) == (image, str(len(image)))
    ref = ArtifactStore.ref(accepted, "image")
    assert bucket.get_piece(ref, 1000, 50) == image[1000:1050]


def test_the_archive_folder_is_listed_and_kept_apart(bucket: ArtifactStore) -> None:
    archive = bucket.folder("archive")
    assert archive.names() == []
    archive.put("a.jsonl", json.dumps({"a": 1}).encode())
    assert archive.names() == ["a.jsonl"]
    assert archive.get("a.jsonl") == b'{"a": 1}'
    assert bucket.days() == []


def test_the_old_go_and_what_is_queued_or_young_stays(bucket: ArtifactStore, client: redis.Redis) -> None:
    young, queued = new_inspection_id(), "019abc12-3456-7def-8123-456789abcd00"
    for name in (OLD, young, queued):
        bucket.put(name, "image", b"1234")
    client.hset(keys.inspection(queued), "state", "queued")
    assert Sweeper(client, bucket, ArtifactLimits(max_age_s=86_400)).sweep() == Swept(too_old=1, bytes=4)
    left = {one.inspection_id for day in bucket.days() for one in bucket.inspections(day)}
    assert left == {young, queued}


def test_another_process_sees_what_was_written_meanwhile(bucket: ArtifactStore) -> None:
    assert bucket.days() == []
    script = (
        "from service.storage.artifacts import ArtifactStore; "
        f"ArtifactStore({bucket.root!r}).put({OLD!r}, 'image', b'x')"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert bucket.days() == ["2025-11-25"]
    assert [one.inspection_id for one in bucket.inspections("2025-11-25")] == [OLD]


def test_a_day_is_listed_in_pieces_that_fit_into_memory(bucket: ArtifactStore, object_store: ObjectStore) -> None:
    # 0x019abc12 and 0x019abd21 begin 17 minutes and more apart.
    names = [f"019abc12-3456-7def-8123-{number:012x}" for number in range(3)]
    names += [f"019abd21-3456-7def-8123-{number:012x}" for number in range(3)]
    for name in reversed(names):
        bucket.put(name, "image", b"1")
        bucket.put(name, "map.npy", b"22")
    seen = len(object_store.requests())
    found = list(bucket.inspections("2025-11-25"))
    assert [one.inspection_id for one in found] == names
    assert {(one.names, one.bytes) for one in found} == {(frozenset({"image", "map.npy"}), 3)}
    listings = [unquote(path) for path in object_store.requests()[seen:] if "list-type=2" in path]
    assert len(listings) == 84  # a day is 82.4 pieces of 2^20 ms, and begins within one
    assert all(re.search(r"prefix=line/2025-11-25/[0-9a-f]{7}(&|$)", path) for path in listings)


def test_a_store_that_is_away_is_unavailable_and_soon_said_to_be(bucket: ArtifactStore, s3_wire: Wire) -> None:
    ref = bucket.put(OLD, "image", b"x")
    s3_wire.cut()
    for call in (lambda: bucket.put(OLD, "image", b"y"), lambda: bucket.get(ref), bucket.days, bucket.probe):
        before = s3_wire.connections
        with pytest.raises(ArtifactsUnavailable):
            call()
        assert s3_wire.connections - before < 10, "the libraries by themselves try 25 times, and a camera waits"
    s3_wire.mend()
    assert bucket.get(ref) == b"x"


@pytest.mark.usefixtures("client")
async def test_a_store_that_is_silent_keeps_one_call_waiting_and_no_other(
    shared_redis: RedisServer,
    start_app: StartApp,
    bucket: ArtifactStore,
    s3_wire: Wire,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running: Running = await start_app(shared_redis.url, artifacts_url=bucket.root)
    assert (await running.http.post(URL, content=picture())).status_code == 202
    s3_wire.silence()
    with monkeypatch.context() as patch:
        patch.setattr(remote_store, "WRITE_S", 0.5)
        first = await running.http.post(URL, content=picture())
        assert (first.status_code, "retry-after" in first.headers) == (503, True)
        asked = s3_wire.connections
        many = [running.http.post(URL, content=picture()) for _ in range(100)]
        assert {answer.status_code for answer in await asyncio.gather(*many)} == {503}
        assert s3_wire.connections - asked < 20, "one asks whether it is back, and no other"
    s3_wire.mend()

    async def accepted() -> bool:
        return (await running.http.post(URL, content=picture())).status_code == 202

    while not await accepted():
        await asyncio.sleep(0.1)


def test_a_bucket_that_is_not_there_is_not_made(bucket: ArtifactStore) -> None:
    system = fsspec.filesystem("s3")
    buckets = system.ls("")
    with pytest.raises(ArtifactsUnavailable, match="could not be stored in s3://glad-missing/line"):
        ArtifactStore("s3://glad-missing/line").put(OLD, "image", b"x")
    system.invalidate_cache()
    assert system.ls("") == buckets


def test_in_a_bucket_that_is_gone_no_image_is_said_to_be_missing(bucket: ArtifactStore) -> None:
    ref = bucket.put(OLD, "image", b"x")
    bucket.remove(ref)
    with pytest.raises(ArtifactNotFound):
        bucket.get(ref)
    fsspec.filesystem("s3").rmdir(bucket.root.split("/")[2])
    with pytest.raises(ArtifactsUnavailable, match="there is no such bucket: make it, or set GLAD_ARTIFACTS_URL"):
        bucket.get(ref)


async def test_an_image_that_the_store_does_not_take_is_503_and_none_is_queued(
    client: redis.Redis, shared_redis: RedisServer, start_app: StartApp, bucket: ArtifactStore, s3_wire: Wire
) -> None:
    running: Running = await start_app(shared_redis.url, artifacts_url=bucket.root, retry_after_s=3)
    accepted = (await running.http.post(URL, content=picture())).json()["id"]
    s3_wire.cut()
    for answer in (
        await running.http.post(URL, content=picture(colour="red")),
        await running.http.get(f"/v1/inspections/{accepted}/image"),
        await running.http.get("/health/ready"),
    ):
        assert answer.status_code == 503, answer.text
        assert answer.headers["retry-after"] == "3"
        assert bucket.root not in answer.text
    assert list(client.scan_iter(f"{keys.INSPECTION_PREFIX}*")) == [keys.inspection(accepted)]
    s3_wire.mend()
    assert (await running.http.get(f"/v1/inspections/{accepted}/image")).content == picture()
    assert (await running.http.post(URL, content=picture(colour="red"))).status_code == 202
    assert len(await asyncio.to_thread(lambda: [one for day in bucket.days() for one in bucket.inspections(day)])) == 2
