"""What a process holds at a time, of bodies and answers: one key, reader or packed body cannot take it all."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from service.api.connections import LimitedHttpProtocol
from service.auth.api_keys import KeyStore
from service.auth.scopes import Scope
from service.host.child_process import Child
from service.host.liveness import is_alive
from service.host.supervisor import listen
from service.settings import Settings
from tests.support.http_server import server_on
from tests.support.line import picture
from tests.support.processes import eventually
from tests.support.redis_server import RedisServer

URL = "/v1/products/toy/inspections"
INFER = "/v2/models/toy/infer"
Serve = Callable[..., contextlib.AbstractContextManager[int]]


@pytest.fixture
def serve(client: redis.Redis, shared_redis: RedisServer, toy_store: Path, tmp_path: Path) -> Serve:
    """Serves with the settings given; yields the port."""

    @contextmanager
    def serving(**settings: Any) -> Iterator[int]:
        given: dict[str, Any] = {"redis_url": shared_redis.url, "store": str(toy_store), "data_dir": tmp_path / "data"}
        with server_on(Settings(**(given | settings))) as url:
            yield int(url.rpartition(":")[2])

    return serving


@pytest.fixture
def process(
    client: redis.Redis, shared_redis: RedisServer, toy_store: Path, tmp_path: Path
) -> Iterator[tuple[int, int]]:
    """An API process of its own: its port and its pid."""
    settings = {"GLAD_REDIS_URL": shared_redis.url, "GLAD_STORE": str(toy_store), "GLAD_DATA_DIR": str(tmp_path)}
    child = Child(
        "API", [sys.executable, "-m", "service.api.server"], env={**os.environ, **settings}, log=tmp_path / "api.log"
    )
    with listen("127.0.0.1", 0) as server:
        port = int(server.getsockname()[1])
        child.start("--fd", str(server.fileno()), pass_fds=(server.fileno(),))
        try:
            eventually(lambda: is_alive("127.0.0.1", port, 1.0), 120)
            assert child.pid is not None
            yield port, child.pid
        finally:
            child.kill()


def held_mib(pid: int, name: str = "VmRSS") -> float:
    """Memory of a process now; VmHWM: at most so far. Linux."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"{name}:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1]) / 1024


def stalled_upload(port: int, count: int, key: str = "") -> socket.socket:
    """Sends a body but for its last byte."""
    stream = socket.create_connection(("127.0.0.1", port), timeout=60)
    authorization = f"Authorization: Bearer {key}\r\n" if key else ""
    head = f"POST {URL} HTTP/1.1\r\nHost: localhost\r\n{authorization}Content-Length: {count + 1}\r\n\r\n"
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stream.sendall(head.encode() + bytes(count))
    return stream


@pytest.mark.usefixtures("keys_read_at_once")
def test_one_key_cannot_take_the_room_of_another(serve: Serve, client: redis.Redis) -> None:
    store = KeyStore(client)
    first, second = (store.create(name, [Scope.SUBMIT]) for name in ("line-1", "line-2"))
    image = picture(600, 450, "BMP")
    with serve(max_image_bytes=1_000_000, max_held_bytes=5_000_000) as port, ExitStack() as stack:
        streams = [stack.enter_context(stalled_upload(port, 900_000, first)) for _ in range(8)]
        answered, _, _ = select.select(streams, [], [], 60)  # which of them found no room depends on their pace
        refused = b""
        while part := answered[0].recv(65536):
            refused += part
        assert refused.startswith(b"HTTP/1.1 429")
        assert b"limit of one key" in refused
        answer = httpx.post(f"http://127.0.0.1:{port}{URL}", content=image, headers={"X-API-Key": second}, timeout=60)
        assert answer.status_code == 202


def test_what_a_body_is_unpacked_to_counts_before_it_is_there(serve: Serve) -> None:
    packed = gzip.compress(bytes(1_000_000))
    with serve(max_image_bytes=1_000_000, max_held_bytes=1) as port, ExitStack() as stack:
        url, headers = f"http://127.0.0.1:{port}{INFER}", {"Content-Encoding": "gzip"}
        assert httpx.post(url, content=packed, headers=headers, timeout=60).status_code == 400  # it is no JSON
        stack.enter_context(stalled_upload(port, 1_000_000))
        stack.enter_context(stalled_upload(port, 900_000))
        eventually(lambda: httpx.post(url, content=packed, headers=headers, timeout=60).status_code == 429)
        # So small as it is sent, it would have been unpacked beside the others, and only then been refused.
        assert len(packed) < 2000


def test_packed_bodies_are_unpacked_one_at_a_time(process: tuple[int, int]) -> None:
    port, pid = process
    packed = gzip.compress(b" " * (60 << 20))
    before = held_mib(pid)

    def infer(_: int) -> int:
        headers = {"Content-Encoding": "gzip"}
        return httpx.post(f"http://127.0.0.1:{port}{INFER}", content=packed, headers=headers, timeout=120).status_code

    with ThreadPoolExecutor(24) as pool:
        statuses = list(pool.map(infer, range(24)))
    assert set(statuses) <= {400, 429}
    assert held_mib(pid, "VmHWM") - before < 3 * 60


def test_liveness_is_answered_between_requests_that_are_hard_to_read(process: tuple[int, int]) -> None:
    port, _ = process
    data = b"[" + b"[]," * 1_000_000 + b"[]]"
    head = json.dumps({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": 0}]}).encode()
    packed = gzip.compress(head.replace(b'"data": 0', b'"data": ' + data))
    assert len(packed) < 20_000
    ended: list[int] = []

    def infer(_: int) -> None:
        headers = {"Content-Encoding": "gzip"}
        answer = httpx.post(f"http://127.0.0.1:{port}{INFER}", content=packed, headers=headers, timeout=120)
        ended.append(answer.status_code)

    with ThreadPoolExecutor(24) as pool:
        for number in range(24):
            pool.submit(infer, number)
        seen = []
        while len(ended) < 24:
            assert is_alive("127.0.0.1", port, 60)
            seen.append(len(ended))
    assert ended == [400] * 24
    assert len(set(seen)) > 12  # it was answered again and again while they were read, not behind all of them


def stored_image(port: int, count: int) -> str:
    """Submits an image of at least so many bytes; its address."""
    content = picture(1000, count // 3000 + 1, "BMP")
    location = httpx.post(f"http://127.0.0.1:{port}{URL}", content=content, timeout=60).headers["location"]
    return f"{location}/image"


def reader(port: int, path: str) -> socket.socket:
    """Asks for a file, and reads no more than that it comes."""
    stream = socket.socket()
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
    stream.settimeout(60)
    stream.connect(("127.0.0.1", port))
    stream.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert stream.recv(1, socket.MSG_PEEK)
    return stream


def is_open_there(stream: socket.socket) -> bool:
    """Whether the service, too, holds this connection open."""
    (_, near), (_, far) = stream.getsockname(), stream.getpeername()
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(
        (local[-4:], remote[-4:], state) == (f"{far:04X}", f"{near:04X}", "01")
        for _, local, remote, state, *_ in map(str.split, lines)
    )


def test_readers_that_do_not_read_hold_no_files_in_memory(process: tuple[int, int]) -> None:
    port, pid = process
    path = stored_image(port, 20_000_000)
    before = held_mib(pid)
    with ExitStack() as stack:
        readers = [stack.enter_context(reader(port, path)) for _ in range(30)]
        assert held_mib(pid) - before < 100  # one alone has 20 MB
        whole = b""
        while len(whole) < 20_000_000 and (part := readers[0].recv(1 << 20)):
            whole += part
        head, _, body = whole.partition(b"\r\n\r\n")
        assert f"content-length: {len(body)}".encode() in head.lower()


def test_a_reader_that_reads_nothing_is_let_go(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LimitedHttpProtocol, "write_timeout_s", 0.5, raising=False)
    with serve() as port:
        path = stored_image(port, 20_000_000)
        with reader(port, path) as stream:
            eventually(lambda: not is_open_there(stream))  # reads nothing meanwhile
            came = 0
            with contextlib.suppress(ConnectionResetError):
                while part := stream.recv(1 << 20):
                    came += len(part)
        assert came < 20_000_000


def test_a_slow_reader_gets_all(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LimitedHttpProtocol, "write_timeout_s", 3, raising=False)
    with serve() as port:
        path = stored_image(port, 6_000_000)
        with reader(port, path) as stream:
            came = b""
            while len(came) < 6_000_000 and (part := stream.recv(64 << 10)):
                came += part
                time.sleep(0.04)  # 1.6 MB/s at most: it takes longer than the limit, and never stands still
        assert len(came) >= 6_000_000


def test_an_answer_for_which_there_is_no_room_is_refused(serve: Serve) -> None:
    with serve(max_image_bytes=200_000, max_held_bytes=1) as port, ExitStack() as stack:
        url = f"http://127.0.0.1:{port}/openapi.json"
        assert len(httpx.get(url).content) > 2 * (200_000 + (64 << 10)) - 450_000  # what the uploads leave
        stack.enter_context(stalled_upload(port, 250_000))
        stack.enter_context(stalled_upload(port, 200_000))
        eventually(lambda: httpx.get(url).status_code == 429)


@pytest.mark.usefixtures("keys_read_at_once")
def test_the_scope_is_looked_at_before_the_body(serve: Serve, client: redis.Redis) -> None:
    key = KeyStore(client).create("dashboard", [Scope.READ])
    with serve(body_timeout_s=0.5) as port, socket.create_connection(("127.0.0.1", port), timeout=60) as stream:
        stream.sendall(
            f"PUT /v1/stations/inspections HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {key}\r\n"
            "Content-Type: application/json\r\nContent-Length: 60000\r\n\r\n".encode()
        )
        assert stream.recv(65536).startswith(b"HTTP/1.1 403")


@pytest.mark.parametrize("station", ["inspections", "infer", "inspections:batch"])
def test_a_name_that_looks_like_a_call_for_images_takes_no_large_body(serve: Serve, station: str) -> None:
    body = json.dumps({"product": "toy", "note": "x" * 300_000})
    with serve() as port:
        answer = httpx.put(f"http://127.0.0.1:{port}/v1/stations/{station}", content=body, timeout=60)
        assert answer.status_code == 413
        settings = httpx.put(f"http://127.0.0.1:{port}/v1/stations/{station}", json={"product": "toy"}, timeout=60)
        assert settings.status_code == 200
        image = picture(600, 450, "BMP")
        url = f"http://127.0.0.1:{port}/v1/stations/{station}/inspections"
        assert httpx.post(url, content=image, timeout=60).status_code == 202


def test_a_wrong_address_is_404_however_large_the_image(serve: Serve) -> None:
    with serve() as port:
        answer = httpx.post(f"http://127.0.0.1:{port}/v1/products/toy/inspect", content=bytes(1_000_000), timeout=60)
        assert (answer.status_code, answer.json()["status"]) == (404, 404)


def test_a_slash_too_many_is_said(serve: Serve) -> None:
    with serve() as port:
        url = f"http://127.0.0.1:{port}{URL}"
        answer = httpx.post(f"{url}/?lot=1", content=picture(600, 450, "BMP"), timeout=60)
        assert (answer.status_code, answer.headers["location"]) == (307, f"{URL}?lot=1")
        assert answer.json()["detail"] == f"{URL}/ has a slash too many: call {URL}?lot=1"
        followed = httpx.post(f"{url}/?lot=1", content=picture(), timeout=60, follow_redirects=True)
        assert (followed.status_code, followed.json()["lot"]) == (202, "1")
        assert httpx.get(f"http://127.0.0.1:{port}//evil.example/").status_code == 404


def test_head_is_answered_as_get_without_its_body(serve: Serve) -> None:
    with serve() as port:
        image = stored_image(port, 3_000_000)
        for path in ("/health/live", "/health/ready", "/metrics", image.removesuffix("/image"), image, "/v1/products"):
            got, head = (httpx.request(method, f"http://127.0.0.1:{port}{path}") for method in ("GET", "HEAD"))
            assert (head.status_code, head.headers["content-type"]) == (got.status_code, got.headers["content-type"])
            assert head.content == b""
        assert httpx.head(f"http://127.0.0.1:{port}/v1/events").status_code == 405
        text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
        assert 'glad_http_requests_total{method="HEAD",route="/health/live",status="200"} 1.0' in text


def test_a_client_that_leaves_in_the_middle_of_its_image_is_no_error_of_the_service(serve: Serve) -> None:
    with serve() as port:
        stalled_upload(port, 100_000).close()
        shown = f'glad_http_requests_total{{method="POST",route="{URL.replace("toy", "{product}")}",status="%s"}}'
        eventually(lambda: shown % 499 + " 1.0" in httpx.get(f"http://127.0.0.1:{port}/metrics").text)
        assert shown % 500 not in httpx.get(f"http://127.0.0.1:{port}/metrics").text
