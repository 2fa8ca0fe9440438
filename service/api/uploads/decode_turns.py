"""Whose image is decoded next: the callers take turns, and slow images never have all decoders.

Decoding is the one step of an acceptance that a small file can make long. In one line for all, every camera would wait
for each slow image that came before its own.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Self

SLOW_S = 1.0
"""A decoding that takes longer is slow. A good image of 5 megapixels takes a tenth of it."""
REMEMBERED_S = 60.0
"""So long a caller's images count as slow after one that was."""


class DecodeTurn:
    """A caller's turn, a context manager: it begins when there is a place, and gives that back at the block's end."""

    def __init__(self, who: str, end: Callable[[DecodeTurn], None]) -> None:
        self.who, self._end = who, end
        self.began_at = float("inf")
        self._granted: Future[None] = Future()
        # Of a future that runs, who waits may be cancelled, but not the future itself: another thread may grant it now.
        self._granted.set_running_or_notify_cancel()

    async def wait(self) -> None:
        """Wait until the turn may begin; if the wait is cancelled, so is the turn."""
        try:
            await asyncio.wrap_future(self._granted)
        except asyncio.CancelledError:
            self._end(self)
            raise

    def __enter__(self) -> Self:
        self._granted.result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end(self)

    def grant(self, now: float) -> None:
        """Let it begin."""
        self.began_at = now
        self._granted.set_result(None)


class DecodeTurns:
    """Gives out turns to decode, so many at a time. For threads and coroutines.

    The callers that wait come one after the other, however many images each has waiting. The images of callers that had
    a slow one lately have all places but one, which is kept for the others.
    """

    def __init__(
        self,
        places: int,
        *,
        slow_s: float = SLOW_S,
        remembered_s: float = REMEMBERED_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start with all places free.

        Args:
            places: turns at a time; of a single place nothing can be kept free.
            slow_s: a turn that takes longer is slow.
            remembered_s: so long a caller is one of slow images.
            clock: seconds, of any beginning.
        """
        self._places, self._slow_s, self._remembered_s, self._clock = places, slow_s, remembered_s, clock
        self._lock = threading.Lock()
        self._waiting: dict[str, deque[DecodeTurn]] = {}
        """Caller -> its turns; the caller that has waited longest for one comes first."""
        self._running: set[DecodeTurn] = set()
        self._slow_until: dict[str, float] = {}

    def ask(self, who: str) -> DecodeTurn:
        """Return a turn of this caller, which may have to wait. It must be entered, or waited for."""
        turn = DecodeTurn(who, self._end)
        with self._lock:
            self._waiting.setdefault(who, deque()).append(turn)
            self._grant()
        return turn

    def _end(self, turn: DecodeTurn) -> None:
        with self._lock:
            if turn in self._running:
                self._running.remove(turn)
                if self._is_slow(turn):
                    self._slow_until[turn.who] = self._clock() + self._remembered_s
            else:
                self._take_out(turn)
            self._grant()

    def _take_out(self, turn: DecodeTurn) -> None:
        """Take a turn out of those that wait; its caller's next one comes behind the other callers'."""
        turns = self._waiting.pop(turn.who)
        turns.remove(turn)
        if turns:
            self._waiting[turn.who] = turns

    def _grant(self) -> None:
        while len(self._running) < self._places and (turn := self._next()) is not None:
            self._take_out(turn)
            self._running.add(turn)
            turn.grant(self._clock())

    def _next(self) -> DecodeTurn | None:
        slow = sum(self._is_slow(turn) or self._was_slow(turn.who) for turn in self._running)
        room_for_slow = slow < max(1, self._places - 1)
        return next(
            (turns[0] for who, turns in self._waiting.items() if room_for_slow or not self._was_slow(who)), None
        )

    def _is_slow(self, turn: DecodeTurn) -> bool:
        return self._clock() - turn.began_at > self._slow_s

    def _was_slow(self, who: str) -> bool:
        if self._slow_until.get(who, 0.0) > self._clock():
            return True
        self._slow_until.pop(who, None)
        return False
