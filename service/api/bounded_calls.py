"""Calls that may hang, as those to a folder on a share whose server is gone: each ends in time for who waits for it.

A call that hangs cannot be ended: it keeps its thread until the share answers. So each call has a thread of its own,
and a product has few of them: of a product whose files hang no other product's calls wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

from service.storage.bounded import ask_in_thread

P = ParamSpec("P")
T = TypeVar("T")

AT_ONCE = 4
"""Calls about one product; further ones wait for their turn."""
MOST_THREADS = 32
"""Of all products together: with eight products whose files hang, the store is to blame."""
ALL_PRODUCTS = ""
"""What a call is about that reads every product."""


class _CallsAboutOne:
    """The calls about one product."""

    def __init__(self) -> None:
        self.turns = asyncio.Semaphore(AT_ONCE)
        self.late_at: dict[Future[Any], float] = {}
        """Those in threads, and when nobody waits for them any more, by the event loop's clock."""
        self.callers = 0
        """Requests that wait for a turn or for an answer."""

    def refuse_if_hung(self, now: float) -> None:
        """Raise TimeoutError if every turn is taken by a call that nobody waits for any more."""
        if sum(late_at <= now for late_at in self.late_at.values()) >= AT_ONCE:
            raise TimeoutError(f"{AT_ONCE} earlier calls still wait for an answer")


class BoundedCalls:
    """Calls of one kind, each in a thread of its own and with a limit of time. Used by the event loop's thread only."""

    def __init__(self, kind: str) -> None:
        """`kind`: the name of the threads."""
        self._kind, self._threads = kind, asyncio.Semaphore(MOST_THREADS)
        self._about: dict[str, _CallsAboutOne] = {}

    @property
    def known(self) -> list[str]:
        """The products that calls are about now."""
        return list(self._about)

    async def run(
        self, about: str, limit_s: float, function: Callable[P, T], /, *arguments: P.args, **named: P.kwargs
    ) -> T:
        """Return what the function returns.

        Args:
            about: the product whose files it reads or writes.
            limit_s: for its turn and its answer together.
            function: runs in a thread; what it still does after the limit is its own affair.
            arguments: of the function, as are `named`.

        Raises:
            TimeoutError: if it does not answer in time; at once, while earlier calls about the product do not.
        """
        calls = self._about.setdefault(about, _CallsAboutOne())
        now = asyncio.get_running_loop().time()
        calls.callers += 1
        try:
            calls.refuse_if_hung(now)
            async with asyncio.timeout_at(now + limit_s):
                await self._take_turn(calls)
                answer = self._begin(about, calls, lambda: function(*arguments, **named), now + limit_s)
                return await asyncio.wrap_future(answer)
        finally:
            calls.callers -= 1
            self._forget_if_idle(about, calls)

    async def _take_turn(self, calls: _CallsAboutOne) -> None:
        await calls.turns.acquire()
        try:
            await self._threads.acquire()
        except BaseException:
            calls.turns.release()
            raise

    def _begin(self, about: str, calls: _CallsAboutOne, call: Callable[[], T], late_at: float) -> Future[T]:
        """Begin the call. Its turn is another's once its thread has ended, however late."""
        loop = asyncio.get_running_loop()

        def end(answer: Future[T] | None = None) -> None:
            if answer is not None:
                del calls.late_at[answer]
            calls.turns.release()
            self._threads.release()
            self._forget_if_idle(about, calls)

        def end_in_loop(answer: Future[T]) -> None:
            with suppress(RuntimeError):  # the application has ended meanwhile
                loop.call_soon_threadsafe(end, answer)

        try:
            begun = ask_in_thread(call, self._kind)
        except RuntimeError:  # the system allows no further thread
            end()
            raise
        calls.late_at[begun] = late_at
        begun.add_done_callback(end_in_loop)
        return begun

    def _forget_if_idle(self, about: str, calls: _CallsAboutOne) -> None:
        # Clients choose the names of products: what is kept of them must not grow.
        if not calls.callers and not calls.late_at and self._about.get(about) is calls:
            del self._about[about]
