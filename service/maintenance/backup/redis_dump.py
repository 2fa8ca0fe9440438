"""A snapshot of a running Redis as an RDB file, and a data folder made of one.

The snapshot is Redis's own: `redis-cli --rdb` asks for it as a replica would, so it is of one moment, from a private
server as from one elsewhere. A server that keeps an append-only file never looks at an RDB file when it starts, and
begins empty where it finds the RDB alone: so a restore loads the RDB without one, and lets Redis write the append-only
file from it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import redis
from redis.connection import parse_url

from service.host.child_process import Child
from service.host.private_redis import find_redis, redis_answers, redis_command, redis_url, socket_path
from service.maintenance.backup.record import BackupError
from service.queue.connection import connect

PATIENCE_S = 3600.0
"""For loading and writing large data."""
LOADED = "dump.rdb"


def save_rdb(url: str, target: Path, cli: str) -> None:
    """Write a snapshot of the Redis at this URL.

    Raises:
        BackupError: if Redis gave none.
    """
    words, secret = _cli_options(url)
    command = [cli, *words, "--rdb", str(target)]
    done = subprocess.run(
        command, env={**os.environ, **secret}, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0 or not _is_rdb(target):
        said = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
        raise BackupError(
            f"Redis gave no snapshot ({said[0]}): a managed Redis may forbid it; then use its provider's snapshots"
        )
    target.chmod(0o600)


def _is_rdb(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(5) == b"REDIS"


def find_cli(redis_bin: Path | None = None) -> str:
    """Return the path of redis-cli: beside the server that would be used, else on PATH.

    Raises:
        BackupError: if there is none.
    """
    beside = find_redis(redis_bin).with_name("redis-cli")
    found = shutil.which(str(beside)) or shutil.which("redis-cli") or shutil.which("valkey-cli")
    if found is None:
        raise BackupError("redis-cli was not found: install it (Debian, Ubuntu: sudo apt-get install redis-tools)")
    return found


def load_rdb(data_dir: Path, redis_bin: Path | None, change: Callable[[redis.Redis], None]) -> None:
    """Makes the append-only data of `data_dir/redis` from `data_dir/redis/dump.rdb`, and removes that file.

    `change`: what else is to be written before. BackupError if Redis cannot read it.
    """
    path, log = socket_path(data_dir), data_dir / "redis" / "redis.log"
    command = redis_command(find_redis(redis_bin), data_dir, path)
    child = Child("Redis", [*command, "--appendonly", "no", "--dbfilename", LOADED], log=log)
    child.start()
    try:
        _wait(lambda: redis_answers(path), child, log)
        with connect(redis_url(path)) as client:
            change(client)
            client.config_set("appendonly", "yes")
            _wait(lambda: _is_written(client), child, log)
    finally:
        child.kill()
    (data_dir / "redis" / LOADED).unlink()


def _is_written(client: redis.Redis) -> bool:
    info: dict[str, Any] = client.info("persistence")
    busy = info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"]
    return bool(info["aof_enabled"] and not busy and info["aof_last_bgrewrite_status"] == "ok")


def _wait(true: Callable[[], bool], child: Child, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        if child.exit_status is not None or time.monotonic() > deadline:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
            raise BackupError(f"Redis could not load the backup; the end of {log}:\n{tail}")
        time.sleep(0.05)


def _cli_options(url: str) -> tuple[list[str], dict[str, str]]:
    """redis-cli's options for a URL of redis-py, and its password apart: a command line can be read by everybody."""
    parts: dict[str, Any] = dict(parse_url(url))  # type: ignore[no-untyped-call]
    words = ["-s", parts["path"]] if "path" in parts else ["-h", parts.get("host", "localhost")]
    if "path" not in parts:
        words += ["-p", str(parts.get("port", 6379))]
    if url.startswith("rediss:"):
        words += _tls_options(parts)
    if parts.get("username"):
        words += ["--user", parts["username"]]
    return words, {"REDISCLI_AUTH": parts["password"]} if parts.get("password") else {}


def _tls_options(parts: Mapping[str, Any]) -> list[str]:
    """The same certificates as redis-py's. redis-cli does not compare the server's name: the first connection did."""
    named = {
        "--cacert": parts.get("ssl_ca_certs"),
        "--cacertdir": parts.get("ssl_ca_path"),
        "--cert": parts.get("ssl_certfile"),
        "--key": parts.get("ssl_keyfile") or parts.get("ssl_certfile"),
        "--sni": parts.get("host"),
    }
    words = [word for option, value in named.items() if value for word in (option, str(value))]
    return ["--tls", *words, *(["--insecure"] if parts.get("ssl_cert_reqs") == "none" else [])]
