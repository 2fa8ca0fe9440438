"""`glad serve` on one machine: Redis, the API, a worker for each pool and, if events are delivered, the outbox.

    lock the data folder → listen → Redis → API → outbox → workers → watch …
    … → API stops accepting → workers finish → outbox → Redis

Children are started in this order, restarted with growing delays, and drained in the second order. The supervisor opens
the listening socket itself: a port in use is found before anything starts, the number behind port 0 is known at once,
and connections made while the API restarts wait in the socket's queue.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from service.auth.authenticator import Auth, check_may_start
from service.contract import DEFAULT_POOL
from service.errors import StartError
from service.host.child_process import (
    API_DRAIN_S,
    Backoff,
    Child,
    RestartingChild,
)
from service.host.liveness import LivenessProbe, Probing, ReadyPipe, is_alive
from service.host.memory import HUGE_PAGES
from service.host.private_redis import (
    DataDirLock,
    find_redis,
    redis_answers,
    redis_command,
    redis_lives,
    redis_url,
    socket_path,
    stop_orphan,
)
from service.host.shutdown import Shutdown
from service.queue.connection import connect

POLL_S = 0.1
LOOPBACK = "127.0.0.1"
log = structlog.get_logger(__name__)


class StopRequested(Exception):
    """A signal asked the supervisor to stop: Ctrl-C in the terminal, or SIGTERM of the system."""


@dataclass(frozen=True)
class SupervisorTimeouts:
    """How long the supervisor waits for its children, in seconds, before it takes the next measure."""

    redis_start_s: float = 60.0
    api_drain_s: float = API_DRAIN_S + 5.0
    worker_drain_s: float = 240.0
    """GLAD_DRAIN_S: after it the worker itself returns unfinished images to the queue."""
    hand_back_s: float = 30.0
    """For the current denoising step to end, and for unfinished images to return to the queue."""
    outbox_drain_s: float = 30.0
    redis_drain_s: float = 15.0
    probing: Probing = field(default_factory=Probing)
    starts_without_success: int = 4
    """Not a time: so many failed starts of a child that was never ready end the supervisor."""


@dataclass(frozen=True)
class SupervisorPlan:
    """The processes of one supervisor, and their settings."""

    data_dir: Path
    host: str
    port: int
    redis_bin: Path | None = None
    auth: Auth = "auto"
    pools: tuple[str, ...] = (DEFAULT_POOL,)
    """Each pool gets one worker on this machine."""
    worker_host: str = LOOPBACK
    """Address of the health ports: no other machine reaches them unless it is asked for."""
    worker_port: int = 0
    """Health port of the first worker; further workers get the numbers that follow. 0: any free ports."""
    delivers: bool = False
    """Whether events are delivered, so that an outbox is needed."""
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    """Environment of every child."""
    outbox_environment: Mapping[str, str] = field(default_factory=dict)
    """Variables for the outbox alone: its secrets are kept from the other children."""
    backoff: Backoff = field(default_factory=Backoff)
    timeouts: SupervisorTimeouts = field(default_factory=SupervisorTimeouts)


@dataclass(frozen=True)
class ApiAddress:
    """The address at which clients reach the API."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """The base URL; IPv6 addresses stand in brackets."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


class Supervisor:
    """The parent of all processes of one machine; it runs in the foreground until it is asked to stop."""

    def __init__(self, plan: SupervisorPlan, say: Callable[[str], None], banner: Callable[[ApiAddress], str]) -> None:
        """Prepare a supervisor; nothing is started yet.

        Args:
            say: prints one line for the person at the terminal.
            banner: returns the text that is printed once everything is ready.
        """
        self._plan, self._say, self._banner = plan, say, banner
        self._shutdown = Shutdown()
        self._children: dict[str, RestartingChild] = {}
        self._workers = dict(_workers(plan))
        self._ready_pipes = {name: ReadyPipe() for name in (*self._workers, "outbox")}
        self._probes: dict[str, LivenessProbe] = {}

    def run(self) -> None:
        """Serve until SIGINT, SIGTERM or SIGHUP; all children have ended when it returns or raises.

        Raises:
            StartError: if the service cannot be started, or a child cannot be kept running.
        """
        binary = find_redis(self._plan.redis_bin)
        with (
            DataDirLock(self._plan.data_dir),
            listen(self._plan.host, self._plan.port) as server,
            self._shutdown.on_signals(signal.SIGHUP),
        ):
            address = ApiAddress(self._plan.host, int(server.getsockname()[1]))
            environment = self._environment(address)
            try:
                self._start_redis(binary)
                self._check_access()
                api = self._start_api(server, address, environment)
                if self._plan.delivers:
                    # Before the workers: a new sink gets the events from its start on, so it must stand before the
                    # first inspection ends.
                    self._say("starting the outbox")
                    self._start_probed(
                        "outbox", "service.outbox.main", {**environment, **self._plan.outbox_environment}
                    )
                for name, worker_environment in self._workers.items():
                    self._say(f"starting the {name} (it loads and warms the models)")
                    self._start_probed(name, "service.worker.main", {**HUGE_PAGES, **environment, **worker_environment})
                self._await_api(api, address)  # it has started beside the others
                self._say(self._banner(address))
                self._watch()
            except StopRequested:
                self._say("stopping; a second Ctrl-C stops at once")
            finally:
                server.close()  # from here on new connections are refused; they would wait for an API that has gone
                self._drain()

    def _environment(self, address: ApiAddress) -> dict[str, str]:
        return {
            **self._plan.environment,
            "GLAD_DATA_DIR": str(self._plan.data_dir),
            "GLAD_REDIS_URL": redis_url(socket_path(self._plan.data_dir)),
            "GLAD_HOST": address.host,
            "GLAD_PORT": str(address.port),
            "GLAD_WORKER_HOST": self._plan.worker_host,
        }

    def _start_redis(self, binary: Path) -> None:
        path = socket_path(self._plan.data_dir)
        stop_orphan(path)
        log_file = self._plan.data_dir / "redis" / "redis.log"
        command = redis_command(binary, self._plan.data_dir, path)
        child = Child("Redis", command, env=self._plan.environment, log=log_file)
        probing = self._plan.timeouts.probing
        probe = LivenessProbe(lambda: redis_lives(path, probing.timeout_s), probing, from_first_answer=True)
        # A Redis that cannot write ends, and its log lies on the same disk: the last lines may be missing there.
        restarting = self._add_child(
            "redis",
            child,
            child.start,
            probe,
            lambda: {"its_log": str(log_file), "disk_free_bytes": shutil.disk_usage(self._plan.data_dir).free},
        )
        self._say(f"starting Redis ({binary})")
        deadline = time.monotonic() + self._plan.timeouts.redis_start_s
        while not redis_answers(path):
            if child.exit_status is not None or time.monotonic() > deadline:
                raise StartError(f"Redis did not start; the end of {log_file}:\n{_tail(log_file)}")
            self._poll_children()
        restarting.succeeded = True

    def _check_access(self) -> None:
        with connect(redis_url(socket_path(self._plan.data_dir))) as client:
            check_may_start(self._plan.auth, self._plan.host, client)

    def _start_api(self, server: socket.socket, address: ApiAddress, environment: Mapping[str, str]) -> RestartingChild:
        child = Child("API", child_command("service.api.server"), env=environment)
        fd, probing = server.fileno(), self._plan.timeouts.probing
        probe = LivenessProbe(
            lambda: is_alive(address.host, address.port, timeout_s=probing.timeout_s), probing, from_first_answer=True
        )
        restarting = self._add_child("api", child, lambda: child.start("--fd", str(fd), pass_fds=(fd,)), probe)
        self._say(f"starting the API at {address.url}")
        return restarting

    def _await_api(self, restarting: RestartingChild, address: ApiAddress) -> None:
        while not is_alive(address.host, address.port, timeout_s=2.0):
            self._poll_children()
        restarting.succeeded = True

    def _start_probed(self, name: str, module: str, environment: Mapping[str, str]) -> None:
        """Start a child that reports when it is ready and whose health port is probed, and wait until it is ready."""
        child, pipe = Child(name, child_command(module), env=environment), self._ready_pipes[name]

        def start() -> None:
            with pipe.writer() as fd:
                child.start("--ready-fd", str(fd), pass_fds=(fd,))

        restarting = self._add_child(
            name, child, start, LivenessProbe.of_port(self._plan.worker_host, pipe, self._plan.timeouts.probing)
        )
        while not pipe.poll():
            self._poll_children()
        restarting.succeeded = True

    def _add_child(
        self,
        name: str,
        child: Child,
        start: Callable[[], None],
        probe: LivenessProbe,
        describe_end: Callable[[], Mapping[str, object]] = dict,
    ) -> RestartingChild:
        def start_probed() -> None:
            probe.started(time.monotonic())
            start()

        restarting = RestartingChild(
            child, start_probed, self._plan.backoff, self._plan.timeouts.starts_without_success, describe_end
        )
        self._children[name], self._probes[name] = restarting, probe
        restarting.poll(time.monotonic())
        return restarting

    def _poll_children(self) -> None:
        self._shutdown.wait(POLL_S)
        if self._shutdown.draining():
            raise StopRequested
        for restarting in self._children.values():
            restarting.poll(time.monotonic())
        for name, probe in self._probes.items():
            self._kill_if_stuck(self._children[name].child, probe)

    def _kill_if_stuck(self, child: Child, probe: LivenessProbe) -> None:
        """Kill a child that no longer answers, answers that it is stuck, or never opens its port.

        It has ended then, and the next poll restarts it as after any other end.
        """
        reason = probe.check(time.monotonic()) if child.running else None
        if reason is not None:
            log.error(f"{child.name} is stuck and will be killed", reason=reason)
            child.kill()

    def _watch(self) -> None:
        """Keep the children running until a stop is requested."""
        while True:
            self._poll_children()

    def _drain(self) -> None:
        """Stop the children in order: API, workers, outbox, Redis. Images that are not begun stay queued in Redis.

        The workers follow the API, so nothing new arrives while they finish; the outbox follows the workers, so it
        delivers their last events; all of them need Redis to the end.
        """
        timeouts = self._plan.timeouts
        for names, seconds in (
            (("api",), timeouts.api_drain_s),
            (tuple(self._workers), timeouts.worker_drain_s + timeouts.hand_back_s),
            (("outbox",), timeouts.outbox_drain_s),
            (("redis",), timeouts.redis_drain_s),
        ):
            self._stop([self._children[name].child for name in names if name in self._children], seconds)
        for pipe in self._ready_pipes.values():
            pipe.close()

    def _stop(self, children: Sequence[Child], seconds: float) -> None:
        """Stop these children at the same time: SIGTERM, a second SIGTERM if the user hurries, SIGKILL in the end."""
        for child in children:
            child.signal(signal.SIGTERM)
        hurried, deadline = False, time.monotonic() + seconds
        while running := [child for child in children if not child.wait(POLL_S)]:
            if time.monotonic() > deadline:
                log.warning("child does not stop and is killed", child=", ".join(child.name for child in running))
                break
            if self._shutdown.must_stop_now() and not hurried:
                hurried = True  # to a worker a second SIGTERM means: hand unfinished images back now
                for child in running:
                    child.signal(signal.SIGTERM)
                deadline = min(deadline, time.monotonic() + self._plan.timeouts.hand_back_s)
        for child in children:
            child.kill()


@contextmanager
def listen(host: str, port: int) -> Iterator[socket.socket]:
    """Yield a listening TCP socket; port 0 takes any free port.

    Raises:
        StartError: if the address cannot be used; the message names the setting to change.
    """
    if not 0 <= port <= 65535:
        raise StartError(f"port is {port}; it must be 0 to 65535: set --port or GLAD_PORT (0 takes any free one)")
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise StartError(f"host {host!r} is not an address to listen on ({error}): set --host or GLAD_HOST") from error
    family, kind, protocol, _, address = addresses[0]
    with socket.socket(family, kind, protocol) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(address)
            server.listen(2048)
        except OSError as error:
            raise StartError(_describe_bind_error(host, port, error)) from error
        yield server


def _describe_bind_error(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use: choose another with --port or GLAD_PORT (0 takes any free one)"
    if error.errno == errno.EACCES:
        return f"port {port} on {host} needs more rights: choose one from 1024 up with --port or GLAD_PORT"
    return f"cannot listen on {host}, port {port}: {error.strerror}. Set --host and --port"


def child_command(module: str) -> list[str]:
    """Return the command that runs a module of ours in this Python.

    -P: without it the working folder comes first on Python's path, and a user's own package `service` there is run.
    """
    return [sys.executable, "-P", "-m", module]


def _workers(plan: SupervisorPlan) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the name of each worker, and the variables that only its environment has."""
    for index, pool in enumerate(plan.pools):
        name = "worker" if len(plan.pools) == 1 else f"worker of pool {pool}"
        port = plan.worker_port + index if plan.worker_port else 0
        yield name, {"GLAD_POOL": pool, "GLAD_WORKER_PORT": str(port)}


def _tail(path: Path, lines: int = 12) -> str:
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return "(no log)"
