"""What blocks has threads of its own: an image store that hangs delays nobody who needs no image."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from service.contract import Failure, State
from service.queue.jobs import JobQueue
from service.settings import Settings
from tests.service.conftest import Running, StartApp
from tests.support.http_server import server_on
from tests.support.line import picture
from tests.support.redis_server import RedisServer

URL = "/v1/products/toy/inspections"
opened: list[str] = []
sys.addaudithook(lambda event, given: opened.append(str(given[0])) if event == "open" else None)


@contextmanager
def hanging(file: Path) -> Iterator[None]:
    """Who opens the file waits until the block ends, as on a network disk whose server has gone."""
    content = file.read_bytes()
    file.unlink()
    os.mkfifo(file)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # nobody waits
            os.close(os.open(file, os.O_WRONLY | os.O_NONBLOCK))
        file.unlink()
        file.write_bytes(content)


async def test_calls_without_an_image_are_answered_while_the_image_store_hangs(api: Running) -> None:
    location = (await api.http.post(URL, content=picture())).headers["location"]
    (stored,) = [path for path in api.stored() if path.name == "image"]
    with hanging(stored):
        stuck = [asyncio.create_task(api.http.get(f"{location}/image")) for _ in range(50)]
        await asyncio.sleep(0.5)  # all have asked for the file
        assert not any(task.done() for task in stuck)
        async with asyncio.timeout(30):
            assert (await api.http.get("/v1/products")).status_code == 200
            assert (await api.http.get("/v1/products/toy")).status_code == 200
            ready = await api.http.get("/health/ready")
            assert (ready.status_code, ready.json()["checks"]["products"]["ok"]) == (200, True)
            assert (await api.http.get("/metrics")).status_code == 200
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)


async def test_a_digest_and_a_replay_wait_for_no_thread_of_others(api: Running) -> None:
    """The pool that all code shares, and that looks up names, has one thread here, which hangs."""
    shared, released = ThreadPoolExecutor(1), threading.Event()
    asyncio.get_running_loop().set_default_executor(shared)
    hanging = shared.submit(released.wait)
    digest = base64.b64encode(hashlib.sha256(picture()).digest()).decode()
    try:
        async with asyncio.timeout(60):
            sent = await api.http.post(
                URL, content=picture(), headers={"Content-Digest": f"sha-256=:{digest}:"}, params={"deadline_ms": 1}
            )
            assert sent.status_code == 202
            queue = JobQueue(redis.Redis.from_url(str(api.settings.redis_url), decode_responses=True))
            [claimed] = queue.claim(1)
            queue.fail(claimed, Failure(code="deadline_passed", detail="too late"), state=State.EXPIRED)
            again = await api.http.post(f"/v1/inspections/{sent.json()['id']}/replay")
            assert (again.status_code, again.json()["replay_of"]) == (202, sent.json()["id"])
    finally:
        released.set()
        assert hanging.result()


async def test_an_image_is_accepted_while_readers_wait_for_files_that_do_not_come(api: Running) -> None:
    location = (await api.http.post(URL, content=picture())).headers["location"]
    (stored,) = [path for path in api.stored() if path.name == "image"]
    with hanging(stored):
        stuck = [asyncio.create_task(api.http.get(f"{location}/image")) for _ in range(50)]
        await asyncio.sleep(0.5)  # all have asked for the file
        posted = [asyncio.create_task(api.http.post(URL, content=picture())) for _ in range(3)]
        _, waiting = await asyncio.wait(posted, timeout=30)
        assert not waiting
        assert [task.result().status_code for task in posted] == [202] * 3
        assert not any(task.done() for task in stuck)
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)


async def test_readiness_writes_to_the_image_store_once_however_many_ask(api: Running) -> None:
    opened.clear()
    answers = await asyncio.gather(*(api.http.get("/health/ready") for _ in range(50)))
    answers += [await api.http.get("/health/ready") for _ in range(10)]
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["checks"]["artifacts"]["detail"] for answer in answers} == {"can be written"}
    probes = [name for name in opened if ".probe-" in name]
    assert 1 <= len(probes) < 20


async def test_what_readiness_remembers_is_soon_forgotten(
    client: redis.Redis, shared_redis: RedisServer, start_app: StartApp, tmp_path: Path
) -> None:
    folder = tmp_path / "artifacts"
    running: Running = await start_app(shared_redis.url, artifacts_url=str(folder))
    assert (await running.http.get("/health/ready")).status_code == 200
    folder.rmdir()
    folder.write_text("a file where the folder should be")
    async with asyncio.timeout(60):
        while (await running.http.get("/health/ready")).status_code == 200:
            await asyncio.sleep(0.05)
    folder.unlink()
    async with asyncio.timeout(60):
        while (await running.http.get("/health/ready")).status_code != 200:
            await asyncio.sleep(0.05)


def test_no_more_event_streams_open_at_once_than_are_allowed(
    client: redis.Redis, shared_redis: RedisServer, toy_store: Path, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"redis_url": shared_redis.url, "store": str(toy_store), "data_dir": tmp_path}

    async def status(http: httpx.AsyncClient, done: asyncio.Event, seen: list[int]) -> None:
        async with http.stream("GET", "/v1/events") as answer:
            seen.append(answer.status_code)
            if answer.status_code == 200:
                await done.wait()

    async def follow_at_once(url: str) -> list[int]:
        seen, done = list[int](), asyncio.Event()
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as http:
            tasks = [asyncio.create_task(status(http, done, seen)) for _ in range(40)]
            while len(seen) < 40:
                await asyncio.sleep(0.05)
            done.set()
            await asyncio.gather(*tasks)
        return seen

    with server_on(Settings(**given, max_event_streams=5)) as url:
        assert sorted(asyncio.run(follow_at_once(url))) == [200] * 5 + [429] * 35


@pytest.mark.parametrize("path", ["/v1/events"])
def test_a_reader_that_leaves_gives_its_place_back(
    client: redis.Redis, shared_redis: RedisServer, toy_store: Path, tmp_path: Path, path: str
) -> None:
    given: dict[str, Any] = {"redis_url": shared_redis.url, "store": str(toy_store), "data_dir": tmp_path}
    with server_on(Settings(**given, max_event_streams=1, heartbeat_s=0.05)) as url, httpx.Client(base_url=url) as http:
        for _ in range(3):
            for _ in range(600):
                with http.stream("GET", path, timeout=60) as answer:
                    if answer.status_code == 200:
                        assert next(answer.iter_lines()) == "retry: 2000"
                        break
            else:
                pytest.fail("the place of a reader that left is still taken")


async def test_many_calls_at_once_wait_for_redis_instead_of_failing(api: Running) -> None:
    location = (await api.http.post(URL, content=picture())).headers["location"]
    answers = await asyncio.gather(*(api.http.get(location) for _ in range(400)))
    assert [answer.status_code for answer in answers] == [200] * 400


async def test_many_probes_at_once_leave_redis_to_the_cameras(api: Running) -> None:
    probes = [asyncio.create_task(api.http.get("/health/ready")) for _ in range(200)]
    await asyncio.sleep(0)
    answers = await asyncio.gather(*(api.http.post(URL, content=picture()) for _ in range(5)))
    assert [answer.status_code for answer in answers] == [202] * 5
    assert {answer.status_code for answer in await asyncio.gather(*probes)} == {200}
