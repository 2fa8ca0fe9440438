"""The highest rate of arrivals that a target takes: rates rise until one is not taken, then close in."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from bench.support.open_loop import Arrival, Latency, Send, drive, latency

FIRST_RATE = 16.0
GROWTH = 1.5
HALVINGS = 2
MOST_STEPS = 14


@dataclass(frozen=True)
class Step:
    """The figures at one rate."""

    rate: float
    offered: int
    accepted: int
    refused: int
    failed: int
    accept: Latency | None
    """From due to accepted, of those that were."""
    lag: Latency | None
    """From due to sent: the client's own delay."""
    cpu: dict[str, float]
    """Cores in use, by process."""

    def passes(self, p99_ms: float) -> bool:
        """Whether everything was accepted, and in time."""
        return self.offered == self.accepted and self.accept is not None and self.accept.p99 <= p99_ms


async def take_step(
    send: Send, *, rate: float, seconds: float, rng: random.Random, processes: dict[str, psutil.Process]
) -> tuple[Step, list[Arrival]]:
    """Offer arrivals at this rate; return the step and its arrivals."""
    before, began = _cpu_s(processes), time.monotonic()
    shots = await drive(send, rate=rate, seconds=seconds, rng=rng)
    elapsed = time.monotonic() - began
    after = _cpu_s(processes)
    return step_of(rate, shots, {name: round((after[name] - before[name]) / elapsed, 2) for name in processes}), shots


def step_of(rate: float, shots: Sequence[Arrival], cpu: dict[str, float]) -> Step:
    """Return the counts and percentiles of these arrivals."""
    accepted = [one for one in shots if one.answer is not None and one.answer.accepted]
    refused = [one for one in shots if one.answer is not None and one.answer.refused]
    return Step(
        rate=rate,
        offered=len(shots),
        accepted=len(accepted),
        refused=len(refused),
        failed=len(shots) - len(accepted) - len(refused),
        accept=latency([one.latency_s for one in accepted]),
        lag=latency([one.sent - one.due for one in shots]),
        cpu=cpu,
    )


def next_rate(tried: Sequence[Step], p99_ms: float, first: float = FIRST_RATE) -> float | None:
    """Return the rate to try next, in whole arrivals; None once the highest one is known closely enough."""
    passed = max((one.rate for one in tried if one.passes(p99_ms)), default=0.0)
    missed = min((one.rate for one in tried if not one.passes(p99_ms)), default=None)
    if len(tried) >= MOST_STEPS:
        return None
    if missed is None:
        return round(passed * GROWTH) if tried else first
    middle = round((passed + missed) / 2)
    return float(middle) if _halvings(tried, p99_ms) < HALVINGS and passed < middle < missed else None


def highest(tried: Sequence[Step], p99_ms: float) -> float:
    """Return the highest rate that was taken; 0 if none was."""
    return max((one.rate for one in tried if one.passes(p99_ms)), default=0.0)


def _halvings(tried: Sequence[Step], p99_ms: float) -> int:
    """Return the number of steps since the first rate that was not taken."""
    first = next(place for place, one in enumerate(tried) if not one.passes(p99_ms))
    return len(tried) - 1 - first


def _cpu_s(processes: dict[str, psutil.Process]) -> dict[str, float]:
    return {name: sum(process.cpu_times()[:2]) for name, process in processes.items()}
