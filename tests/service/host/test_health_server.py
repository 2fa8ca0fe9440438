"""The port of workers and outboxes: who reaches it, who may read what, and that silent connections stop nobody."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from service.auth.api_keys import KeyStore
from service.auth.metrics_access import MetricsAccess
from service.auth.scopes import Scope
from service.host import health_server
from service.host.health_server import HealthServer
from service.host.liveness import is_alive
from service.settings import Settings
from tests.service.host.test_supervisor import serve
from tests.support.processes import eventually, free_port, is_running
from tests.support.redis_server import RedisServer
from tests.support.tiny_bundle import make_tiny_bundle


class Well:
    """The health of a process that lacks nothing."""

    status = "well"

    def alive(self) -> bool:
        """It makes progress."""
        return True

    def ready(self) -> bool:
        """It works."""
        return True


@pytest.fixture
def port() -> Iterator[int]:
    """An open port of a healthy process."""
    with HealthServer("127.0.0.1", 0, Well()) as server:
        yield server.port


def connect(port: int) -> socket.socket:
    """A connection that has said nothing yet."""
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def has_ended(stream: socket.socket) -> bool:
    """Reads until the server ends the connection; the socket's own timeout fails the test."""
    with contextlib.suppress(ConnectionResetError):
        while stream.recv(65536):
            pass
    return True


def test_silent_connections_make_room_for_a_probe(port: int) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(connect(port)) for _ in range(200)]
        assert is_alive("127.0.0.1", port, timeout_s=60)
        assert all(has_ended(stream) for stream in silent[:100])
        assert is_alive("127.0.0.1", port, timeout_s=60)


def test_a_request_that_comes_byte_by_byte_is_not_awaited_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_server, "DEADLINE_S", 0.5, raising=False)
    with HealthServer("127.0.0.1", 0, Well()) as server, connect(server.port) as stream:
        for _ in range(200):
            try:
                stream.sendall(b"x")
            except (BrokenPipeError, ConnectionResetError):
                return
            time.sleep(0.05)
        pytest.fail("the connection lives on single bytes")


def test_head_is_answered_as_get_without_a_body(port: int) -> None:
    for path in ("/health/live", "/health/ready", "/metrics"):
        got, head = httpx.get(f"http://127.0.0.1:{port}{path}"), httpx.head(f"http://127.0.0.1:{port}{path}")
        assert (head.status_code, head.headers["content-type"]) == (200, got.headers["content-type"])
        assert head.content == b""


@pytest.mark.parametrize("settings", [{"auth": "keys"}, {"auth": "auto"}, {"auth": "auto", "worker_host": "0.0.0.0"}])
def test_closed_metrics_take_a_key_that_may_read(
    client: redis.Redis, shared_redis: RedisServer, settings: dict[str, Any]
) -> None:
    store = KeyStore(client)
    reader, camera = store.create("mes", [Scope.READ]), store.create("camera", [Scope.SUBMIT])
    access = MetricsAccess(Settings(redis_url=shared_redis.url, metrics_open=False, **settings))
    with HealthServer("127.0.0.1", 0, Well(), access.check) as server:

        def status(path: str, **headers: str) -> int:
            return httpx.get(f"http://127.0.0.1:{server.port}{path}", headers=headers).status_code

        assert status("/metrics") == 401
        assert status("/metrics", authorization=f"Bearer {camera}") == 403
        assert status("/metrics", authorization=f"Bearer {reader}") == 200
        assert status("/metrics", **{"X-API-Key": reader}) == 200
        assert status("/health/live") == 200


@pytest.mark.parametrize("settings", [{"metrics_open": True, "auth": "keys"}, {"metrics_open": False, "auth": "off"}])
def test_open_metrics_take_no_key(shared_redis: RedisServer, client: redis.Redis, settings: dict[str, Any]) -> None:
    KeyStore(client).create("mes", [Scope.READ])
    access = MetricsAccess(Settings(redis_url=shared_redis.url, **settings))
    with HealthServer("127.0.0.1", 0, Well(), access.check) as server:
        assert httpx.get(f"http://127.0.0.1:{server.port}/metrics").status_code == 200


def test_closed_metrics_stay_closed_while_the_keys_were_never_read() -> None:
    access = MetricsAccess(Settings(redis_url=f"redis://127.0.0.1:{free_port()}", metrics_open=False, auth="keys"))
    with HealthServer("127.0.0.1", 0, Well(), access.check) as server:
        assert httpx.get(f"http://127.0.0.1:{server.port}/metrics").status_code == 503
        assert httpx.get(f"http://127.0.0.1:{server.port}/health/live").status_code == 200


@pytest.mark.timeout(600)
@pytest.mark.parametrize("opened", [False, True], ids=["by default", "asked for"])
def test_on_one_machine_other_machines_reach_the_workers_port_only_if_asked(tmp_path: Path, opened: bool) -> None:
    make_tiny_bundle(tmp_path / "data" / "store")
    port = free_port()
    asked = {"GLAD_WORKER_HOST": "0.0.0.0", "GLAD_METRICS_OPEN": "false"} if opened else {}
    served = serve(tmp_path, GLAD_HOST="0.0.0.0", GLAD_AUTH="keys", GLAD_WORKER_PORT=str(port), **asked)
    try:
        served.wait_for_banner()
        assert is_alive("127.0.0.1", port, timeout_s=60)
        assert is_alive("127.0.0.2", port, timeout_s=60) == opened  # another address of this machine
        status = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=60).status_code
        assert status == (401 if opened else 200)
    finally:
        served.process.terminate()
        served.process.wait(120)
        eventually(lambda: not any(map(is_running, served.known)))
