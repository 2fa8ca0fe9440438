"""A Redis that is there and says nothing (SIGSTOP), or answers late: every call ends, and nothing accepted is lost."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from itertools import dropwhile, islice
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.contract import Priority
from service.queue import keys
from service.queue.jobs import JobQueue
from service.settings import Settings
from tests.service.conftest import Running, StartApp
from tests.support.http_server import server_on
from tests.support.line import picture
from tests.support.redis_server import RedisServer
from tests.support.wire import Wire

URL = "/v1/products/toy/inspections"
ANSWER_S = 3.0
PATIENCE_S = 40.0
"""How long a call is waited for here: many times what it may take, and far less than the minutes it once took."""
UNTOUCHED = {"/health/live", "/metrics", "/docs", "/openapi.json"}
"""These answer 200 without Redis."""


async def test_every_call_of_the_document_ends_while_redis_is_stopped(
    own_redis: RedisServer, start_app: StartApp
) -> None:
    running: Running = await start_app(own_redis.url, redis_answer_s=ANSWER_S)
    accepted = (await running.http.post(URL, content=picture())).json()["id"]
    calls = _calls((await running.http.get("/openapi.json")).json(), accepted)
    own_redis.signal(signal.SIGSTOP)
    try:
        answers = await asyncio.gather(*(_send(running.http, method, path) for method, path in calls))
    finally:
        own_redis.signal(signal.SIGCONT)
    refused = [answer for answer in answers if answer.status_code >= 500]
    for answer in refused:
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2"), answer.url
        if not answer.url.path.startswith(("/v2", "/health")):
            assert answer.headers["content-type"] == "application/problem+json", answer.url
    assert {answer.status_code for answer in answers if answer.url.path in UNTOUCHED} == {200}
    # What asks Redis is refused; where a body or an address is not as it should be, that may be said first.
    asked = {"/v1/inspections", f"/v1/inspections/{accepted}", URL, "/v1/events", "/v1/session", "/health/ready"}
    assert asked <= {answer.url.path for answer in refused}
    assert (await running.http.get(f"/v1/inspections/{accepted}")).json()["state"] == "queued"


async def test_an_image_refused_by_a_stopped_redis_counts_once_when_it_is_sent_again(
    own_redis: RedisServer, start_app: StartApp
) -> None:
    running: Running = await start_app(own_redis.url, redis_answer_s=ANSWER_S)
    assert (await running.http.post(URL, content=picture())).status_code == 202
    headers = {"Idempotency-Key": "part-1"}
    own_redis.signal(signal.SIGSTOP)
    try:
        async with asyncio.timeout(PATIENCE_S):
            refused = await running.http.post(URL, content=picture(), headers=headers)
    finally:
        own_redis.signal(signal.SIGCONT)
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:glad:problem:queue-unavailable")
    answers = [await running.http.post(URL, content=picture(), headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    with own_redis.connect() as client:
        assert client.xlen(keys.PoolKeys("default").jobs(Priority.NORMAL)) == 2
    assert len(running.stored()) == 2  # nothing of the refused one, or of the repeat


async def test_more_calls_than_connections_find_redis_again_once_it_goes_on(
    own_redis: RedisServer, start_app: StartApp
) -> None:
    running: Running = await start_app(own_redis.url, redis_answer_s=ANSWER_S)
    path = (await running.http.post(URL, content=picture())).headers["location"]
    own_redis.signal(signal.SIGSTOP)
    try:
        async with asyncio.timeout(PATIENCE_S):
            refused = await asyncio.gather(*(running.http.get(path) for _ in range(150)))  # 100 are in the pool
    finally:
        own_redis.signal(signal.SIGCONT)
    assert {answer.status_code for answer in refused} == {503}
    found = await asyncio.gather(*(running.http.get(path) for _ in range(150)))
    assert {answer.status_code for answer in found} == {200}


async def test_what_was_accepted_is_answered_202_if_redis_stops_while_the_client_waits(
    own_redis: RedisServer, start_app: StartApp
) -> None:
    running: Running = await start_app(own_redis.url, redis_answer_s=ANSWER_S)
    waiting = asyncio.create_task(running.http.post(URL, content=picture(), headers={"Prefer": "wait=1"}))
    with own_redis.connect() as client:
        await asyncio.to_thread(JobQueue(client).claim, 1, 20_000)
        own_redis.signal(signal.SIGSTOP)
        try:
            async with asyncio.timeout(PATIENCE_S):
                answer = await waiting
        finally:
            own_redis.signal(signal.SIGCONT)
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    assert (await running.http.get(answer.headers["location"])).json()["state"] == "running"


def test_no_heartbeat_says_that_nothing_happens_while_the_events_cannot_be_read(
    own_redis: RedisServer, toy_store: Path, tmp_path: Path
) -> None:
    given: Any = {"redis_url": own_redis.url, "store": str(toy_store), "data_dir": tmp_path}
    quick = Settings(**given, redis_answer_s=ANSWER_S, heartbeat_s=0.5)
    with server_on(quick) as url, httpx.stream("GET", f"{url}/v1/events?heartbeats=true", timeout=PATIENCE_S) as stream:
        frames = _frames(stream.iter_lines())
        assert any(map(_is_heartbeat, islice(frames, 5)))
        own_redis.signal(signal.SIGSTOP)
        try:
            # A page of events is remembered for five seconds: heartbeats until then.
            silent = list(islice(dropwhile(_is_heartbeat, islice(frames, 30)), 2))
        finally:
            own_redis.signal(signal.SIGCONT)
        assert [frame[:25] for frame in silent] == [": the events cannot be re"] * 2
        assert any(map(_is_heartbeat, islice(frames, 30)))


def _is_heartbeat(frame: str) -> bool:
    return "event: heartbeat" in frame


def _frames(lines: Iterator[str]) -> Iterator[str]:
    """The stream's text from blank line to blank line."""
    found: list[str] = []
    for line in lines:
        if line:
            found.append(line)
        else:
            yield "\n".join(found)
            found = []


@pytest.mark.parametrize(("late_s", "answer_s", "status"), [(0.1, 30, 202), (1.2, ANSWER_S, 503)])
async def test_all_commands_of_an_image_share_one_patience(
    own_redis: RedisServer, start_app: StartApp, late_s: float, answer_s: float, status: int
) -> None:
    # An image takes six commands and more. Each of them alone would end within the limit of three seconds.
    with Wire(own_redis.url) as wire:
        running: Running = await start_app(wire.url, redis_answer_s=answer_s)
        assert (await running.http.post(URL, content=picture())).status_code == 202
        wire.delay_replies(late_s)
        assert (await running.http.post(URL, content=picture())).status_code == status
        wire.delay_replies(0)
        assert (await running.http.post(URL, content=picture())).status_code == 202


def _calls(document: dict[str, Any], inspection_id: str) -> list[tuple[str, str]]:
    """Each call of the document, with an address that may exist."""
    calls = []
    for template, methods in document["paths"].items():
        path = template.replace("{id}", inspection_id).replace("{product}", "toy").replace("{name}", "image")
        while "{" in path:
            path = f"{path.partition('{')[0]}one{path.partition('}')[2]}"
        calls += [(method.upper(), path) for method in methods]
    return calls


async def _send(http: httpx.AsyncClient, method: str, path: str) -> httpx.Response:
    body: dict[str, Any] = {}
    if method in ("POST", "PUT", "PATCH"):
        body = {"content": picture()} if path == URL else {"json": {"person": "Ann"} if path == "/v1/session" else {}}
    async with asyncio.timeout(PATIENCE_S):
        return await http.request(method, path, **body)
