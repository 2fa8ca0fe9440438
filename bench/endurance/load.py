"""Load: how many 200 KB images a second are accepted, how fast, and how fast a verdict comes.

Accepting is measured by itself (API and Redis, no worker) beside its ceilings, turn by turn with the same open-loop
client: a bare web server that reads the same body, Redis taking the same writes, the disk taking the same files. Then
the whole service with the toy worker of the tests, at rates up to and beyond what the worker does.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import psutil

from bench.endurance.checkout import toy_bundle
from bench.endurance.load_ladder import Step, highest, next_rate, take_step
from bench.endurance.load_targets import NO_LIMIT, posting, storing, submitting
from bench.endurance.soak_load import jpegs
from bench.support.open_loop import Latency, Send, latency
from bench.support.process_watch import role
from bench.support.servers import RunningService, own_redis, served, web_server
from service.host.private_redis import redis_url, socket_path
from service.queue import keys
from service.queue.connection import connect

PRODUCT = "toy"
IMAGES = 64
API, BARE, REDIS, DISK = "service", "bare web server", "Redis, same writes", "disk, same files"
Say = Callable[[str], None]


@dataclass(frozen=True)
class LoadPlan:
    """How long to measure, at which rates, and the limit below which a rate counts as taken."""

    rounds: int = 2
    step_s: float = 6.0
    p99_ms: float = 250.0
    """An accept rate passes if every image is accepted, and 99 of 100 within this."""
    verdict_rates: tuple[float, ...] = (0.5, 1.0, 2.0, 3.0, 4.0)
    verdict_s: float = 40.0
    settle_s: float = 60.0
    seed: int = 0


@dataclass(frozen=True)
class Verdicts:
    """The figures of the whole service at one rate."""

    step: Step
    ended: int
    """Accepted images that ended within the step and the time to settle."""
    result: Latency | None
    """From due to the end of the inspection."""


@dataclass
class LoadReport:
    """The figures of a measurement."""

    ladders: dict[str, list[list[Step]]] = field(default_factory=dict)
    """Target -> round -> steps."""
    verdicts: list[Verdicts] = field(default_factory=list)
    image_bytes: int = 0

    def highest(self, target: str, p99_ms: float) -> list[float]:
        """Return the highest rate that was taken, by round."""
        return [highest(steps, p99_ms) for steps in self.ladders[target]]


def run_load(plan: LoadPlan, folder: Path, say: Say) -> LoadReport:
    """Measure the load, and return the report.

    Raises:
        RuntimeError: if a server does not start.
    """
    bundle = toy_bundle(folder / "store")
    bench = _Bench(plan, folder, jpegs(IMAGES, plan.seed), say)
    report = LoadReport(image_bytes=sum(map(len, bench.images)) // IMAGES)
    for turn in range(plan.rounds):
        for target, steps in bench.accepting(turn).items():
            report.ladders.setdefault(target, []).append(steps)
    report.verdicts = bench.whole(bundle)
    return report


@dataclass(frozen=True)
class _Target:
    """A target that a ladder of rates is climbed on."""

    name: str
    opened: Callable[[], AbstractAsyncContextManager[Send]]
    processes: dict[str, psutil.Process]


@dataclass(frozen=True)
class _Bench:
    """A measurement under way."""

    plan: LoadPlan
    folder: Path
    images: Sequence[bytes]
    say: Say

    def accepting(self, turn: int) -> dict[str, list[Step]]:
        """Return a ladder for each target, with servers of their own."""
        with ExitStack() as stack:
            targets = self._targets(self.folder / f"round-{turn}", stack)
            return {target.name: asyncio.run(self._ladder(turn, target)) for target in targets}

    def _targets(self, folder: Path, stack: ExitStack) -> list[_Target]:
        from tests.support.line import make_job

        folder.mkdir()
        redis, alone = (stack.enter_context(own_redis()) for _ in range(2))
        environment = self._environment(folder, redis)
        api = stack.enter_context(web_server("service.api.server", environment, folder / "api.log"))
        bare = stack.enter_context(web_server("bench.endurance.load_targets", {}, folder / "bare.log"))
        path, job = f"/v1/products/{PRODUCT}/inspections", make_job(serial="SN-000123")
        of_api = {"API": psutil.Process(api.pid), "Redis": _redis_process(redis)}
        return [
            _Target(API, lambda: posting(api.url + path, self.images), of_api),
            _Target(BARE, lambda: posting(bare.url + path, self.images), {"server": psutil.Process(bare.pid)}),
            _Target(REDIS, lambda: submitting(alone, job), {"Redis": _redis_process(alone)}),
            _Target(DISK, lambda: storing(folder / "disk", self.images), {}),
        ]

    def _environment(self, folder: Path, redis_url: str) -> dict[str, str]:
        return {
            "GLAD_REDIS_URL": redis_url,
            "GLAD_STORE": str(self.folder / "store"),
            "GLAD_DATA_DIR": str(folder),
            "GLAD_LOG_LEVEL": "warning",
            "GLAD_MAX_BACKLOG": str(NO_LIMIT),
            "GLAD_MIN_FREE_BYTES": "0",
        }

    async def _ladder(self, turn: int, target: _Target) -> list[Step]:
        plan, rng, steps = self.plan, random.Random(self.plan.seed + turn), list[Step]()
        processes = {"client": psutil.Process(), **target.processes}
        async with target.opened() as send:
            await take_step(send, rate=4, seconds=1, rng=rng, processes=processes)  # connections open, caches filled
            while (rate := next_rate(steps, plan.p99_ms)) is not None:
                step, _ = await take_step(send, rate=rate, seconds=plan.step_s, rng=rng, processes=processes)
                steps.append(step)
                self.say(f"round {turn + 1}, {target.name}, {rate:g}/s: {step_line(step)}")
        return steps

    def whole(self, bundle: Path) -> list[Verdicts]:
        """Return the figures of the service with a worker, at each rate."""
        settings = {"GLAD_DEVICE": "cpu", "GLAD_TORCH_THREADS": "1", "GLAD_MIN_FREE_BYTES": "0"}
        with (
            served(bundle, "torch", settings) as service,
            connect(redis_url(socket_path(service.data_dir))) as events,
        ):
            return [asyncio.run(self._at_rate(rate, service, events)) for rate in self.plan.verdict_rates]

    async def _at_rate(self, rate: float, service: RunningService, events: Any) -> Verdicts:
        plan, rng = self.plan, random.Random(self.plan.seed)
        processes = {"client": psutil.Process()} | _children(service.pid)
        async with posting(f"{service.url}/v1/products/{service.product}/inspections", self.images) as send:
            step, shots = await take_step(send, rate=rate, seconds=plan.verdict_s, rng=rng, processes=processes)
        due = {one.answer.id: one.due for one in shots if one.answer is not None and one.answer.id is not None}
        ends = await asyncio.to_thread(_ends, events, set(due), plan.settle_s)
        self.say(f"with a worker, {rate:g}/s: {step_line(step)}; {len(ends)} ended")
        return Verdicts(step, len(ends), latency([at - due[name] for name, at in ends.items()]))


def step_line(step: Step) -> str:
    """Return a step as one line of text."""
    accept = f"p99 {step.accept.p99:.0f} ms" if step.accept else "none accepted"
    return f"{step.accepted} of {step.offered} accepted, {accept}, cores {step.cpu}"


def _ends(client: Any, wanted: set[str], settle_s: float) -> dict[str, float]:
    """Return when these inspections ended, in seconds since 1970 by Redis's clock; without those that did not."""
    deadline = time.monotonic() + settle_s
    while True:
        rows = cast("list[tuple[str, dict[str, str]]]", client.xrange(keys.EVENTS))
        found = {row["id"]: int(entry.split("-")[0]) / 1000 for entry, row in rows if row["id"] in wanted}
        if len(found) == len(wanted) or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


def _children(pid: int) -> dict[str, psutil.Process]:
    supervisor = psutil.Process(pid)
    return {role(child, supervisor): child for child in supervisor.children()}


def _redis_process(url: str) -> psutil.Process:
    with connect(url) as client:
        return psutil.Process(cast("dict[str, Any]", client.info("server"))["process_id"])
