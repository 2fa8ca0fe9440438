"""Samples of what the processes of a running service take: memory, open files, threads; of Redis by INFO."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from service.host.private_redis import redis_url, socket_path
from service.queue import keys
from service.queue.connection import connect

MODULES = {"service.api.server": "API", "service.worker.main": "worker", "service.outbox.main": "outbox"}
MIB = 1 << 20


@dataclass(frozen=True)
class ProcessSample:
    """A sample of one process."""

    process: str
    at_s: float
    memory_mib: float
    """Anonymous: what it has written itself, without the pages of files and libraries."""
    files: int
    """Open descriptors."""
    threads: int
    cpu_s: float
    """User and system time so far."""


@dataclass(frozen=True)
class RedisSample:
    """A sample of Redis, by INFO."""

    at_s: float
    used_mib: float
    keys: int
    events: int
    """Entries of the event stream."""


class ProcessWatch:
    """A watch over one `glad serve` and its children."""

    def __init__(self, pid: int, data_dir: Path) -> None:
        self._supervisor = psutil.Process(pid)
        self._redis = connect(redis_url(socket_path(data_dir)))

    def sample(self, at_s: float) -> list[ProcessSample]:
        """Return a sample of every process. A process that ends meanwhile is left out."""
        return list(self._samples(at_s))

    def redis(self, at_s: float) -> RedisSample:
        """Return a sample of Redis.

        Raises:
            RedisError: if Redis does not answer.
        """
        memory: Any = self._redis.info("memory")
        return RedisSample(
            at_s=at_s,
            used_mib=memory["used_memory"] / MIB,
            keys=self._redis.dbsize(),
            events=self._redis.xlen(keys.EVENTS),
        )

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()

    def _samples(self, at_s: float) -> Iterator[ProcessSample]:
        for process in (self._supervisor, *self._supervisor.children()):
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    yield ProcessSample(
                        process=role(process, self._supervisor),
                        at_s=at_s,
                        memory_mib=anonymous_mib(process.pid),
                        files=process.num_fds(),
                        threads=process.num_threads(),
                        cpu_s=times.user + times.system,
                    )
            except (psutil.NoSuchProcess, ProcessLookupError, FileNotFoundError):
                continue


def anonymous_mib(pid: int) -> float:
    """Return the memory that a process has written itself, in RAM or swapped out.

    USS would jump whenever another process maps the same libraries, or ends.

    Raises:
        FileNotFoundError, ProcessLookupError: if the process has ended.
    """
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Anonymous:", "Swap:"))) / 1024


def family_bytes(pid: int) -> int:
    """Return what a process and its children take in memory, 0 if it has ended; a page that several map counts once."""
    try:
        family = (pid, *(child.pid for child in psutil.Process(pid).children(recursive=True)))
    except psutil.NoSuchProcess:
        return 0
    return sum(map(_proportional_bytes, family))


def _proportional_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("Pss:", "SwapPss:")))


def role(process: psutil.Process, supervisor: psutil.Process) -> str:
    """Return the name of a process of the service."""
    if process.pid == supervisor.pid:
        return "supervisor"
    line = process.cmdline()
    return next((role for module, role in MODULES.items() if module in line), "Redis")
