"""Ctrl-C in long work: the first one lets it end in order, a second one ends at once.

SIGTERM, with which a cluster takes a machine away, counts as Ctrl-C.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, current_thread, main_thread
from types import FrameType

NOTED = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interrupts_noted() -> Iterator[Event]:
    """Let the first Ctrl-C inside only set the event, so that no step is torn; a second one interrupts at once.

    Outside the main thread, where Python hears no signals, nothing changes.
    """
    noted = Event()
    if current_thread() is not main_thread():
        yield noted
        return
    before = {number: signal.getsignal(number) for number in NOTED}

    def note(number: int, frame: FrameType | None) -> None:
        noted.set()
        _restore(before)

    for number in NOTED:
        signal.signal(number, note)
    try:
        yield noted
    finally:
        _restore(before)


def _restore(before: dict[signal.Signals, signal._HANDLER]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)
