"""Threads for what blocks: a pool for each thing that may hang, so that none of them waits for another.

Of one pool for all, a slow image store would take every thread, and calls that need no image would wait for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, ParamSpec, TypeVar

from service.api.bounded_calls import BoundedCalls
from service.settings import Settings
from service.storage.bounded import ask_in_thread

P = ParamSpec("P")
T = TypeVar("T")

IMAGE_THREADS = 16
"""Images that are stored, and as many that are read, at a time: mostly a wait for a disk or an object store."""
PROBE_THREADS = 4


class ThreadPool:
    """A few threads for calls of one kind; further calls wait for their turn."""

    def __init__(self, kind: str, threads: int) -> None:
        self.executor = ThreadPoolExecutor(threads, thread_name_prefix=kind)

    async def run(self, function: Callable[P, T], /, *arguments: P.args, **named: P.kwargs) -> T:
        """Return what the function returns, which runs in a thread of this pool."""
        return await asyncio.get_running_loop().run_in_executor(self.executor, lambda: function(*arguments, **named))

    def close(self) -> None:
        """Drop what has not begun. What has begun goes on; nobody waits for it: a store that hangs may never answer."""
        self.executor.shutdown(wait=False, cancel_futures=True)


async def run_in_own_thread(function: Callable[[], T], name: str) -> T:
    """Return what the function returns, which runs in a thread of its own. One that hangs keeps no process alive."""
    return await asyncio.wrap_future(ask_in_thread(function, name))


class ThreadPools:
    """The pools of one API process."""

    def __init__(self, settings: Settings) -> None:
        self.intake = ThreadPool("intake", IMAGE_THREADS)
        """Images that are stored as they come: whoever reads pictures delays no camera."""
        self.images = ThreadPool("images", IMAGE_THREADS)
        """Images and pictures that are read from the artifact store, or drawn from what it has."""
        self.previews = ThreadPool("previews", settings.decode_threads)
        """Pictures for screens, which wait for a decoder: whoever reads a stored picture does not wait behind them."""
        self.bundles = BoundedCalls("bundles")
        """Reading the store of bundles and product states."""
        self.changes = BoundedCalls("changes")
        """Changing them: a change that hangs delays no image."""
        self.inference = ThreadPool("inference", settings.decode_threads)
        """Requests and answers of the Open Inference Protocol."""
        self.heavy_inference = ThreadPool("heavy-inference", 1)
        """Its packed requests, and those of much JSON: one at a time, because a small one may become very large, and
        because the parser lets no other thread run."""
        self.probes = ThreadPool("probes", PROBE_THREADS)
        """What readiness and metrics look at."""

    def close(self) -> None:
        """End all threads after what they are working on; wait for none."""
        pools = (
            self.intake,
            self.images,
            self.previews,
            self.inference,
            self.heavy_inference,
            self.probes,
        )
        for pool in pools:
            pool.close()


class RememberedOutcome(Generic[T]):
    """The outcome of a check that anybody may ask for: it is made by one caller at a time, and counts for a while.

    Whoever asks while it is being made waits for the same one, so that a store that hangs is asked only once.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._making: asyncio.Future[T] | None = None
        self._made_at = float("-inf")

    async def get(self, make: Callable[[], Awaitable[T]]) -> T:
        """Return the outcome, or raise its error."""
        if self._making is None or (self._making.done() and time.monotonic() - self._made_at >= self._seconds):
            self._making = asyncio.ensure_future(make())
            self._making.add_done_callback(self._note_end)
        return await asyncio.shield(self._making)

    def _note_end(self, made: asyncio.Future[T]) -> None:
        self._made_at = time.monotonic()
        if not made.cancelled():
            made.exception()  # an error that nobody waited for any more is no news
