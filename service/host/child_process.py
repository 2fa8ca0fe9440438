"""A child process that outlives neither its parent's stop nor its parent's death."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.contract import LONGEST_INFER_WAIT_S

EXIT_CONFIG = 78
"""Exit status of a child that no restart can help: its configuration is wrong (EX_CONFIG)."""
API_DRAIN_S = LONGEST_INFER_WAIT_S + 5
"""How long the API drains: a request that waits for its result may do so to its end."""
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Backoff:
    """How long to wait before a child is started again: doubling, and forgotten once it has lived for a while."""

    first_s: float = 0.5
    most_s: float = 30.0
    healthy_s: float = 60.0

    def failures(self, before: int, lived_s: float) -> int:
        """Failures in a row, this one included."""
        return 1 if lived_s >= self.healthy_s else before + 1

    def delay_s(self, failures: int) -> float:
        """Seconds to wait after this many failures in a row."""
        return float(min(self.most_s, self.first_s * 2 ** min(failures - 1, 20)))


class Child:
    """One child process, in a process group of its own: Ctrl-C in the terminal reaches only the parent, who decides.

    On Linux the kernel kills the child when the parent dies, however the parent dies.
    """

    def __init__(
        self, name: str, command: Sequence[str], *, env: Mapping[str, str] | None = None, log: Path | None = None
    ) -> None:
        """`log`: a file that takes the child's output; None: it goes where the parent's errors go."""
        self.name = name
        self._command, self._env, self._log = list(command), env, log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *extra: str, pass_fds: Sequence[int] = ()) -> None:
        """Starts the process, with extra arguments and inherited file descriptors."""
        if self.running:
            raise RuntimeError(f"{self.name} already runs as process {self.pid}")
        output = self._log.open("ab") if self._log else None
        try:
            self._process = subprocess.Popen(
                [*self._command, *extra],
                env=dict(self._env) if self._env is not None else None,
                stdin=subprocess.DEVNULL,
                stdout=output or sys.stderr,
                stderr=output or sys.stderr,
                pass_fds=pass_fds,
                process_group=0,
                preexec_fn=_dies_with(os.getpid()),  # noqa: PLW1509 - no thread runs, and it allocates nothing
            )
        finally:
            if output:
                output.close()

    @property
    def pid(self) -> int | None:
        """The process id; None before the first start."""
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        """The process has started and not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """The exit status, negative for a signal; None while it runs or before it started."""
        return self._process.poll() if self._process else None

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal, if the process runs."""
        if self._process and self.running:
            self._process.send_signal(number)

    def wait(self, seconds: float) -> bool:
        """Waits for the end at most this long; True: it has ended."""
        if self._process is None:
            return True
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """Ends the process and its group at once and reaps it."""
        if self._process is None:
            return
        if self.running:
            # The group has the process's own id: see process_group=0.
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def describe_exit(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"with status {status}"
    try:
        return f"by {signal.Signals(-status).name}"
    except ValueError:
        return f"by signal {-status}"


def _dies_with(parent: int) -> Callable[[], None] | None:
    """What the child does between fork and exec so that it dies with its parent. Nothing is imported after the fork."""
    if not sys.platform.startswith("linux"):
        return None
    prctl, getppid, leave = ctypes.CDLL(None, use_errno=True).prctl, os.getppid, os._exit

    def prepare() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if getppid() != parent:  # the parent died before prctl took hold
            leave(1)

    return prepare
