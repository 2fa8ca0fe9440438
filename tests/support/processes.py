"""Looking at other processes, and waiting for what they do."""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path


def eventually(true: Callable[[], bool], patience_s: float = 60.0, every_s: float = 0.05) -> None:
    """Waits for something that happens elsewhere; the patience only bounds a failing test."""
    deadline = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(every_s)


@contextmanager
def entered_by_another_thread(*contexts: AbstractContextManager[object]) -> Iterator[None]:
    """While the block lasts another thread is in these contexts, as one that holds a lock."""
    entered, left = threading.Event(), threading.Event()

    def enter() -> None:
        with ExitStack() as stack:
            for context in contexts:
                stack.enter_context(context)
            entered.set()
            left.wait()

    thread = threading.Thread(target=enter)
    thread.start()
    entered.wait()
    try:
        yield
    finally:
        left.set()
        thread.join()


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on now, below those that systems give to outgoing connections.

    One of those could be given to a connection of any process before the one listens that the port is for.
    """
    while True:
        port = secrets.choice(range(20_000, 30_000))  # not of `random`, which tests seed alike in two processes
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def is_running(pid: int) -> bool:
    """The process is there and no zombie. Linux."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def children_of(pid: int) -> tuple[int, ...]:
    """The direct children of a process. Linux."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        if parent == pid:
            found.append(int(folder.name))
    return tuple(found)
