"""Child processes of the supervisor: stopped and killed with it, restarted with growing delays."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import structlog
from pydantic import ValidationError

from service.contract import LONGEST_INFER_WAIT_S
from service.errors import StartError
from service.settings import Settings

EXIT_CONFIG = 78
"""Exit status of a child whose configuration is wrong, so that a restart cannot help (EX_CONFIG of sysexits.h)."""
API_DRAIN_S = LONGEST_INFER_WAIT_S + 5
"""How long the API drains: a request that waits for its result may wait to its end."""
_PR_SET_PDEATHSIG = 1  # from linux/prctl.h

AnySettings = TypeVar("AnySettings", bound=Settings)

log = structlog.get_logger(__name__)


def read_settings(kind: type[AnySettings], program: str) -> AnySettings:
    """Return the settings of the environment, for the process that `program` names.

    Raises:
        SystemExit: with `EXIT_CONFIG`, after one line that says which setting is wrong.
    """
    try:
        return kind()
    except ValidationError as error:
        print(f"{program}: {kind.describe_errors(error)}", file=sys.stderr)  # noqa: T201 - for the person who set it
        raise SystemExit(EXIT_CONFIG) from error


@dataclass(frozen=True)
class Backoff:
    """Delays between attempts: each is twice as long as the one before, up to a limit."""

    first_s: float = 0.5
    most_s: float = 30.0
    healthy_s: float = 60.0
    """A child that has lived for so long counts as healthy: its earlier failures no longer lengthen the delay."""

    def count_failures(self, before: int, lived_s: float) -> int:
        """Return the number of consecutive failures, this one included.

        Args:
            before: consecutive failures before this one.
            lived_s: how long the child lived this time, in seconds.
        """
        return 1 if lived_s >= self.healthy_s else before + 1

    def delay_s(self, failures: int) -> float:
        """Return the seconds to wait after this many consecutive failures."""
        # The exponent is bounded: after days of failures 2**n would no longer fit into a float.
        return float(min(self.most_s, self.first_s * 2 ** min(failures - 1, 20)))


class Child:
    """A child process in a process group of its own.

    Ctrl-C in the terminal therefore reaches only the parent, which stops its children in order. On Linux the kernel
    kills the child when the parent dies, even by SIGKILL.
    """

    def __init__(
        self, name: str, command: Sequence[str], *, env: Mapping[str, str] | None = None, log: Path | None = None
    ) -> None:
        """Describe the child; nothing is started yet.

        Args:
            env: the whole environment of the child; None: the parent's.
            log: a file that takes the child's output; None: the output goes to the parent's standard error.
        """
        self.name = name
        self._command, self._env, self._log = list(command), env, log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *extra: str, pass_fds: Sequence[int] = ()) -> None:
        """Start the process, with these additional arguments and inherited file descriptors."""
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
                # Linted against because code between fork and exec can deadlock on a lock that another thread held:
                # the supervisor has no other thread, and the function neither imports nor takes a lock.
                preexec_fn=_die_with_parent(os.getpid()),  # noqa: PLW1509
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
        """Whether the process was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """The exit status, negative for a signal; None while the process runs and before it was started."""
        return self._process.poll() if self._process else None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process runs."""
        if self._process and self.running:
            self._process.send_signal(number)

    def wait(self, seconds: float) -> bool:
        """Wait for the end of the process at most this long; return whether it has ended."""
        if self._process is None:
            return True
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """Kill the process and its group with SIGKILL, and reap it."""
        if self._process is None:
            return
        if self.running:
            # process_group=0 made the process the leader of its group: the group's id is its own.
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class RestartingChild:
    """A child that is started again whenever it ends, each time after a longer delay."""

    def __init__(
        self,
        child: Child,
        start: Callable[[], None],
        backoff: Backoff,
        most_failures: int,
        describe_end: Callable[[], Mapping[str, object]] = dict,
    ) -> None:
        """Keep `child`, which `start` starts.

        Args:
            most_failures: so many consecutive ends before the child was ready once end the supervisor too.
            describe_end: what the log says of an end beside how the child ended.
        """
        self.child = child
        self.succeeded = False
        """Set by the owner once the child was ready: from then on it is restarted without limit, whatever ended it."""
        self._start, self._backoff, self._most_failures = start, backoff, most_failures
        self._describe_end = describe_end
        self._failures = 0
        self._started_at = self._due_at = 0.0
        self._ended = True

    def poll(self, now: float) -> None:
        """Start the child if it is due, and notice if it has ended. Call it often.

        Raises:
            StartError: if no restart can help a child that was never ready: wrong settings, or too many failures.
        """
        if self._ended:
            if now >= self._due_at:
                self._try_to_start(now)
            return
        status = self.child.exit_status
        if status is None:
            return
        self._ended = True
        # Settings that it ran with before are right: what is wrong passes, such as a port that is in use for a while.
        if status == EXIT_CONFIG and not self.succeeded:
            raise StartError(f"the {self.child.name} cannot run with these settings: see its message above")
        self._failed(now, describe_exit(status))

    def _try_to_start(self, now: float) -> None:
        self._started_at, self._ended = now, False
        try:
            self._start()
        except OSError as error:  # no process or no memory to be had: it may pass, and the others go on
            self._ended = True
            self._failed(now, f"at its start: {error}")

    def _failed(self, now: float, how: str) -> None:
        self._failures = self._backoff.count_failures(self._failures, now - self._started_at)
        if not self.succeeded and self._failures >= self._most_failures:
            raise StartError(
                f"the {self.child.name} ended {self._failures} times before it was ready, "
                f"the last time {how}: see its message above"
            )
        # The delay is not slept here: the supervisor goes on watching its other children.
        delay_s = self._backoff.delay_s(self._failures)
        self._due_at = now + delay_s
        log.warning("child ended", child=self.child.name, how=how, restart_in_s=delay_s, **self._describe_end())


def describe_exit(status: int) -> str:
    """Return an exit status in words: "with status 1", "by SIGKILL"."""
    if status >= 0:
        return f"with status {status}"
    try:
        return f"by {signal.Signals(-status).name}"
    except ValueError:
        return f"by signal {-status}"


def _die_with_parent(parent: int) -> Callable[[], None] | None:
    """Return what the child runs between fork and exec so that the kernel kills it when its parent dies.

    None where the system has no such request (it is Linux's).
    """
    if not sys.platform.startswith("linux"):
        return None
    # Looked up before the fork: an import in the child could wait for an import lock that nothing will release.
    prctl, getppid, leave = ctypes.CDLL(None, use_errno=True).prctl, os.getppid, os._exit

    def request_death_signal() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if getppid() != parent:  # the parent died before prctl took effect: no signal will come
            leave(1)

    return request_death_signal
