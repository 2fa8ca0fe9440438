"""Artifacts in any fsspec file system.

Inspections' ids begin with the time in ms, 48 bits in hex: seven digits of them are one piece of 2^20 ms, 17 minutes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import groupby
from typing import Any
from urllib.parse import urlsplit

import fsspec
from fsspec.asyn import sync
from fsspec.spec import AbstractFileSystem

from service.storage.bounded import ANSWER_S, WRITE_BYTES_PER_S, CircuitBreaker, ask_in_thread

DAY_MS = 86_400_000
WRITE_S = 20.0
"""The slowest connection to a store that is supported."""
SILENT = frozenset({"ReadTimeoutError", "ConnectTimeoutError", "FSTimeoutError"})
"""Names of the libraries' errors that are no TimeoutError but mean one."""
NO_BUCKET = "NoSuchBucket"
"""S3's code for a bucket that is gone or has another name. Its files are not known to be gone, so none is "not found".
"""
S3 = frozenset({"s3", "s3a"})
S3_ATTEMPTS = 2
S3_TIMEOUTS: dict[str, Any] = {"connect_timeout": 2, "read_timeout": 15, "retries": {"total_max_attempts": 1}}
"""A store that is away is noticed within half a minute, usually in two seconds: a camera waits for the answer, and a
thread is occupied. The libraries' own repetitions, five times five, take minutes."""


class RemoteStore:
    """An fsspec file system as a backend; its libraries are loaded at the first call."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._breaker = CircuitBreaker()

    def _open(self) -> tuple[AbstractFileSystem, str]:
        protocol = urlsplit(self._url).scheme
        system, root = fsspec.core.url_to_fs(self._url, **_short_timeouts(protocol))
        if protocol in S3:
            system.retries = S3_ATTEMPTS  # s3fs has no option for it
        return system, str(root).rstrip("/")

    def _place(self, ref: str) -> tuple[AbstractFileSystem, str]:
        system, root = self._open()
        return system, f"{root}/{ref}"

    def names(self, folder: str) -> list[str]:
        system, path = self._place(folder)
        system.invalidate_cache(path)  # another process may have written since
        try:
            return sorted(str(name).rpartition("/")[2] for name in system.ls(path, detail=False))
        except FileNotFoundError:
            return []

    def write(self, ref: str, content: bytes) -> None:
        with self._breaker.guard():
            self._write(ref, content)

    def _write(self, ref: str, content: bytes) -> None:
        system, path = self._place(ref)
        limit_s = WRITE_S + len(content) / WRITE_BYTES_PER_S
        try:
            _call_in_time(system, "pipe_file", limit_s, path, content)
        except FileNotFoundError:  # a file system with real folders
            if urlsplit(self._url).scheme in S3:
                raise  # else a wrong name would become a new bucket
            system.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
            system.pipe_file(path, content)

    def read(self, ref: str) -> bytes:
        system, path = self._place(ref)
        with self._breaker.guard():
            return bytes(_call_in_time(system, "cat_file", None, path))

    def read_piece(self, ref: str, start: int, count: int) -> bytes:
        system, path = self._place(ref)
        with self._breaker.guard():
            return bytes(_call_in_time(system, "cat_file", None, path, start=start, end=start + count))

    def size(self, ref: str) -> int:
        system, path = self._place(ref)
        with self._breaker.guard():
            return int(_call_in_time(system, "info", None, path)["size"])

    def remove(self, ref: str) -> None:
        system, path = self._place(ref)
        with self._breaker.guard():
            _call_in_time(system, "rm_file", None, path)

    def folders(self) -> list[str]:
        system, root = self._open()
        system.invalidate_cache()
        with contextlib.suppress(FileNotFoundError):
            return [str(name).rstrip("/").rpartition("/")[2] for name in system.ls(root, detail=False)]
        return []

    def inspections(self, day: str) -> Iterator[tuple[str, dict[str, int]]]:
        """Yield folders in their names' order, each with its files' sizes.

        Where the store can, a day is listed in pieces: it may have a million files, and fsspec keeps all that it lists
        in memory.
        """
        system, path = self._place(day)
        for options in self._pieces(day):
            found = system.find(path, detail=True, **options)
            sizes = ((name.rsplit("/", 2), int(info["size"] or 0)) for name, info in found.items())
            for folder, ones in groupby(sorted(sizes), lambda one: one[0][-2]):
                yield folder, {parts[-1]: size for parts, size in ones}

    def _pieces(self, day: str) -> list[dict[str, str]]:
        if urlsplit(self._url).scheme not in S3:
            return [{}]
        first = int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000)
        return [{"prefix": f"{piece:07x}"} for piece in range(first >> 20, (first + DAY_MS - 1 >> 20) + 1)]

    def remove_folder(self, folder: str) -> None:
        system, path = self._place(folder)
        system.rm(path, recursive=True)

    def sweep_unfinished(self, folder: str) -> int:
        return 0  # written in one step: nothing is ever half there

    def disk(self) -> None:
        return None

    def probe(self, name: str, *, make: bool) -> None:
        self.write(name, b"glad")
        self.read(name)  # a right of its own
        self.remove(name)


def _call_in_time(system: AbstractFileSystem, name: str, limit_s: float | None, *given: Any, **named: Any) -> Any:
    """Return the answer to a call of the file system.

    Args:
        limit_s: the call is cancelled after this time, where that is possible: aiohttp would wait without end for a
            server's consent to begin an upload.

    Raises:
        TimeoutError: if there is no answer in time.
    """
    try:
        if not system.async_impl:  # such as a share by SMB or SFTP, whose library may wait without end
            return ask_in_thread(lambda: getattr(system, name)(*given, **named)).result(limit_s or ANSWER_S)
        if limit_s is None:
            return getattr(system, name)(*given, **named)
        return sync(system.loop, _within, getattr(system, f"_{name}"), limit_s, *given, **named)
    except Exception as error:
        if isinstance(error, TimeoutError) or type(error).__name__ in SILENT:
            raise TimeoutError(f"it did not answer in time ({type(error).__name__})") from error
        if _code(error) == NO_BUCKET:
            raise OSError("there is no such bucket: make it, or set GLAD_ARTIFACTS_URL to one that exists") from error
        raise


def _code(error: Exception) -> str:
    """Return an S3 server's code for its refusal, behind the error that s3fs makes of it; empty for others."""
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


async def _within(call: Callable[..., Any], limit_s: float, *given: Any, **named: Any) -> Any:
    return await asyncio.wait_for(call(*given, **named), limit_s)


def _short_timeouts(protocol: str) -> dict[str, Any]:
    """Return options of a file system; those of the deployment win: FSSPEC_S3='{"config_kwargs": {…}}'."""
    if protocol not in S3:
        return {}
    return {"config_kwargs": S3_TIMEOUTS | fsspec.config.conf.get(protocol, {}).get("config_kwargs", {})}
