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

from matplotlib.figure import Figure
from redis.exceptions import RedisError

from bench.endurance.checkout import SMALL, toy_bundle
from bench.endurance.flatness import Trend, TrendVerdict, trend
from bench.endurance.soak_load import SoakLine, SoakTally
from bench.support.process_watch import ProcessSample, ProcessWatch, RedisSample
from bench.support.servers import RunningService, served
from training.html_page import as_png

Say = Callable[[str], None]


@dataclass(frozen=True)
class SoakPlan:
    """How long to work, how fast, and which slope counts as growth."""

    minutes: float = 60.0
    rate: float = 1.0
    """Images per second."""
    warm_up: float = 0.25
    """Share of the time that is not judged: limits are reached, caches and pools filled."""
    sample_every_s: float = 5.0
    memory_mib_per_h: float = 4.0
    files_per_h: float = 1.0


@dataclass(frozen=True)
class JudgedSeries:
    """The trend of one quantity of one process."""

    process: str
    what: str
    trend: Trend


@dataclass(frozen=True)
class SoakReport:
    """The figures of a soak."""

    judged: tuple[JudgedSeries, ...]
    accepted: int
    lost: int
    told_twice: int
    counts: dict[str, int]
    seconds: float
    samples: tuple[ProcessSample, ...]
    redis: tuple[RedisSample, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing is lost, and nothing grows."""
        return self.lost == 0 and all(one.trend.verdict is not TrendVerdict.GROWS for one in self.judged)


def run_soak(plan: SoakPlan, folder: Path, say: Say) -> SoakReport:
    """Run the soak with a store in this folder, and return the report.

    Raises:
        NotServed: if the service does not start.
    """
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


def _line(service: RunningService, plan: SoakPlan) -> SoakLine:
    seconds = plan.minutes * 60
    return SoakLine(service.url, service.product, plan.rate, bursts_s=plan.warm_up * seconds)


def _settings() -> dict[str, str]:
    return {
        **SMALL,
        "GLAD_ARCHIVE": "true",
        "GLAD_ARCHIVE_EVERY_S": "20",
        "GLAD_SWEEP_EVERY_S": "30",
        "GLAD_RESULT_TTL_S": "600",
    }


def _watch(
    watch: ProcessWatch, load: threading.Thread, plan: SoakPlan, seen: SoakTally, say: Say
) -> tuple[list[ProcessSample], list[RedisSample]]:
    """Return samples of all processes and of Redis, taken while the load runs."""
    began, told = time.monotonic(), 0.0
    samples: list[ProcessSample] = []
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


def _levels(samples: Sequence[ProcessSample]) -> str:
    latest = {one.process: one for one in samples}
    return ", ".join(f"{name} {one.memory_mib:.1f} MiB {one.files} files" for name, one in latest.items())


def report(
    plan: SoakPlan, samples: Sequence[ProcessSample], redis: Sequence[RedisSample], seen: SoakTally, seconds: float
) -> SoakReport:
    """Return the report, with a trend of every series that was sampled to the end."""
    return SoakReport(
        judged=(*_of_processes(plan, samples, seconds), *_of_redis(plan, redis, seconds)),
        accepted=len(seen.accepted),
        lost=seen.lost,
        told_twice=seen.told_twice,
        counts=dict(seen.counts),
        seconds=round(seconds, 1),
        samples=tuple(samples),
        redis=tuple(redis),
    )


def _of_processes(plan: SoakPlan, samples: Sequence[ProcessSample], seconds: float) -> list[JudgedSeries]:
    warm_up_s, found = plan.warm_up * seconds, []
    for process, rows in groupby(sorted(samples, key=lambda one: (one.process, one.at_s)), lambda one: one.process):
        ones = list(rows)
        at = [one.at_s for one in ones]
        for what, values, bound in (
            ("memory, MiB", [one.memory_mib for one in ones], plan.memory_mib_per_h),
            ("open files", [float(one.files) for one in ones], plan.files_per_h),
            ("threads", [float(one.threads) for one in ones], plan.files_per_h),
        ):
            found.append(JudgedSeries(process, what, trend(at, values, warm_up_s=warm_up_s, bound=bound)))
    return found


def _of_redis(plan: SoakPlan, samples: Sequence[RedisSample], seconds: float) -> list[JudgedSeries]:
    at, warm_up_s = [one.at_s for one in samples], plan.warm_up * seconds
    used = trend(at, [one.used_mib for one in samples], warm_up_s=warm_up_s, bound=plan.memory_mib_per_h)
    return [JudgedSeries("Redis, by INFO", "memory, MiB", used)]


def soak_figures(plan: SoakPlan, found: SoakReport) -> dict[str, object]:
    """Return the figures for JSON: verdicts in words; series as columns, each twelfth sample."""
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


def soak_plot(found: SoakReport, warm_up_s: float) -> bytes:
    """Return memory against its median after the warm-up, and open files, over time, as PNG."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    levels = {judged.process: judged.trend.first for judged in found.judged if judged.what.startswith("memory")}
    for process in sorted({one.process for one in found.samples}):
        rows = [one for one in found.samples if one.process == process]
        minutes = _minutes([one.at_s for one in rows])
        label = f"{process}, {levels[process]:.0f} MiB"
        upper.plot(minutes, [one.memory_mib - levels[process] for one in rows], label=label, linewidth=1)
        lower.plot(minutes, [one.files for one in rows], label=process, linewidth=1)
    for axis in (upper, lower):
        axis.axvspan(0, warm_up_s / 60, color="0.92", zorder=0)
        axis.grid(color="0.9", linewidth=0.5)
    upper.set_ylim(-15, 30)
    upper.set_ylabel("own memory, change in MiB")
    lower.set_ylabel("open files")
    lower.set_xlabel("minutes; grey: not judged")
    figure.legend(*upper.get_legend_handles_labels(), loc="outside upper center", ncols=5, frameon=False)
    return as_png(figure)


def _minutes(seconds: Sequence[float]) -> list[float]:
    return [one / 60 for one in seconds]
