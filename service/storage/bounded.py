"""Stores whose calls end in time: a folder on a share or disk that hangs would be waited for without end.

Each call to a folder runs in a thread of its own. One that gets no answer in time is left behind: it cannot be ended,
and may still do later what it was asked. So what could not be stored may be there after all: nothing points to it, and
a sweep removes it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

from service.storage.local import Disk, LocalFolder

T = TypeVar("T")

ANSWER_S = 15.0
"""For a call; a write has one second more for each MB."""
WRITE_BYTES_PER_S = 1_000_000
MOST_LEFT_BEHIND = 32
"""Calls that hang, of one process: with so many no other is made before one of them ends."""
REST_S = 5.0
"""After a call without an answer no other call is made for this long."""


class CircuitBreaker:
    """Lets one caller at a time ask a store that did not answer: the others would only wait, each with a thread.

    Safe to use from several threads.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds that only grow."""
        self._clock, self._lock = clock, threading.Lock()
        self._silent = self._probing = False
        self._until = 0.0

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Guard one call. While the store is silent, only one caller after each rest gets through.

        Raises:
            TimeoutError: at once, while the last call got no answer.
        """
        probes = self._begin()
        try:
            yield
        except TimeoutError:
            self._end(probes, silent=True)
            raise
        except BaseException:
            self._end(probes, silent=False)  # a refusal is an answer
            raise
        self._end(probes, silent=False)

    def _begin(self) -> bool:
        with self._lock:
            if not self._silent:
                return False
            if self._probing or self._clock() < self._until:
                raise TimeoutError("it did not answer lately, and is asked again in a moment")
            self._probing = True
            return True

    def _end(self, probes: bool, *, silent: bool) -> None:
        with self._lock:
            self._probing = self._probing and not probes
            if silent:
                self._silent, self._until = True, self._clock() + REST_S
            elif probes:
                self._silent = False


class BoundedFolder:
    """A `LocalFolder` that counts as away while it does not answer. Its methods raise TimeoutError then."""

    def __init__(self, folder: LocalFolder) -> None:
        self._folder, self._breaker = folder, CircuitBreaker()
        self._lock = threading.Lock()
        self._left_behind: list[Future[Any]] = []

    def require_marker(self, marker: str) -> None:
        """From now on the folder's marker must say this."""
        self._folder.required_marker = marker

    def read_marker(self) -> str | None:
        return self._in_time(self._folder.read_marker)

    def make_marker(self) -> str:
        return self._in_time(self._folder.make_marker)

    def names(self, folder: str) -> list[str]:
        return self._in_time(lambda: self._folder.names(folder))

    def write(self, ref: str, content: bytes) -> None:
        self._in_time(lambda: self._folder.write(ref, content), ANSWER_S + len(content) / WRITE_BYTES_PER_S)

    def read(self, ref: str) -> bytes:
        return self._in_time(lambda: self._folder.read(ref))

    def read_piece(self, ref: str, start: int, count: int) -> bytes:
        return self._in_time(lambda: self._folder.read_piece(ref, start, count))

    def size(self, ref: str) -> int:
        return self._in_time(lambda: self._folder.size(ref))

    def remove(self, ref: str) -> None:
        self._in_time(lambda: self._folder.remove(ref))

    def disk(self) -> Disk | None:
        return self._in_time(self._folder.disk)

    def probe(self, name: str, *, make: bool) -> None:
        self._in_time(lambda: self._folder.probe(name, make=make))

    # Sweeps read whole folders, for as long as that takes, in threads that nobody waits for.

    def folders(self) -> list[str]:
        return self._folder.folders()

    def inspections(self, day: str) -> Iterator[tuple[str, dict[str, int]]]:
        return self._folder.inspections(day)

    def remove_folder(self, folder: str) -> None:
        self._folder.remove_folder(folder)

    def sweep_unfinished(self, folder: str) -> int:
        return self._folder.sweep_unfinished(folder)

    def _in_time(self, call: Callable[[], T], limit_s: float | None = None) -> T:
        """Return what the call returns.

        Raises:
            TimeoutError: if it does not answer in time; at once, while earlier calls did not.
        """
        with self._breaker.guard():
            answer = self._ask(call)
            try:
                return answer.result(ANSWER_S if limit_s is None else limit_s)
            except TimeoutError:
                with self._lock:
                    self._left_behind.append(answer)
                raise TimeoutError("it did not answer in time") from None

    def _ask(self, call: Callable[[], T]) -> Future[T]:
        with self._lock:
            self._left_behind = [one for one in self._left_behind if not one.done()]
            if len(self._left_behind) >= MOST_LEFT_BEHIND:
                raise TimeoutError(f"{MOST_LEFT_BEHIND} earlier calls still wait for an answer")
        return ask_in_thread(call)


def ask_in_thread(call: Callable[[], T], name: str = "artifacts") -> Future[T]:
    """Begin a call in a thread of its own, of this name, and return where its answer will be."""
    answer: Future[T] = Future()
    answer.set_running_or_notify_cancel()  # who no longer waits for it cannot cancel it

    def ask() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:
            answer.set_exception(error)

    # A daemon: one that hangs must not keep the process from ending, as those of an executor would.
    threading.Thread(target=ask, name=name, daemon=True).start()
    return answer
