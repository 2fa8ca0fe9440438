"""The soak: an hour of steady work, and nothing may grow: no memory, no open files, in no process, nor in Redis.

A real `glad serve` (Redis, API, worker, outbox with an archive) with small limits, so that sweeps, trims and expiries
are at work all the time and what is stored reaches its plateau during the warm-up. The models are the toys of the
tests, so that a worker does thousands of inspections; only a checkout has those.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

from redis.exceptions import RedisError

from bench.endurance.soak_load import Line, Seen
from bench.support.flatness import Trend, Verdict, trend
from bench.support.process_watch import ProcessWatch, RedisSample, Sample
from bench.support.served import Service, served
from bench.support.toys import SMALL, toy_bundle

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How long, how fast, and what counts as growth."""

    minutes: float = 60.0
    rate: float = 1.0
    """Images per second."""
    warm_up: float = 0.25
    """Share of the time that is not judged: limits are reached, caches and pools filled."""
    sample_every_s: float = 5.0
    memory_mib_per_h: float = 4.0
    files_per_h: float = 1.0


@dataclass(frozen=True)
class Judged:
    """One quantity of one process."""

    process: str
    what: str
    trend: Trend


@dataclass(frozen=True)
class Report:
    """What came of it."""

    judged: tuple[Judged, ...]
    accepted: int
    lost: int
    told_twice: int
    counts: dict[str, int]
    seconds: float
    samples: tuple[Sample, ...]
    redis: tuple[RedisSample, ...]

    @property
    def sound(self) -> bool:
        """Nothing lost, and nothing grows."""
        return self.lost == 0 and all(one.trend.verdict is not Verdict.GROWS for one in self.judged)


def run(plan: Plan, folder: Path, say: Say) -> Report:
    """Runs the soak with a store in this folder. RuntimeError outside a checkout; NotServed."""
    bundle = toy_bundle(folder)
    with served(bundle, "torch", _settings()) as service:
        watch, line = ProcessWatch(service.pid, service.data_dir), _line(service, plan)
        load = threading.Thread(target=lambda: asyncio.run(line.run(plan.minutes * 60)), name="line")
        began = time.monotonic()
        load.start()
        samples, redis = _watch(watch, load, plan, line.seen, say)
        seconds = time.monotonic() - began
        watch.close()
    return report(plan, samples, redis, line.seen, seconds)


def _line(service: Service, plan: Plan) -> Line:
    seconds = plan.minutes * 60
    return Line(service.url, service.product, plan.rate, bursts_s=plan.warm_up * seconds)


def _settings() -> dict[str, str]:
    return {
        **SMALL,
        "GLAD_ARCHIVE": "true",
        "GLAD_ARCHIVE_EVERY_S": "20",
        "GLAD_SWEEP_EVERY_S": "30",
        "GLAD_RESULT_TTL_S": "600",
    }


def _watch(
    watch: ProcessWatch, load: threading.Thread, plan: Plan, seen: Seen, say: Say
) -> tuple[list[Sample], list[RedisSample]]:
    """Samples while the load runs."""
    began, told = time.monotonic(), 0.0
    samples: list[Sample] = []
    redis: list[RedisSample] = []
    while load.is_alive():
        at = time.monotonic() - began
        samples += watch.sample(at)
        try:
            redis.append(watch.redis(at))
        except RedisError as error:
            say(f"Redis did not answer: {error}")
        if at - told >= 60:
            told = at
            say(f"{at / 60:.0f} of {plan.minutes:g} min, {len(seen.accepted)} accepted, {_levels(samples)}")
        load.join(plan.sample_every_s)
    return samples, redis


def _levels(samples: Sequence[Sample]) -> str:
    latest = {one.process: one for one in samples}
    return ", ".join(f"{name} {one.memory_mib:.1f} MiB {one.files} files" for name, one in latest.items())


def report(plan: Plan, samples: Sequence[Sample], redis: Sequence[RedisSample], seen: Seen, seconds: float) -> Report:
    """Judges every series that was sampled to the end."""
    return Report(
        judged=(*_of_processes(plan, samples, seconds), *_of_redis(plan, redis, seconds)),
        accepted=len(seen.accepted),
        lost=seen.lost,
        told_twice=seen.told_twice,
        counts=dict(seen.counts),
        seconds=round(seconds, 1),
        samples=tuple(samples),
        redis=tuple(redis),
    )


def _of_processes(plan: Plan, samples: Sequence[Sample], seconds: float) -> list[Judged]:
    warm_up_s, found = plan.warm_up * seconds, []
    for process, rows in groupby(sorted(samples, key=lambda one: (one.process, one.at_s)), lambda one: one.process):
        ones = list(rows)
        at = [one.at_s for one in ones]
        for what, values, bound in (
            ("memory, MiB", [one.memory_mib for one in ones], plan.memory_mib_per_h),
            ("open files", [float(one.files) for one in ones], plan.files_per_h),
            ("threads", [float(one.threads) for one in ones], plan.files_per_h),
        ):
            found.append(Judged(process, what, trend(at, values, warm_up_s=warm_up_s, bound=bound)))
    return found


def _of_redis(plan: Plan, samples: Sequence[RedisSample], seconds: float) -> list[Judged]:
    at, warm_up_s = [one.at_s for one in samples], plan.warm_up * seconds
    used = trend(at, [one.used_mib for one in samples], warm_up_s=warm_up_s, bound=plan.memory_mib_per_h)
    return [Judged("Redis, by INFO", "memory, MiB", used)]


def as_figures(plan: Plan, found: Report) -> dict[str, object]:
    """For JSON: verdicts in words; series as columns, each twelfth sample."""
    told = [{**asdict(one), "verdict": one.trend.verdict.value} for one in found.judged]
    kept = {"accepted": found.accepted, "lost": found.lost, "told_twice": found.told_twice, "counts": found.counts}
    series = {
        process: [
            [round(one.at_s), round(one.memory_mib, 2), one.files, one.threads, round(one.cpu_s, 1)]
            for one in [row for row in found.samples if row.process == process][::12]
        ]
        for process in sorted({one.process for one in found.samples})
    }
    redis = [[round(one.at_s), round(one.used_mib, 3), one.keys, one.events] for one in found.redis[::12]]
    return {
        "plan": asdict(plan),
        **kept,
        "seconds": found.seconds,
        "judged": told,
        "series_columns": ["s", "MiB", "files", "threads", "cpu s"],
        "series": series,
        "redis_columns": ["s", "used MiB", "keys", "events"],
        "redis": redis,
    }
