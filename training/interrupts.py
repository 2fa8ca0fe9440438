"""Ctrl-C in long work: the first one lets it end in order, a second one ends at once.

SIGTERM, with which a cluster takes a machine back, counts as Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, current_thread, main_thread
from types import FrameType

import typer

from training.launched_processes import is_launched, is_main_process

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAME_S = 3.0
"""`accelerate launch` hands a Ctrl-C on to processes that have heard it already: so soon after, it is the same one."""
NOTED = b"\nends after this step, and keeps what is done; Ctrl-C once more ends at once\n"


@contextmanager
def interrupts_noted() -> Iterator[Event]:
    """Let the first Ctrl-C inside only set the event, so that no step is torn; a second one interrupts at once.

    Outside the main thread, where Python hears no signals, nothing changes.
    """
    noted = Event()
    if current_thread() is not main_thread():
        yield noted
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    heard_at: list[float] = []

    def note(number: int, frame: FrameType | None) -> None:
        if not heard_at:
            heard_at.append(time.monotonic())
            noted.set()
            if is_main_process():
                os.write(2, NOTED)  # print may be what was interrupted
        elif not is_launched() or time.monotonic() - heard_at[0] > SAME_S:
            _restore(before)
            signal.raise_signal(number)

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield noted
    finally:
        _restore(before)


@contextmanager
def resumable(how: str = "the same command goes on where it stopped") -> Iterator[None]:
    """End a command that was interrupted with exit status 130, and say how it goes on."""
    try:
        yield
    except KeyboardInterrupt:
        if is_main_process():
            typer.echo(f"interrupted; {how}", err=True)
        raise typer.Exit(130) from None


def _restore(before: dict[signal.Signals, signal._HANDLER]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)
