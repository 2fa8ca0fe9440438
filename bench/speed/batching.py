"""`glad bench batching`: continuous, static and dynamic batching on a worker's own device loop, beside each other.

*Continuous*: an image takes a lane as soon as one is free, and leaves it when its own steps are done. *Static*: waiting
images start together, up to the number of lanes, and all get their verdicts when the last of them has made its steps.
*Dynamic* is static, but a batch that is not full waits a little for more.

The models' calls are real, and timed; the clock of the arrivals is not: it moves by what the calls took, and jumps over
the time in which nothing waits. So nobody sleeps, and what is compared is the policies alone: no HTTP, no pictures, no
decoding, which codec threads do beside the device.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from matplotlib.figure import Figure

from bench.support.device_cost import settle
from bench.support.open_loop import Latency, latency
from bench.support.worker_parts import WorkerParts, worker_parts
from model_store.manifest import Verdict
from service.worker.picture_codec import PreparedInspection
from training.progress import Progress

Answer = TypeVar("Answer")

SEED = 20261129


@dataclass(frozen=True)
class BatchingPlan:
    """What to compare."""

    loads: tuple[float, ...]
    """Shares of the rate that continuous batching keeps when images always wait."""
    lanes: int
    images: int
    """Arrivals of each load."""
    wait_s: float
    """How long a dynamic batch that is not full waits for more, from its first image's arrival."""
    device: str = "cpu"
    engine: str = "auto"


@dataclass(frozen=True)
class PolicyFigures:
    """One policy under one load."""

    policy: str
    load: float
    offered_per_s: float
    answered_per_s: float
    verdict: Latency
    """From arrival to the end of the score."""
    lanes_in_use: float | None
    """The mean number of lanes of a step; None: no image walked."""


@dataclass(frozen=True)
class BatchingFigures:
    """All policies under all loads."""

    engine: str
    lanes: int
    kept_per_s: float
    """Images a second of continuous batching when images always wait."""
    rows: tuple[PolicyFigures, ...]


@dataclass(eq=False)
class Device:
    """A runner whose calls move a clock by what they took."""

    parts: WorkerParts
    prepared: Sequence[PreparedInspection]
    device: torch.device
    now: float = 0.0
    in_use: list[int] = field(default_factory=list)
    """Lanes of each step."""

    def start(self, number: int) -> bool:
        """Start arrival n in a free lane; return whether it needs steps."""
        return self._timed(
            lambda: self.parts.runner.start_tile(str(number), self.prepared[number % len(self.prepared)])
        )

    def step(self, numbers: Sequence[int]) -> list[int]:
        """Step these images; return those that have made all their steps."""
        jobs = [str(number) for number in numbers]
        report = self._timed(lambda: self.parts.runner.step(self.parts.bundle.group, jobs))
        for error in report.failed.values():
            raise error
        if report.lanes:
            self.in_use.append(report.lanes)
        return [int(job) for job in report.finished]

    def finish(self, number: int) -> None:
        """Score an image, with its reconstruction where its verdict asks for pictures, and free its lane."""
        limits, runner = self.parts.bundle.manifest.thresholds, self.parts.runner
        self._timed(lambda: runner.finish(str(number), lambda score: limits.verdict(score) is not Verdict.PASS))
        runner.release(str(number))

    def _timed(self, call: Callable[[], Answer]) -> Answer:
        began = time.perf_counter()
        answer = call()
        settle(self.device)
        self.now += time.perf_counter() - began
        return answer


@dataclass(eq=False)
class Line:
    """Arrivals that wait for their turn."""

    due: Sequence[float]
    """When each arrival comes, ascending."""
    arrived: int = 0
    waiting: deque[int] = field(default_factory=deque)
    ended: dict[int, float] = field(default_factory=dict)

    @property
    def all_ended(self) -> bool:
        return len(self.ended) == len(self.due)

    @property
    def next_due(self) -> float:
        """Return when the next image comes; infinity after the last one."""
        return self.due[self.arrived] if self.arrived < len(self.due) else float("inf")

    def look(self, now: float) -> None:
        """Let everything wait that has come by now."""
        while self.next_due <= now:
            self.waiting.append(self.arrived)
            self.arrived += 1

    def end(self, numbers: Iterable[int], now: float) -> None:
        """Note that these images have their verdicts."""
        self.ended.update(dict.fromkeys(numbers, now))


def run_continuous(device: Device, line: Line, lanes: int) -> None:
    """Serve a line: images come and go one by one."""
    walking: list[int] = []

    def step(numbers: Sequence[int]) -> None:
        for number in device.step(numbers):
            walking.remove(number)
            device.finish(number)
            line.end([number], device.now)

    while not line.all_ended:
        line.look(device.now)
        if not walking and not line.waiting:
            device.now = line.next_due
            continue
        while line.waiting and len(walking) < lanes:
            walking.append(line.waiting.popleft())
            if not device.start(walking[-1]):
                step(walking[-1:])  # as in a worker, the verdict of a clear image waits for no other's steps
            line.look(device.now)
        if walking:
            step(walking)


def run_static(device: Device, line: Line, lanes: int, wait_s: float = 0.0) -> None:
    """Serve a line in batches: all images of one start together and get their verdicts together.

    Args:
        wait_s: how long a batch that is not full waits for more: dynamic batching.
    """
    while not line.all_ended:
        line.look(device.now)
        if not line.waiting:
            device.now = line.next_due
            continue
        closes = line.due[line.waiting[0]] + wait_s
        if len(line.waiting) < lanes and device.now < closes:
            device.now = min(closes, line.next_due)
            continue
        batch = [line.waiting.popleft() for _ in range(min(lanes, len(line.waiting)))]
        for number in batch:
            device.start(number)
        done: list[int] = []
        while len(done) < len(batch):
            done += device.step([number for number in batch if number not in done])
        for number in batch:
            device.finish(number)
        line.end(batch, device.now)


def measure_batching(bundle: Path, images: Sequence[bytes], plan: BatchingPlan, progress: Progress) -> BatchingFigures:
    """Return the figures of every policy under every load.

    Raises:
        BundleError, EngineUnusable: if the bundle cannot be loaded.
        ValueError: if an image has several tiles.
    """
    with worker_parts(bundle, plan.device, plan.engine, plan.lanes) as parts:
        prepared = [parts.prepare(data) for data in images]
        if any(len(one.framed.tiles) > 1 for one in prepared):
            raise ValueError("an image has several tiles under this bundle's framing; give one that is not tiled")
        place = torch.device(plan.device)
        run_continuous(Device(parts, prepared, place), Line([0.0] * plan.lanes), plan.lanes)  # warm
        full = Device(parts, prepared, place)
        run_continuous(full, Line([0.0] * plan.images), plan.lanes)
        kept = plan.images / full.now
        rows = []
        for number, load in enumerate(plan.loads):
            due = _arrivals(load * kept, plan.images, random.Random(SEED + number))
            for name in ("continuous", "static", "dynamic"):
                device, line = Device(parts, prepared, place), Line(due)
                if name == "continuous":
                    run_continuous(device, line, plan.lanes)
                else:
                    run_static(device, line, plan.lanes, plan.wait_s if name == "dynamic" else 0.0)
                rows.append(_figures(name, load, load * kept, line, device.in_use))
                progress("loads and policies", len(rows), 3 * len(plan.loads))
        return BatchingFigures(parts.bundle.engine, plan.lanes, kept, tuple(rows))


def _arrivals(rate: float, count: int, rng: random.Random) -> list[float]:
    due, now = [], 0.0
    for _ in range(count):
        now += rng.expovariate(rate)
        due.append(now)
    return due


def _figures(policy: str, load: float, rate: float, line: Line, in_use: Sequence[int]) -> PolicyFigures:
    waited = latency([line.ended[number] - due for number, due in enumerate(line.due)])
    assert waited is not None, "a line has at least one image"
    return PolicyFigures(
        policy=policy,
        load=load,
        offered_per_s=rate,
        answered_per_s=len(line.due) / (max(line.ended.values()) - line.due[0]),
        verdict=waited,
        lanes_in_use=sum(in_use) / len(in_use) if in_use else None,
    )


def plot_batching(found: BatchingFigures, name: str) -> Figure:
    """Return a figure: p50 (dashed) and p95 over the load, a colour for each policy."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for number, policy in enumerate(dict.fromkeys(row.policy for row in found.rows)):
        rows = [row for row in found.rows if row.policy == policy]
        loads, colour = [row.load for row in rows], f"C{number}"
        axes.plot(loads, [row.verdict.p95 for row in rows], color=colour, marker="o", label=f"{policy}, p95")
        axes.plot(loads, [row.verdict.p50 for row in rows], color=colour, linestyle="--", label=f"{policy}, p50")
    axes.set_yscale("log")
    axes.set_xlabel(f"load, in shares of {found.kept_per_s:.1f} images/s")
    axes.set_ylabel("ms from arrival to score")
    axes.set_title(f"{name} on {found.engine}, {found.lanes} lanes", fontsize="small")
    axes.legend(frameon=False, fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)
    return figure
