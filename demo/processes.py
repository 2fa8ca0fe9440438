"""Child processes that never outlive the demo."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

BRIEF_S = (3.0,)
DRAIN_S = (15.0, 30.0)
"""How long a child may take to end after each interrupt: the service first finishes what it has begun, then hurries."""


STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a termination and a closed terminal."""


class DemoError(Exception):
    """The demo cannot go on; the message says why and what to do."""


class StoppedBySignal(BaseException):
    """A signal asks the demo to end. A BaseException, so that no handler of errors swallows it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_status = 128 + number


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Turn Ctrl-C, a termination and a closed terminal into StoppedBySignal, once; the clean-up ignores them."""

    def stop(number: int, _: FrameType | None) -> None:
        for other in STOPPING:
            signal.signal(other, signal.SIG_IGN)
        raise StoppedBySignal(number)

    before = {number: signal.signal(number, stop) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def glad_command(*arguments: str | Path) -> list[str]:
    """Return the `glad` command of this very environment."""
    return [sys.executable, "-m", "glad", *map(str, arguments)]


def child_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with the demo's own settings.

    The user's service settings are left out, for they may point to a Redis or a store in real use. GLAD_STORE,
    GLAD_DEVICE and GLAD_ENGINE pass: the bundles to run, and the device.
    """
    passed = {"GLAD_STORE", "GLAD_DEVICE", "GLAD_ENGINE"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GLAD_") or name in passed}
    return kept | {"PYTHONUNBUFFERED": "1"} | dict(settings)


@contextmanager
def running(
    command: Sequence[str], log: Path, environment: Mapping[str, str], patience_s: Sequence[float] = BRIEF_S
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a child with its output in a log.

    It stands in a session of its own, so that a Ctrl-C reaches the demo alone, which then ends its children in order:
    on leaving, the child is interrupted, and killed when that does not help.
    """
    child = None
    try:
        with held_signals() as mask, log.open("wb") as output:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
                preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, mask),  # noqa: PLW1509 - no threads here
            )
        yield child
    finally:
        if child is not None:
            with held_signals():
                end(child, patience_s)


@contextmanager
def held_signals() -> Iterator[set[int]]:
    """Hold back signals that would stop the demo until the end of the block: a child must not start or end by halves.

    Yield the mask that was in force, for a child to go back to.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield {int(number) for number in mask}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def end(child: subprocess.Popen[bytes], patience_s: Sequence[float]) -> None:
    """Stop a child and all that is left of its session."""
    for seconds in patience_s:
        if child.poll() is None:
            child.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                child.wait(seconds)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def last_lines(log: Path, count: int = 12) -> str:
    """Return the end of a log, indented, for an error message."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-count:]
    return "\n".join(f"    {line}" for line in lines) or "    (empty)"
