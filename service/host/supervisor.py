"""Redis, API, a worker for each pool and, if there is anything to deliver, outbox on one machine: started in order,
restarted with backoff, drained in order.

    lock the data folder → listen → Redis → API → outbox → workers → watch …
    … → API stops accepting → workers finish → outbox → Redis

The supervisor opens the listening socket itself: a port in use is found before anything starts, port 0 is known at
once, and a restarted API misses no connection.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from service.auth.policy import Auth, check_may_start
from service.contract import DEFAULT_POOL
from service.errors import StartError
from service.host.child_process import (
    API_DRAIN_S,
    EXIT_CONFIG,
    Backoff,
    Child,
    describe_exit,
)
from service.host.data_dir import DataDirLock
from service.host.listen_socket import listen
from service.host.liveness import LivenessProbe, Probing, ReadyPipe, alive
from service.host.private_redis import answers, find_redis, redis_command, redis_url, socket_path, stop_orphan
from service.host.shutdown import Shutdown
from service.queue.connection import connect

POLL_S = 0.1
log = structlog.get_logger(__name__)


class Stopped(Exception):
    """The person at the terminal, or the system, asked the supervisor to stop."""


@dataclass(frozen=True)
class Patience:
    """How long the supervisor waits before it takes the next measure, in seconds."""

    redis_start_s: float = 60.0
    api_drain_s: float = API_DRAIN_S + 5.0
    worker_drain_s: float = 240.0
    """GLAD_DRAIN_S: after it the worker itself hands back what is not finished."""
    hand_back_s: float = 30.0
    """The step under way ends, and what is not finished goes back to the queue."""
    outbox_drain_s: float = 30.0
    redis_drain_s: float = 15.0
    probing: Probing = field(default_factory=Probing)
    starts_without_success: int = 4


@dataclass(frozen=True)
class Plan:
    """What to serve, where."""

    data_dir: Path
    host: str
    port: int
    redis_bin: Path | None = None
    auth: Auth = "auto"
    pools: tuple[str, ...] = (DEFAULT_POOL,)
    """Each has a worker here."""
    worker_port: int = 0
    """Of the first worker; the others have the next ones. 0: any free ones."""
    delivers: bool = False
    """Events go somewhere: an outbox runs too."""
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    """Of every child."""
    outbox_environment: Mapping[str, str] = field(default_factory=dict)
    """Of the outbox besides: the other children have no use for its secrets."""
    backoff: Backoff = field(default_factory=Backoff)
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True)
class Address:
    """Where the API listens, as a client would call it."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


class RestartingChild:
    """A child that is started again when it ends, each time a little later."""

    def __init__(self, child: Child, start: Callable[[], None], backoff: Backoff, most_failures: int) -> None:
        self.child = child
        self.succeeded = False
        self._start, self._backoff, self._most_failures = start, backoff, most_failures
        self._failures = 0
        self._started_at = self._due_at = 0.0
        self._ended = True

    def poll(self, now: float) -> None:
        """Starts the child if it is due; notes its end. StartError if it will never work."""
        if self._ended:
            if now >= self._due_at:
                self._start()
                self._started_at, self._ended = now, False
            return
        status = self.child.exit_status
        if status is None:
            return
        self._ended = True
        if status == EXIT_CONFIG:
            raise StartError(f"the {self.child.name} cannot run with these settings: its message stands above")
        self._failures = self._backoff.failures(self._failures, now - self._started_at)
        if not self.succeeded and self._failures >= self._most_failures:
            raise StartError(
                f"the {self.child.name} ended {self._failures} times before it was ready, "
                f"last {describe_exit(status)}: its message stands above"
            )
        delay = self._backoff.delay_s(self._failures)
        self._due_at = now + delay
        log.warning("child ended", child=self.child.name, how=describe_exit(status), restart_in_s=delay)


class Supervisor:
    """Runs one machine's service in the foreground until it is asked to stop."""

    def __init__(self, plan: Plan, say: Callable[[str], None], banner: Callable[[Address], str]) -> None:
        """`say` prints a line for the person at the terminal; `banner` words what is served once all is ready."""
        self._plan, self._say, self._banner = plan, say, banner
        self._asked = Shutdown()
        self._kept: dict[str, RestartingChild] = {}
        self._workers = dict(_workers(plan))
        self._ready = {name: ReadyPipe() for name in (*self._workers, "outbox")}
        self._watched = {
            name: LivenessProbe(plan.host, pipe, plan.patience.probing) for name, pipe in self._ready.items()
        }

    def run(self) -> None:
        """Serves until SIGINT or SIGTERM. StartError if it cannot; by then everything is stopped again."""
        binary = find_redis(self._plan.redis_bin)
        with (
            DataDirLock(self._plan.data_dir),
            listen(self._plan.host, self._plan.port) as server,
            self._asked.on_signals(signal.SIGHUP),
        ):
            address = Address(self._plan.host, int(server.getsockname()[1]))
            environment = self._environment(address)
            try:
                self._start_redis(binary)
                self._check_door()
                self._start_api(server, address, environment)
                if self._plan.delivers:  # before the worker: it has its places in the event stream before any event
                    self._say("starting the outbox")
                    own = {**environment, **self._plan.outbox_environment}
                    self._start_watched("outbox", "service.outbox.main", own)
                for name, own in self._workers.items():
                    self._say(f"starting the {name} (it loads and warms the models)")
                    self._start_watched(name, "service.worker.main", {**environment, **own})
                self._say(self._banner(address))
                self._watch()
            except Stopped:
                self._say("stopping (once more: at once)")
            finally:
                server.close()  # from here on a new connection is refused, not kept waiting
                self._drain()

    def _environment(self, address: Address) -> dict[str, str]:
        return {
            **self._plan.environment,
            "GLAD_DATA_DIR": str(self._plan.data_dir),
            "GLAD_REDIS_URL": redis_url(socket_path(self._plan.data_dir)),
            "GLAD_HOST": address.host,
            "GLAD_PORT": str(address.port),
        }

    def _start_redis(self, binary: Path) -> None:
        path = socket_path(self._plan.data_dir)
        stop_orphan(path)
        log_file = self._plan.data_dir / "redis" / "redis.log"
        command = redis_command(binary, self._plan.data_dir, path)
        child = Child("Redis", command, env=self._plan.environment, log=log_file)
        kept = self._keep("redis", child, child.start)
        self._say(f"starting Redis ({binary})")
        deadline = time.monotonic() + self._plan.patience.redis_start_s
        while not answers(path):
            if child.exit_status is not None or time.monotonic() > deadline:
                raise StartError(f"Redis did not start; the end of {log_file}:\n{_tail(log_file)}")
            self._tend_and_pause()
        kept.succeeded = True

    def _check_door(self) -> None:
        with connect(redis_url(socket_path(self._plan.data_dir))) as client:
            check_may_start(self._plan.auth, self._plan.host, client)

    def _start_api(self, server: socket.socket, address: Address, environment: Mapping[str, str]) -> None:
        child = Child("API", [sys.executable, "-m", "service.api.server"], env=environment)
        fd = server.fileno()
        kept = self._keep("api", child, lambda: child.start("--fd", str(fd), pass_fds=(fd,)))
        self._say(f"starting the API at {address.url}")
        while not alive(address.host, address.port, timeout_s=2.0):
            self._tend_and_pause()
        kept.succeeded = True

    def _start_watched(self, name: str, module: str, environment: Mapping[str, str]) -> None:
        """A child that says when it is ready, and is asked from then on whether it lives."""
        child, pipe = Child(name, [sys.executable, "-m", module], env=environment), self._ready[name]

        def start() -> None:
            self._watched[name].started(time.monotonic())
            with pipe.writer() as fd:
                child.start("--ready-fd", str(fd), pass_fds=(fd,))

        kept = self._keep(name, child, start)
        while not pipe.poll():
            self._tend_and_pause()
        kept.succeeded = True

    def _keep(self, name: str, child: Child, start: Callable[[], None]) -> RestartingChild:
        kept = RestartingChild(child, start, self._plan.backoff, self._plan.patience.starts_without_success)
        self._kept[name] = kept
        kept.poll(time.monotonic())
        return kept

    def _tend_and_pause(self) -> None:
        self._asked.wait(POLL_S)
        if self._asked.draining():
            raise Stopped
        for kept in self._kept.values():
            kept.poll(time.monotonic())
        for name, watch in self._watched.items():
            if name in self._kept:
                self._kill_if_stuck(self._kept[name].child, watch)

    def _kill_if_stuck(self, child: Child, watch: LivenessProbe) -> None:
        """One that no longer answers, says itself that it is stuck, or never comes up."""
        reason = watch.look(time.monotonic()) if child.running else None
        if reason is not None:
            log.error(f"{child.name} is stuck and will be killed", reason=reason)
            child.kill()

    def _watch(self) -> None:
        """Tends the children until it is asked to stop."""
        while True:
            self._tend_and_pause()

    def _drain(self) -> None:
        """API stops accepting → workers finish → outbox → Redis. What is not yet begun stays in Redis."""
        patience = self._plan.patience
        for names, seconds in (
            (("api",), patience.api_drain_s),
            (tuple(self._workers), patience.worker_drain_s + patience.hand_back_s),
            (("outbox",), patience.outbox_drain_s),
            (("redis",), patience.redis_drain_s),
        ):
            self._stop([self._kept[name].child for name in names if name in self._kept], seconds)
        for pipe in self._ready.values():
            pipe.close()

    def _stop(self, children: Sequence[Child], seconds: float) -> None:
        """All of them at the same time."""
        for child in children:
            child.signal(signal.SIGTERM)
        hurried, deadline = False, time.monotonic() + seconds
        while running := [child for child in children if not child.wait(POLL_S)]:
            if time.monotonic() > deadline:
                log.warning("child does not stop and is killed", child=", ".join(child.name for child in running))
                break
            if self._asked.at_once() and not hurried:
                hurried = True
                for child in running:
                    child.signal(signal.SIGTERM)
                deadline = min(deadline, time.monotonic() + self._plan.patience.hand_back_s)
        for child in children:
            child.kill()


def _workers(plan: Plan) -> Iterator[tuple[str, dict[str, str]]]:
    """Their names, and what is each one's own in the environment."""
    for at, pool in enumerate(plan.pools):
        name = "worker" if len(plan.pools) == 1 else f"worker of pool {pool}"
        port = plan.worker_port + at if plan.worker_port else 0
        yield name, {"GLAD_POOL": pool, "GLAD_WORKER_PORT": str(port)}


def _tail(path: Path, lines: int = 12) -> str:
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return "(no log)"
