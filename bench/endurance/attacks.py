"""Misuse by one client, and what the others notice: a camera with a key of its own, the probes, the pod's memory.

A real `glad serve` (Redis, API, worker, outbox) with keys and the shipped limits runs one attack after the other, each
from a process of its own. Meanwhile an honest camera posts from another address and follows its results. Promised are
four things: none of its images is refused or lost; none is accepted so late that a client would try again; no probe
fails as often as a cluster acts on; the API with its decoders stays within the memory of its pod on Kubernetes. The
models are the toys of the tests; only a checkout has those.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import psutil

from bench.endurance.attack_kinds import ATTACKS
from bench.endurance.attacker import Target, attack_for
from bench.endurance.checkout import toy_bundle
from bench.endurance.honest_camera import PROBED, CameraTally, HonestCamera, ProbeTally, probe
from bench.endurance.soak_load import IMAGES, jpegs
from bench.support.process_watch import MIB, family_bytes, role
from bench.support.servers import RunningService, served
from service.auth.api_keys import REFRESH_S, KeyStore
from service.auth.scopes import Scope
from service.host.private_redis import redis_url, socket_path
from service.queue.connection import connect

SAMPLE_EVERY_S = 0.1
LONGEST_ACCEPT_S = 10.0
"""One attempt of the Python client waits so long."""
NOBODY = "nobody"
"""The name of the first run, in which nobody misuses the service."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class AttackPlan:
    """Which attacks, for how long each, and how often the camera posts."""

    attacks: tuple[str, ...] = tuple(ATTACKS)
    seconds: float = 20.0
    camera_every_s: float = 0.6


@dataclass(frozen=True)
class AttackOutcome:
    """One attack, and what the others noticed of it."""

    attack: str
    tries: dict[str, int]
    """What the attacker was answered -> how often."""
    camera: CameraTally
    probes: dict[str, ProbeTally]
    peak_mib: float
    """Of the API with its decoders, each page that they share counted once."""
    restarted: bool
    """Whether the API or the worker was started again."""

    @property
    def what(self) -> str:
        """The attack in words."""
        return NOBODY if self.attack == NOBODY else ATTACKS[self.attack].what

    def broken_promises(self, limit_mib: float) -> tuple[str, ...]:
        """Return what was promised and did not hold."""
        camera, restarted = self.camera, "the API or the worker was started again" if self.restarted else ""
        failing = [(path, one.in_a_row) for path, one in self.probes.items() if one.in_a_row >= PROBED[path]]
        found = [restarted, *(f"{path} failed {times} times in a row" for path, times in failing)]
        if camera.refused:
            found.append("the camera was refused: " + ", ".join(f"{n} x {why}" for why, n in camera.refused.items()))
        if camera.slowest_accept_s > LONGEST_ACCEPT_S:
            found.append(
                f"an image was accepted after {camera.slowest_accept_s:.0f} s; a client waits {LONGEST_ACCEPT_S:.0f} s"
            )
        if camera.lost:
            found.append(f"{camera.lost} of the camera's images have no verdict")
        if self.peak_mib > limit_mib:
            found.append(f"the API took {self.peak_mib:.0f} MiB; its pod has {limit_mib:.0f}")
        return tuple(filter(None, found))


@dataclass(frozen=True)
class AttackReport:
    """All attacks of a run."""

    outcomes: tuple[AttackOutcome, ...]
    limit_mib: float
    """What the API's pod has on Kubernetes."""

    @property
    def broken_promises(self) -> dict[str, tuple[str, ...]]:
        """Attack -> what was promised and did not hold."""
        found = {one.attack: one.broken_promises(self.limit_mib) for one in self.outcomes}
        return {attack: broken for attack, broken in found.items() if broken}


def run_attacks(plan: AttackPlan, folder: Path, say: Say) -> AttackReport:
    """Serve a toy product from this folder, attack it, and return the report.

    Raises:
        ValueError: if there is no attack of a name.
        NotServed: if the service does not start.
    """
    if unknown := [name for name in plan.attacks if name not in ATTACKS]:
        raise ValueError(f"there is no attack {', '.join(unknown)}: choose of {', '.join(ATTACKS)}")
    settings = {"GLAD_DEVICE": "cpu", "GLAD_TORCH_THREADS": "1", "GLAD_AUTH": "keys", "GLAD_ARCHIVE": "true"}
    from tests.support.manifests import pod_memory_bytes

    limit_mib = pod_memory_bytes("glad-api") / MIB
    outcomes = []
    with served(toy_bundle(folder), "torch", settings) as service, _attacker_process() as attacker:
        scene = _Scene(service, *_target_and_key(service), attacker, plan)
        for name in (NOBODY, *plan.attacks):
            outcome = asyncio.run(scene.play(name))
            outcomes.append(outcome)
            say(f"{name}: {'; '.join(outcome.broken_promises(limit_mib)) or 'all promises kept'}")
    return AttackReport(tuple(outcomes), limit_mib)


@contextmanager
def _attacker_process() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield pool


def _target_and_key(service: RunningService) -> tuple[Target, str]:
    """Return the target, with keys of the attacker, and the camera's own key."""
    client = connect(redis_url(socket_path(service.data_dir)))
    store = KeyStore(client)
    key, camera = (store.create(name, [Scope.SUBMIT, Scope.READ]) for name in ("attacker", "camera"))
    read_key = store.create("reader", [Scope.READ])
    client.close()
    time.sleep(2 * REFRESH_S)  # from then on they are in force
    images = str(service.data_dir / "artifacts")
    ports = tuple(_health_ports(psutil.Process(service.pid)))
    return Target(service.url, service.product, key, read_key, ports, images), camera


def _health_ports(supervisor: psutil.Process) -> Iterator[int]:
    """Yield the port at which each worker and outbox listens."""
    for child in supervisor.children():
        if role(child, supervisor) in {"worker", "outbox"}:
            yield from (one.laddr.port for one in child.net_connections("tcp") if one.status == psutil.CONN_LISTEN)


@dataclass(frozen=True)
class _Scene:
    """A service, its attacker and its honest camera."""

    service: RunningService
    target: Target
    camera_key: str
    attacker: ProcessPoolExecutor
    plan: AttackPlan

    async def play(self, name: str) -> AttackOutcome:
        """Let the attack happen while the camera posts and the probes ask; return what came of it."""
        service, over, before = self.service, asyncio.Event(), _pids(self.service)
        camera = HonestCamera(service.url, service.product, self.camera_key, jpegs(IMAGES, 0), self.plan.camera_every_s)
        with _memory_watched(before["API"]) as memory:
            async with asyncio.TaskGroup() as group:
                shots = group.create_task(camera.work(over))
                probes = {path: group.create_task(probe(service.url, path, over)) for path in PROBED}
                tries = await self._attack(name)
                over.set()
        return AttackOutcome(
            attack=name,
            tries=dict(tries),
            camera=shots.result(),
            probes={path: task.result() for path, task in probes.items()},
            peak_mib=round(max(memory) / MIB, 1),
            restarted=_pids(service) != before,
        )

    async def _attack(self, name: str) -> Counter[str]:
        if name == NOBODY:
            await asyncio.sleep(self.plan.seconds)
            return Counter()
        loop, kind = asyncio.get_running_loop(), ATTACKS[name]
        return await loop.run_in_executor(self.attacker, attack_for, kind.run, self.target, self.plan.seconds)


def _pids(service: RunningService) -> dict[str, int]:
    """Return what runs beside the supervisor -> its process."""
    supervisor = psutil.Process(service.pid)
    return {role(child, supervisor): child.pid for child in supervisor.children()}


@contextmanager
def _memory_watched(pid: int) -> Iterator[Sequence[int]]:
    """Yield a list that grows while the block lasts: bytes of this process with its children."""
    found, over = [family_bytes(pid)], threading.Event()

    def sample() -> None:
        while not over.wait(SAMPLE_EVERY_S):
            found.append(family_bytes(pid))

    watch = threading.Thread(target=sample, name="memory")
    watch.start()
    try:
        yield found
    finally:
        over.set()
        watch.join()
