"""`glad key` and `glad serve` as a user runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from service.auth.api_keys import KEY_PATTERN
from service.queue import keys
from tests.support.redis_server import RedisServer

KEY = "import sys; from service.cli.key import app; app(sys.argv[1:])"
SERVE = (
    "import sys, typer; from service.cli.serve import serve; "
    "app = typer.Typer(); app.command()(serve); app(sys.argv[1:])"
)


def run(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, with these GLAD_* settings only."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GLAD_")}
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=clean | environment,
    )


def key(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`glad key …`"""
    return run(KEY, *arguments, **environment)


def test_a_key_is_made_listed_and_revoked_while_the_service_does_not_run(tmp_path: Path) -> None:
    folder = {"GLAD_DATA_DIR": str(tmp_path / "data")}
    made = key("create", "line-3", "--scope", "submit,read", **folder)
    assert made.returncode == 0, made.stderr
    text = made.stdout.strip()
    assert KEY_PATTERN.fullmatch(text)
    [listed] = json.loads(key("list", "--json", **folder).stdout)
    assert (listed["name"], sorted(listed["scopes"]), listed["revoked_at"]) == ("line-3", ["read", "submit"], None)
    assert listed["id"] in text
    assert "sha256" not in listed
    again = key("create", "line-3", "--scope", "read", **folder)
    assert (again.returncode, again.stdout) == (1, "")
    assert "'line-3' is in use" in again.stderr
    assert "revoked line-3" in key("revoke", "line-3", **folder).stdout
    table = key("list", **folder).stdout
    assert "line-3" in table
    assert "revoked 2" in table
    assert text[-48:] not in table


def test_the_command_reaches_the_redis_that_the_service_uses(
    client: redis.Redis, shared_redis: RedisServer, tmp_path: Path
) -> None:
    made = key("create", "mes", "--scope", "read", GLAD_REDIS_URL=shared_redis.url)
    assert made.returncode == 0, made.stderr
    assert client.hlen(keys.API_KEYS) == 1
    running = RedisServer(tmp_path / "data")  # as `glad serve` runs it
    running.start()
    try:
        made = key("create", "mes", "--scope", "read", GLAD_DATA_DIR=str(tmp_path / "data"))
        assert made.returncode == 0, made.stderr
        with running.connect() as own:
            assert own.hlen(keys.API_KEYS) == 1
    finally:
        running.kill()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("create", "mes", "--scope", "write"), "submit, read, review, admin"),
        (("create", "a b", "--scope", "read"), "a b"),
        (("revoke", "nobody"), "glad key list"),
    ],
)
def test_a_mistake_is_named_with_the_way_out(
    client: redis.Redis, shared_redis: RedisServer, arguments: tuple[str, ...], words: str
) -> None:
    refused = key(*arguments, GLAD_REDIS_URL=shared_redis.url)
    assert refused.returncode != 0
    assert words in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "validation error" not in refused.stderr, "a sentence, not a library's report"


def test_glad_serve_does_not_open_to_a_network_without_a_key(tmp_path: Path) -> None:
    address = {"GLAD_HOST": "0.0.0.0", "GLAD_PORT": "0"}
    refused = run(SERVE, "--data-dir", str(tmp_path / "data"), **address)
    assert refused.returncode == 1
    assert "glad key create NAME --scope submit,read" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "starting the API" not in refused.stderr


def test_an_api_of_many_machines_does_not_open_without_a_key_either(
    client: redis.Redis, shared_redis: RedisServer
) -> None:
    refused = run(SERVE, GLAD_HOST="0.0.0.0", GLAD_PORT="0", GLAD_REDIS_URL=shared_redis.url)
    assert refused.returncode == 1
    assert "GLAD_AUTH=off" in refused.stderr
