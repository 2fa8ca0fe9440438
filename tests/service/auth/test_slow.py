"""Clients that are slow on purpose, on a real socket: they are let go, and nobody else waits for them."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis

from service.api.connections import MAX_HEAD_BYTES, LimitedHttpProtocol
from service.settings import Settings
from tests.support.http_server import server_on
from tests.support.line import picture
from tests.support.redis_server import RedisServer

URL = "/v1/products/toy/inspections"


@pytest.fixture
def address(
    client: redis.Redis, shared_redis: RedisServer, toy_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, int]]:
    """A service that waits half a second for a body, and as long for a head."""
    monkeypatch.setattr(LimitedHttpProtocol, "head_timeout_s", 0.5)
    settings = Settings(redis_url=shared_redis.url, store=str(toy_store), data_dir=tmp_path, body_timeout_s=0.5)
    with server_on(settings) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        yield host, int(port)


def said(address: tuple[str, int], *sent: bytes) -> bytes:
    """Sends these bytes and then nothing more; all that comes back until the service closes the connection."""
    with socket.create_connection(address, timeout=60) as stream:
        try:
            for part in sent:
                stream.sendall(part)
        except (BrokenPipeError, ConnectionResetError):  # it closed while we sent
            return b""
        answer = b""
        try:
            while part := stream.recv(65536):
                answer += part
        except ConnectionResetError:
            pass
        return answer


def post_still_works(address: tuple[str, int]) -> bool:
    """The next good image is accepted."""
    url = f"http://{address[0]}:{address[1]}{URL}"
    return httpx.post(url, content=picture(), timeout=60).status_code == 202


HEAD = f"POST {URL} HTTP/1.1\r\nHost: localhost\r\n".encode()


@pytest.mark.parametrize(
    "sent",
    [
        HEAD + b"Content-Length: 1000\r\n\r\n",
        HEAD + b"Content-Length: 1000\r\n\r\n" + bytes(999),
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ],
    ids=["no byte", "one byte short", "chunks that stop"],
)
def test_a_body_that_stops_coming_is_408(address: tuple[str, int], client: redis.Redis, sent: bytes) -> None:
    head, _, body = said(address, sent).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in head.lower()
    problem = json.loads(body)
    assert (problem["type"], problem["status"]) == ("urn:glad:problem:body-too-slow", 408)
    assert "GLAD_BODY_TIMEOUT_S" in problem["detail"]
    assert client.keys("glad:v1:inspection:*") == []
    assert post_still_works(address)


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HT", HEAD, HEAD + b"X-A: 1\r\nX-B"], ids=["none", "line", "some", "half"]
)
def test_a_head_that_does_not_come_is_let_go(address: tuple[str, int], sent: bytes) -> None:
    assert said(address, sent) == b""
    assert post_still_works(address)


def test_an_endless_head_is_let_go(address: tuple[str, int]) -> None:
    line = b"X-Filler: " + b"a" * 1000 + b"\r\n"
    assert said(address, HEAD, *[line] * (20 * MAX_HEAD_BYTES // 1000)) == b""
    assert post_still_works(address)


def test_a_second_request_on_a_connection_has_its_own_time(address: tuple[str, int]) -> None:
    request = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answers = said(address, request, request, b"GET / HT")
    assert answers.count(b"HTTP/1.1 200 OK") == 2


def test_a_body_that_came_fast_is_not_waited_for_longer_than_another(address: tuple[str, int]) -> None:
    # At 16 KiB a second these bytes would have taken minutes: what came quickly buys no long silence.
    body = bytes(3_000_000)
    answer = said(address, HEAD + f"Content-Length: {len(body) + 1}\r\n\r\n".encode(), body)
    assert answer.startswith(b"HTTP/1.1 408")
    assert post_still_works(address)


def test_a_client_that_waits_for_its_result_is_not_taken_for_a_slow_one(address: tuple[str, int]) -> None:
    # Prefer: wait=1 holds the answer twice as long as a body may take
    url = f"http://{address[0]}:{address[1]}{URL}"
    answer = httpx.post(url, content=picture(), headers={"Prefer": "wait=1"}, timeout=60)
    assert answer.status_code == 202


def test_garbage_is_no_server_error(address: tuple[str, int]) -> None:
    for sent in (
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET \xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST / HTTP/9.9\r\n\r\n",
    ):
        answer = said(address, sent)
        assert not answer.startswith(b"HTTP/1.1 5"), answer
    assert post_still_works(address)
