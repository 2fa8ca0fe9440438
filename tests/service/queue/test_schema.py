"""A service that finds a newer version's data does not touch it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis
import redis.asyncio

from service.host.child_process import EXIT_CONFIG
from service.host.supervisor import listen
from service.queue import keys
from service.queue.connection import SchemaTooNew, check_schema
from service.queue.jobs import JobQueue
from service.queue.submitter import JobSubmitter
from tests.service.conftest import Running
from tests.support.line import make_job, picture
from tests.support.redis_server import RedisServer


def test_the_first_service_notes_its_version_and_the_next_agrees(client: redis.Redis) -> None:
    for _ in range(2):
        check_schema(client)
    assert client.get(keys.SCHEMA) == str(keys.SCHEMA_VERSION)


@pytest.mark.parametrize("found", ["2", "100", "x"])
async def test_neither_side_of_the_queue_touches_what_is_newer(
    submitter: JobSubmitter, client: redis.Redis, found: str
) -> None:
    client.set(keys.SCHEMA, found)
    with pytest.raises(SchemaTooNew, match=f"holds data of schema {found}; .* knows schema 1: upgrade this service"):
        JobQueue(client).claim(1)
    with pytest.raises(SchemaTooNew):
        await submitter.submit(make_job())
    with pytest.raises(SchemaTooNew):
        await submitter.estimate()
    assert client.keys("*") == [keys.SCHEMA]


async def test_an_api_that_meets_it_later_refuses_images(api: Running, client: redis.Redis) -> None:
    client.set(keys.SCHEMA, "2")
    answer = await api.http.post("/v1/products/toy/inspections", content=picture())
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:glad:problem:queue-unavailable")
    assert api.stored() == []


def test_an_api_process_refuses_to_start_and_says_why(
    client: redis.Redis, shared_redis: RedisServer, toy_store: Path, tmp_path: Path
) -> None:
    client.set(keys.SCHEMA, "2")
    settings = {"GLAD_REDIS_URL": shared_redis.url, "GLAD_STORE": str(toy_store), "GLAD_DATA_DIR": str(tmp_path)}
    with listen("127.0.0.1", 0) as server:
        done = subprocess.run(
            [sys.executable, "-m", "service.api.server", "--fd", str(server.fileno())],
            env={**os.environ, **settings}, pass_fds=(server.fileno(),),
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode == EXIT_CONFIG
    assert "this Redis holds data of schema 2; this version of the service knows schema 1" in done.stderr
    assert "Traceback" not in done.stderr
