"""Each process that another program starts: a wrong setting is one line that names it, and the status says so."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from service.host.child_process import EXIT_CONFIG

NOWHERE = {"GLAD_REDIS_URL": "redis://127.0.0.1:1"}


API, OUTBOX, WORKER = "service.api.server", "service.outbox.main", "service.worker.main"


@pytest.mark.parametrize(
    ("module", "environment", "said"),
    [
        (WORKER, {"GLAD_LEASE_MS": "soon"}, "GLAD_LEASE_MS is 'soon': input should be a valid integer"),
        (OUTBOX, {"GLAD_LEASE_MS": "soon"}, "GLAD_LEASE_MS is 'soon': input should be a valid integer"),
        (OUTBOX, {}, "GLAD_REDIS_URL is not set"),
        (API, {"GLAD_LEASE_MS": "soon"}, "GLAD_LEASE_MS is 'soon': input should be a valid integer"),
        (API, {}, "GLAD_REDIS_URL is not set"),
        (API, {"GLAD_REDIS_URL": "redis://:s3cret@host:port"}, "GLAD_REDIS_URL: it is no address of a Redis"),
        (API, NOWHERE | {"GLAD_STORE": "nfs://host/b"}, "GLAD_STORE is 'nfs://host/b': a store is a local folder"),
        (API, NOWHERE | {"GLAD_ARTIFACTS_URL": "s4://k:s3cret@b"}, "GLAD_ARTIFACTS_URL: 's4' is no file system that"),
    ],
)
def test_a_wrong_setting_is_one_line_without_a_traceback(module: str, environment: dict[str, str], said: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        extra = ["--fd", str(listening.fileno())] if module == API else []
        done = subprocess.run(
            [sys.executable, "-m", module, *extra],
            env={name: value for name, value in os.environ.items() if not name.startswith("GLAD_")} | environment,
            pass_fds=[listening.fileno()],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == EXIT_CONFIG
    (line,) = done.stderr.splitlines()
    assert line.partition(": ")[2].startswith(said)
    assert "s3cret" not in line


def test_an_address_where_nothing_can_listen_is_named() -> None:
    environment = NOWHERE | {"GLAD_ARCHIVE": "on", "GLAD_WORKER_HOST": "no.such.host.invalid"}
    command = [sys.executable, "-m", OUTBOX]
    done = subprocess.run(
        command, env=os.environ | environment, check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == EXIT_CONFIG
    assert "cannot be served on no.such.host.invalid, port 0: " in done.stderr
