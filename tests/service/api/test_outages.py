"""Redis or the disk is away: 503, nothing half-kept, and what was accepted stays accepted. One real uvicorn."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from pathlib import Path

import httpx
import pytest
import redis

from model_store.product_state import STATE_NAME
from service.api.app import create_app
from service.queue.jobs import JobQueue
from service.settings import Settings
from service.storage import bounded
from tests.service.conftest import Running, StartApp, write_toy
from tests.support.disk import go_on, hang
from tests.support.http_server import server_on
from tests.support.line import picture, result_of
from tests.support.redis_server import RedisServer

URL = "/v1/products/toy/inspections"


async def test_without_redis_everything_that_needs_it_is_503_and_comes_back(
    own_redis: RedisServer, start_app: StartApp
) -> None:
    running: Running = await start_app(own_redis.url, retry_after_s=3)
    accepted = (await running.http.post(URL, content=picture())).headers["location"]
    own_redis.kill()
    for answer in (
        await running.http.post(URL, content=picture()),
        await running.http.get(accepted),
        await running.http.get(f"{accepted}/image"),
    ):
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")
        assert answer.json()["type"] == "urn:glad:problem:queue-unavailable"
    ready = await running.http.get("/health/ready")
    assert (ready.status_code, ready.json()["checks"]["redis"]["ok"]) == (503, False)
    assert ready.json()["checks"]["redis"]["detail"].startswith("Redis does not answer, or refuses")
    assert own_redis.url.removeprefix("unix://").partition("?")[0] not in ready.text  # nor its address
    assert (await running.http.get("/health/live")).status_code == 200
    assert (await running.http.get("/v1/products")).status_code == 200
    assert (await running.http.get("/metrics")).status_code == 200
    assert len(running.stored()) == 1
    await asyncio.to_thread(own_redis.start)
    assert (await running.http.get(accepted)).json()["state"] == "queued"
    assert (await running.http.post(URL, content=picture())).status_code == 202


async def test_a_redis_out_of_memory_refuses_and_leaves_no_bytes(own_redis: RedisServer, start_app: StartApp) -> None:
    running: Running = await start_app(own_redis.url)
    with own_redis.connect() as client:
        client.config_set("maxmemory", "1")
        refused = await running.http.post(URL, content=picture())
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:glad:problem:queue-unavailable")
        assert running.stored() == []
        client.config_set("maxmemory", "0")
    assert (await running.http.post(URL, content=picture())).status_code == 202


async def test_what_was_accepted_is_answered_202_even_if_redis_dies_while_the_client_waits(
    own_redis: RedisServer, start_app: StartApp
) -> None:
    running: Running = await start_app(own_redis.url)
    waiting = asyncio.create_task(running.http.post(URL, content=picture(), headers={"Prefer": "wait=1"}))
    with own_redis.connect() as client:
        await asyncio.to_thread(JobQueue(client).claim, 1, 20_000)
    own_redis.kill()
    answer = await waiting
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    await asyncio.to_thread(own_redis.start)
    assert (await running.http.get(answer.headers["location"])).json()["state"] == "running"


async def test_a_disk_that_takes_nothing_is_503_and_nothing_is_queued(
    client: redis.Redis, shared_redis: RedisServer, start_app: StartApp, tmp_path: Path
) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the artifact folder should be")
    running: Running = await start_app(shared_redis.url, artifacts_url=str(blocked / "artifacts"))
    answer = await running.http.post(URL, content=picture())
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:glad:problem:storage-unavailable")
    assert str(blocked) not in answer.text  # paths of this machine are nobody's business
    assert client.keys("glad:v1:inspection:*") == []
    ready = await running.http.get("/health/ready")
    assert (ready.status_code, ready.json()["checks"]["artifacts"]["ok"]) == (503, False)
    assert ready.json()["checks"]["artifacts"]["detail"].startswith("the image store cannot be written")
    assert str(blocked) not in ready.text


async def test_while_the_folder_of_images_hangs_they_are_503_and_then_accepted(
    client: redis.Redis, shared_redis: RedisServer, start_app: StartApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "REST_S", 0.5)
    running: Running = await start_app(shared_redis.url)
    accepted = (await running.http.post(URL, content=picture())).headers["location"]
    folder = Path(running.settings.artifacts)
    marker = hang(folder)
    async with asyncio.timeout(60):
        monkeypatch.setattr(bounded, "ANSWER_S", 0.5)
        for answer in await asyncio.gather(*(running.http.post(URL, content=picture()) for _ in range(20))):
            assert (answer.status_code, answer.json()["type"]) == (503, "urn:glad:problem:storage-unavailable")
            assert "retry-after" in answer.headers
        ready = await running.http.get("/health/ready")
    assert (ready.status_code, ready.json()["checks"]["artifacts"]["ok"]) == (503, False)
    assert (await running.http.get(accepted)).json()["state"] == "queued"
    monkeypatch.setattr(bounded, "ANSWER_S", 15.0)
    await asyncio.to_thread(go_on, folder, marker)
    while (answer := await running.http.post(URL, content=picture())).status_code == 503:
        await asyncio.sleep(0.1)
    assert answer.status_code == 202
    assert len(client.keys("glad:v1:inspection:*")) == 2


async def test_while_the_store_of_bundles_hangs_images_are_503_and_then_accepted(
    client: redis.Redis, shared_redis: RedisServer, start_app: StartApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_toy(tmp_path / "store" / "toy" / "1")
    running: Running = await start_app(shared_redis.url, store=str(tmp_path / "store"))
    assert (await running.http.post(URL, content=picture())).status_code == 202
    state = tmp_path / "store" / "toy" / STATE_NAME
    content = state.read_bytes()
    state.unlink()
    os.mkfifo(state)
    async with asyncio.timeout(60):
        monkeypatch.setattr("service.api.problems.BUNDLES_ANSWER_S", 0.5)
        asked = (running.http.post(URL, content=picture()) for _ in range(10))
        for answer in await asyncio.gather(*asked, running.http.get("/v1/products/toy")):
            assert (answer.status_code, answer.json()["type"]) == (503, "urn:glad:problem:storage-unavailable")
            assert "retry-after" in answer.headers
    monkeypatch.setattr("service.api.problems.BUNDLES_ANSWER_S", 15.0)
    state.rename(fifo := tmp_path / "fifo")
    state.write_bytes(content)
    with fifo.open("wb") as answering:
        answering.write(content)
    while (answer := await running.http.post(URL, content=picture())).status_code == 503:
        await asyncio.sleep(0.1)
    assert answer.status_code == 202


async def test_while_the_store_of_bundles_is_away_images_are_503_and_then_accepted(
    client: redis.Redis, shared_redis: RedisServer, start_app: StartApp, tmp_path: Path
) -> None:
    store, away = tmp_path / "store", tmp_path / "away"
    write_toy(store / "toy" / "1")
    running: Running = await start_app(shared_redis.url, store=str(store))
    store.rename(away)
    for answer in (
        await running.http.post(URL, content=picture()),
        await running.http.get("/v1/products/toy"),
    ):
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:glad:problem:storage-unavailable")
        assert "retry-after" in answer.headers
        assert str(store) not in answer.text
    assert running.stored() == []
    away.rename(store)
    assert (await running.http.post(URL, content=picture())).status_code == 202
    assert (await running.http.post(URL.replace("toy", "other"), content=picture())).status_code == 404


async def test_a_store_without_products_is_not_ready(
    client: redis.Redis, shared_redis: RedisServer, start_app: StartApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.app.SHIPPED_BUNDLES", None)
    running: Running = await start_app(shared_redis.url, store=str(tmp_path / "empty"))
    ready = await running.http.get("/health/ready")
    assert (ready.status_code, ready.json()["checks"]["products"]["ok"]) == (503, False)


async def test_a_product_whose_bundle_broke_is_404_and_says_so(
    client: redis.Redis, shared_redis: RedisServer, start_app: StartApp, tmp_path: Path
) -> None:
    write_toy(tmp_path / "store" / "toy" / "1")
    running: Running = await start_app(shared_redis.url, store=str(tmp_path / "store"))
    assert (await running.http.post(URL, content=picture())).status_code == 202
    (tmp_path / "store" / "toy" / "1" / "unet" / "model.safetensors").unlink()
    answer = await running.http.post(URL, content=picture())
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:glad:problem:product-unusable")
    assert str(tmp_path) not in answer.text


def test_an_application_without_a_redis_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="GLAD_REDIS_URL is not set"):
        create_app(Settings(data_dir=tmp_path))


def test_over_a_real_socket_the_road_is_the_same(
    client: redis.Redis, shared_redis: RedisServer, toy_store: Path, tmp_path: Path
) -> None:
    image = picture()
    settings = Settings(redis_url=shared_redis.url, store=str(toy_store), data_dir=tmp_path, max_image_bytes=len(image))
    queue = JobQueue(client, lease_ms=60_000)

    def work() -> None:
        for claimed in queue.claim(1, 20_000):
            queue.complete(claimed, result_of(claimed, 2.0))

    worker = threading.Thread(target=work)
    worker.start()
    with server_on(settings) as url, httpx.Client(base_url=url, timeout=30) as http:
        answer = http.post(URL, content=image, headers={"Prefer": "wait=20"})
        assert (answer.status_code, answer.json()["verdict"]) == (200, "fail")
        worker.join()
        assert http.get(answer.json()["artifacts"]["image"]).content == image
        assert _post_forever(url) == b"HTTP/1.1 413"
        assert http.post(URL, content=image).status_code == 202


def _post_forever(url: str) -> bytes:
    """Sends a chunked body that never ends, until the server answers; returns the start of the answer."""
    host, port = url.removeprefix("http://").split(":")
    chunk = b"%x\r\n%s\r\n" % (1 << 14, os.urandom(1 << 14))
    with socket.create_connection((host, int(port)), timeout=30) as stream:
        head = f"POST {URL} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        stream.sendall(head.encode() + chunk * 8)  # 128 KiB: twice what is allowed
        return stream.recv(12)
