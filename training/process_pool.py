"""Many independent pieces of work on all cores: a process per core, results in order, and no process left behind.

Ctrl-C reaches only the parent, once: it drops what is not begun, and the processes end after the item that each has in
hand. If the parent is killed, they end by themselves, at once.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def process_count(requested: int | None) -> int:
    """Return how many processes to start: `requested`, or one per core.

    Raises:
        ValueError: if `requested` is below 1.
    """
    if requested is None:
        return os.cpu_count() or 1
    if requested < 1:
        raise ValueError(f"{requested} worker processes: give 1 (no other process) or more, or None for one per core")
    return requested


def parallel_map(
    call: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int | None = None,
    chunk: int = 1,
    prepare: Callable[..., object] | None = None,
    given: tuple[Any, ...] = (),
) -> Iterator[Result]:
    """Yield `call(item)` for every item, in order.

    Args:
        workers: processes; None: one per core; 1: all in this process, which spares small work the start of others.
        chunk: items handed to a process at once.
        prepare, given: `prepare(*given)` runs once in every process before its first item.

    Raises:
        ValueError: if `workers` is below 1.
    """
    count = min(process_count(workers), -(-len(items) // chunk))
    if count <= 1:
        if prepare is not None:
            prepare(*given)
        yield from map(call, items)
        return
    context = get_context("spawn")
    watched, held = context.Pipe(duplex=False)  # `held` is this process's alone: once it is closed, the others stop
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_begin, initargs=(watched, prepare, given))
    try:
        with _interrupts_blocked():
            # Not pool.map, which cancels what it no longer awaits: the pool fails at that, with a traceback, if its
            # processes have ended by then. The first of these start the processes, which inherit the block.
            pending = deque(pool.submit(_call_each, call, items[at : at + chunk]) for at in range(0, len(items), chunk))
        while pending:
            yield from pending.popleft().result()
    except BaseException:
        held.close()
        raise
    finally:
        with _interrupts_ignored():  # one that interrupts the shutdown leaves it half done: the program never ends
            pool.shutdown(cancel_futures=True)
            held.close()
            watched.close()


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Ignore Ctrl-C until the end of the block, where this is the main thread, which alone may say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Hold Ctrl-C back until the end of the block; processes started in it never receive one."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_STOPPED = threading.Event()  # a worker process's own: nobody wants what it has not begun


def _call_each(call: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    return [call(item) for item in items if not _STOPPED.is_set()]


def _begin(watched: Connection, prepare: Callable[..., object] | None, given: Iterable[Any]) -> None:
    threading.Thread(target=_end_with_parent, args=(watched,), name="end-with-parent", daemon=True).start()
    if prepare is not None:
        prepare(*given)


def _end_with_parent(watched: Connection) -> None:
    """End this process when its parent has ended; begin nothing more once it has closed its end of the pipe.

    To end in the middle of a result that is on its way would leave the parent waiting for the rest of it for ever.
    """
    parent = parent_process()
    if parent is None:  # not a worker
        return
    if parent.sentinel not in wait([watched, parent.sentinel]):
        _STOPPED.set()
        wait([parent.sentinel])
    os._exit(1)
