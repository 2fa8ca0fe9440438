"""Connections that keep the service waiting, at every stage of a request: each has an end, and cameras are answered."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from service.api import connections
from service.api.connections import MAX_HEAD_BYTES, MAX_PIPELINED, LimitedHttpProtocol
from service.auth.api_keys import KeyStore
from service.auth.scopes import Scope
from service.host.child_process import Child
from service.host.liveness import is_alive
from service.host.supervisor import listen
from service.queue.claims import ClaimedJob
from service.queue.jobs import JobQueue
from service.settings import Settings
from tests.support.http_server import server_on
from tests.support.line import picture, result_of
from tests.support.processes import eventually
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.usefixtures("keys_read_at_once")

URL = "/v1/products/toy/inspections"
POST = f"POST {URL} HTTP/1.1\r\nHost: localhost\r\n".encode()
LIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
PIECE = b"X-Filler: " + b"a" * 65_000 + b"\r\n"
Serve = Callable[..., contextlib.AbstractContextManager[int]]


@pytest.fixture
def key(client: redis.Redis) -> str:
    """A camera's key: from now on every call needs one."""
    return KeyStore(client).create("camera", [Scope.SUBMIT])


@pytest.fixture
def serve(
    key: str, shared_redis: RedisServer, toy_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Serve:
    """Serves with the settings given; yields the port. What a head or an unread body may take is half a second."""
    monkeypatch.setattr(LimitedHttpProtocol, "head_timeout_s", 0.5)

    @contextmanager
    def serving(**settings: Any) -> Iterator[int]:
        given: dict[str, Any] = {"redis_url": shared_redis.url, "store": str(toy_store), "data_dir": tmp_path / "data"}
        with server_on(Settings(**(given | settings))) as url:
            yield int(url.rpartition(":")[2])

    return serving


def connect(port: int, address: str = "127.0.0.1") -> socket.socket:
    """A connection from this address of this machine."""
    return socket.create_connection(("127.0.0.1", port), timeout=60, source_address=(address, 0))


def answer_of(stream: socket.socket) -> bytes:
    """The head of the next answer and what came with it."""
    answer = b""
    while b"\r\n\r\n" not in answer and (part := stream.recv(65536)):
        answer += part
    return answer


def has_ended(stream: socket.socket) -> bool:
    """Reads until the service closes the connection; the socket's own timeout fails the test."""
    with contextlib.suppress(ConnectionResetError):
        while stream.recv(65536):
            pass
    return True


def sent_before_the_end(stream: socket.socket, piece: bytes, at_most: int) -> int:
    """How many pieces could be sent until the service had ended the connection."""
    for number in range(at_most):
        try:
            stream.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            return number
    return at_most


def post(port: int, key: str, address: str = "127.0.0.1", **headers: str) -> httpx.Response:
    """A camera's image on a connection of its own."""
    with httpx.Client(transport=httpx.HTTPTransport(local_address=address), timeout=60) as http:
        return http.post(
            f"http://127.0.0.1:{port}{URL}",
            content=picture(),
            headers={"Authorization": f"Bearer {key}", **headers},
        )


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 1000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"], ids=["length", "chunked"]
)
def test_after_a_refusal_a_body_that_stops_ends_the_connection(serve: Serve, framing: bytes) -> None:
    with serve() as port, connect(port) as stream:
        stream.sendall(POST + framing)
        head = answer_of(stream)
        assert head.startswith(b"HTTP/1.1 401")
        assert b"connection: close" in head.lower()
        stream.sendall(b"5")  # a byte of the body, or of the first chunk's size
        assert has_ended(stream)


def test_after_a_refusal_endless_trailers_end_the_connection(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_DISCARDED_BYTES", 1 << 20, raising=False)
    with serve() as port, connect(port) as stream:
        stream.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        assert answer_of(stream).startswith(b"HTTP/1.1 401")
        stream.sendall(b"0\r\n")
        assert sent_before_the_end(stream, PIECE, 1000) < 1000


@pytest.mark.parametrize("piece", [PIECE, b"a" * 65_000], ids=["many", "one"])
def test_endless_trailers_of_an_accepted_body_end_the_connection(serve: Serve, key: str, piece: bytes) -> None:
    image = picture()
    with serve() as port, connect(port) as stream:
        stream.sendall(POST + f"Authorization: Bearer {key}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        stream.sendall(f"{len(image):x}\r\n".encode() + image + b"\r\n0\r\nX-A: ")
        assert sent_before_the_end(stream, piece, 1000) < 1000


def test_an_endless_chunk_header_ends_the_connection(serve: Serve, key: str) -> None:
    with serve() as port, connect(port) as stream:
        stream.sendall(POST + f"Authorization: Bearer {key}\r\nTransfer-Encoding: chunked\r\n\r\n1;a=".encode())
        assert sent_before_the_end(stream, b"a" * 65_000, 1000) < 1000


def test_trailers_of_usual_size_are_accepted(serve: Serve, key: str) -> None:
    image = picture()
    with serve() as port, connect(port) as stream:
        stream.sendall(POST + f"Authorization: Bearer {key}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        stream.sendall(f"{len(image):x}\r\n".encode() + image + b"\r\n0\r\nX-Checksum: 1\r\n\r\n")
        assert answer_of(stream).startswith(b"HTTP/1.1 202")
        stream.sendall(LIVE)  # the connection is kept
        assert answer_of(stream).startswith(b"HTTP/1.1 200")


def test_many_small_chunks_are_accepted(serve: Serve, key: str) -> None:
    image = picture(300, 200, "BMP")
    chunks = b"".join(b"2\r\n" + image[at : at + 2] + b"\r\n" for at in range(0, len(image), 2))
    assert len(image) % 2 == 0
    assert len(chunks) - len(image) > 2 * MAX_HEAD_BYTES  # what the sizes of the chunks take
    with serve() as port, connect(port) as stream:
        stream.sendall(POST + f"Authorization: Bearer {key}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        stream.sendall(chunks + b"0\r\n\r\n")
        assert answer_of(stream).startswith(b"HTTP/1.1 202")


def test_empty_lines_do_not_keep_a_connection(serve: Serve) -> None:
    with serve() as port, connect(port) as stream:
        stream.sendall(LIVE)
        assert answer_of(stream).startswith(b"HTTP/1.1 200")
        for _ in range(300):
            try:
                stream.sendall(b"\r\n")
            except (BrokenPipeError, ConnectionResetError):
                return
            time.sleep(0.05)
        pytest.fail("the connection lives on empty lines")


def test_a_client_that_sends_all_of_a_body_too_large_reads_why(serve: Serve, key: str) -> None:
    body = bytes(8 << 20)
    with serve(max_image_bytes=1000) as port, connect(port) as stream:
        stream.sendall(POST + f"Authorization: Bearer {key}\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        time.sleep(0.2)  # the answer is there before the body is sent
        with contextlib.suppress(TimeoutError):
            stream.sendall(body)
        assert answer_of(stream).startswith(b"HTTP/1.1 413")


def test_requests_that_wait_on_one_connection_have_a_limit(serve: Serve) -> None:
    with serve() as port, connect(port) as stream:
        stream.sendall(LIVE * (20 * MAX_PIPELINED))
        answers = b""
        with contextlib.suppress(ConnectionResetError):
            while part := stream.recv(65536):
                answers += part
    assert answers.count(b"HTTP/1.1 200") <= 2 * MAX_PIPELINED


def test_a_few_pipelined_requests_are_answered(serve: Serve) -> None:
    with serve() as port, connect(port) as stream:
        stream.sendall(LIVE * 10)
        answers = b""
        while answers.count(b"HTTP/1.1 200") < 10:
            answers += stream.recv(65536)


def test_half_a_request_behind_one_at_work_does_not_end_that_one(serve: Serve, key: str) -> None:
    image = picture()
    head = f"Authorization: Bearer {key}\r\nPrefer: wait=2\r\nContent-Length: {len(image)}\r\n\r\n"
    with serve() as port, connect(port) as stream:
        stream.sendall(POST + head.encode() + image + b"GET / HT")
        assert answer_of(stream).startswith(b"HTTP/1.1 202")
        assert has_ended(stream)


def test_a_camera_is_answered_while_silent_connections_stand_at_the_limit(serve: Serve, key: str) -> None:
    with serve(max_connections=10) as port, ExitStack() as stack:
        silent = [stack.enter_context(connect(port)) for _ in range(10)]
        assert [post(port, key).status_code for _ in range(3)] == [202] * 3
        assert has_ended(silent[0])  # the oldest made room


def at_work(
    stack: ExitStack, port: int, key: str, queue: JobQueue, address: str = "127.0.0.1"
) -> tuple[socket.socket, ClaimedJob]:
    """A connection whose request waits for its inspection, which is claimed: the request was let in."""
    image = picture()
    head = f"Authorization: Bearer {key}\r\nPrefer: wait=30\r\nContent-Length: {len(image)}\r\n\r\n"
    stream = stack.enter_context(connect(port, address))
    stream.sendall(POST + head.encode() + image)
    [claimed] = queue.claim(1, 30_000)
    return stream, claimed


def test_a_request_at_work_makes_no_room(serve: Serve, key: str, make_queue: Callable[..., JobQueue]) -> None:
    queue = make_queue()
    with serve(max_connections=3) as port, ExitStack() as stack:
        working, claimed = at_work(stack, port, key, queue)
        others = [stack.enter_context(connect(port)) for _ in range(10)]
        assert has_ended(others[0])
        queue.complete(claimed, result_of(claimed))
        assert answer_of(working).startswith(b"HTTP/1.1 200")


def test_a_camera_is_answered_while_calls_without_a_key_stand_at_the_limit(
    serve: Serve, key: str, client: redis.Redis
) -> None:
    with serve(max_connections=5) as port, ExitStack() as stack:
        assert post(port, key).status_code == 202
        client.client_pause(2000)  # Redis counts calls without a key: until it answers, none is refused
        calls = [stack.enter_context(connect(port)) for _ in range(5)]
        for stream in calls:
            stream.sendall(POST + b"Content-Length: 10\r\n\r\n")
        time.sleep(0.5)
        assert post(port, key).status_code == 202
        assert has_ended(calls[0])  # the oldest made room


def test_one_key_has_at_most_half_of_the_connections_at_work(serve: Serve, key: str, client: redis.Redis) -> None:
    other = KeyStore(client).create("misused", [Scope.SUBMIT])
    with serve(max_connections=6) as port, ExitStack() as stack:
        uploads = [stack.enter_context(connect(port)) for _ in range(6)]
        for stream in uploads:
            stream.sendall(POST + f"X-API-Key: {other}\r\nContent-Length: 10\r\n\r\n".encode())
        eventually(lambda: len(select.select(uploads, [], [], 0)[0]) >= 3)
        refused = [answer_of(stream) for stream in select.select(uploads, [], [], 0)[0]]
        assert [answer[:12] for answer in refused] == [b"HTTP/1.1 429"] * 3
        assert all(b"half of GLAD_MAX_CONNECTIONS" in answer for answer in refused)
        assert [post(port, key).status_code for _ in range(3)] == [202] * 3


def test_one_address_has_a_limit_and_others_are_answered(
    serve: Serve, key: str, make_queue: Callable[..., JobQueue]
) -> None:
    queue = make_queue()
    with serve(max_connections_per_address=2) as port, ExitStack() as stack:
        working = [at_work(stack, port, key, queue, "127.0.0.2") for _ in range(2)]
        refused = answer_of(stack.enter_context(connect(port, "127.0.0.2")))
        assert refused.startswith(b"HTTP/1.1 503")
        assert b"GLAD_MAX_CONNECTIONS_PER_ADDRESS" in refused
        assert post(port, key, "127.0.0.3").status_code == 202
        for stream, claimed in working:
            queue.complete(claimed, result_of(claimed))
            assert answer_of(stream).startswith(b"HTTP/1.1 200")


def test_a_trusted_proxy_has_no_limit_of_its_own(serve: Serve, key: str) -> None:
    with serve(max_connections_per_address=2) as port, ExitStack() as stack:
        streams = [stack.enter_context(connect(port)) for _ in range(5)]  # 127.0.0.1 is trusted by default
        for stream in streams:
            stream.sendall(LIVE)
        assert [answer_of(stream)[:12] for stream in streams] == [b"HTTP/1.1 200"] * 5


def test_a_camera_is_answered_while_more_silent_connections_come_than_there_are_files(
    key: str, shared_redis: RedisServer, toy_store: Path, tmp_path: Path
) -> None:
    settings = {"GLAD_REDIS_URL": shared_redis.url, "GLAD_STORE": str(toy_store), "GLAD_DATA_DIR": str(tmp_path)}
    command = ["sh", "-c", f'ulimit -n 320; exec {sys.executable} -m service.api.server "$@"', "sh"]
    child = Child("API", command, env={**os.environ, **settings}, log=tmp_path / "api.log")
    with listen("127.0.0.1", 0) as server, ExitStack() as stack:
        port = int(server.getsockname()[1])
        child.start("--fd", str(server.fileno()), pass_fds=(server.fileno(),))
        try:
            eventually(lambda: is_alive("127.0.0.1", port, 1.0), 120)
            for _ in range(400):
                stack.enter_context(connect(port))
            assert post(port, key).status_code == 202
        finally:
            child.kill()
