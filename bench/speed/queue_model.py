"""A small model of the queue on SimPy: how long images wait, by the number of workers.

The model follows the worker's loop (claim, admit, step, finish) with the seconds that `glad bench steps` measured.
It leaves out bundle loads, the API, Redis, the network, priorities, deadlines, lost workers, images of several tiles,
and that codec threads take cores from the device. All workers serve one bundle.
"""

from __future__ import annotations

import math
import random
import statistics
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import simpy
from scipy.stats import t as student

from bench.speed.step_table import ComparisonCounts, StepTimes

PACE_COMPLETIONS = 20
"""The expected wait goes by the mean interval of about so many completions, as the service's admission does."""

Events = Generator[simpy.Event, Any, None]


@dataclass(frozen=True)
class QueueScenario:
    """Cameras that post, and workers that inspect.

    `decode_buffer`, `codec_threads`, `max_backlog` and `max_wait_s` are as the settings GLAD_*; None: no limit.
    """

    cameras: int
    takt_s: float
    """Seconds between two posts of a camera."""
    workers: int
    lanes: int
    seconds: float = 900.0
    """How long cameras post in a run. What is accepted by then is inspected to its end."""
    warm_up_s: float = 60.0
    """Images that are posted before do not count: the queue begins empty."""
    runs: int = 5
    """Independent runs, with the seeds `seed`, `seed` + 1 ..."""
    seed: int = 0
    poisson: bool = False
    """Gaps are exponential; otherwise normal around the takt."""
    jitter: float = 0.1
    """Standard deviation of a gap, in takts."""
    burst_share: float = 0.0
    """Share of the posts that are a burst."""
    burst_size: int = 8
    """Images of a burst, posted at the same moment."""
    defect_share: float = 0.02
    decode_buffer: int = 2
    codec_threads: int = 2
    max_backlog: int | None = None
    max_wait_s: float | None = None

    @property
    def images_per_s(self) -> float:
        """The arrival rate."""
        return self.cameras / self.takt_s * (1 + self.burst_share * (self.burst_size - 1))


@dataclass(frozen=True)
class QueueFigures:
    """The figures of a scenario. Times are seconds from the post to the stored verdict, over the images of all runs."""

    scenario: QueueScenario
    mean_s: float
    run_means_s: tuple[float, ...]
    """The mean of each run."""
    p50_s: float
    p95_s: float
    p99_s: float
    posted: int
    refused: int
    done: int
    """Accepted and ended by the moment at which cameras stop posting."""
    in_flight: int
    """Accepted and not ended by that moment: it grows with `seconds` where workers are too few."""
    utilisation: float
    """Share of the workers' time that their device was busy, while cameras posted."""

    @property
    def mean_error_s(self) -> float:
        """Half of the 95 % interval of the mean, by Student's t over the runs' means; infinite for one run."""
        count = len(self.run_means_s)
        spread = statistics.stdev(self.run_means_s) / math.sqrt(count) if count > 1 else math.inf
        return float(student.ppf(0.975, max(1, count - 1))) * spread


def simulate(times: StepTimes, counts: ComparisonCounts, scenario: QueueScenario) -> QueueFigures:
    """Run a scenario. The same scenario gives the same figures.

    Raises:
        ValueError: if more lanes are asked for than were measured together, or no image is posted after the warm-up.
    """
    times.step_s(scenario.lanes, 0)
    runs = [_Run(times, counts, scenario, scenario.seed + number) for number in range(scenario.runs)]
    for run in runs:
        run.play()
    took_s = [second for run in runs for second in run.took_s]
    if not took_s:
        raise ValueError(f"no image is accepted from {scenario.warm_up_s:g} to {scenario.seconds:g} s: simulate longer")
    p50, p95, p99 = (float(value) for value in np.percentile(took_s, (50, 95, 99)))
    return QueueFigures(
        scenario=scenario,
        mean_s=statistics.fmean(took_s),
        run_means_s=tuple(statistics.fmean(run.took_s) for run in runs if run.took_s),
        p50_s=p50,
        p95_s=p95,
        p99_s=p99,
        posted=sum(run.posted for run in runs),
        refused=sum(run.refused for run in runs),
        done=sum(run.done_at_end for run in runs),
        in_flight=sum(run.in_flight_at_end for run in runs),
        utilisation=sum(run.busy_s for run in runs) / (len(runs) * scenario.workers * scenario.seconds),
    )


@dataclass
class _Image:
    """An image in the model. Its worker counts the steps down."""

    posted_at: float
    comparisons_left: int
    steps_left: int


class _Run:
    """A run: the shared queue, and the counters."""

    def __init__(self, times: StepTimes, counts: ComparisonCounts, scenario: QueueScenario, seed: int) -> None:
        self.times, self.counts, self.scenario, self.seed = times, counts, scenario, seed
        self.posted = self.refused = self.done = self.done_at_end = self.in_flight_at_end = 0
        self.took_s: list[float] = []
        self.busy_s = self._done_at = 0.0
        self.env = simpy.Environment()
        self.waiting: deque[_Image] = deque()
        self.arrival = self.env.event()
        self._pace: deque[float] = deque(maxlen=PACE_COMPLETIONS)

    def play(self) -> None:
        """Let cameras post for `seconds`, count, and inspect what is left."""
        for camera in range(self.scenario.cameras):
            self.env.process(self._camera(random.Random(f"{self.seed} {camera}")))
        for _ in range(self.scenario.workers):
            self.env.process(_Worker(self).loop())
        self.env.run(until=self.scenario.seconds)
        self.done_at_end, self.in_flight_at_end = self.done, self._in_flight
        self.env.run()  # until no event is left: idle workers wait for an arrival that never comes

    def finish(self, image: _Image) -> None:
        """Count an image whose verdict is stored."""
        now = self.env.now
        if self._done_at > image.posted_at:  # it was here when the interval began: the queue was busy meanwhile
            self._pace.append(now - self._done_at)
        self._done_at = now
        self.done += 1
        if image.posted_at >= self.scenario.warm_up_s:
            self.took_s.append(now - image.posted_at)

    @property
    def _in_flight(self) -> int:
        return self.posted - self.refused - self.done

    def _camera(self, rng: random.Random) -> Events:
        takt_s, burst_share = self.scenario.takt_s, self.scenario.burst_share
        yield self.env.timeout(rng.expovariate(1 / takt_s) if self.scenario.poisson else rng.uniform(0, takt_s))
        while self.env.now < self.scenario.seconds:
            for _ in range(self.scenario.burst_size if rng.random() < burst_share else 1):
                self._post(self.counts.draw(rng, self.scenario.defect_share))
            gap = rng.expovariate(1) if self.scenario.poisson else max(0.1, rng.gauss(1, self.scenario.jitter))
            yield self.env.timeout(takt_s * gap)

    def _post(self, comparisons: int) -> None:
        self.posted += 1
        if self._is_full():
            self.refused += 1
            return
        self.waiting.append(_Image(self.env.now, comparisons, len(self.times.settings.grid)))
        self.arrival.succeed()
        self.arrival = self.env.event()

    def _is_full(self) -> bool:
        limits, backlog, pace_s = self.scenario, self._in_flight, statistics.fmean(self._pace or [0.0])
        too_many = limits.max_backlog is not None and backlog >= limits.max_backlog
        return too_many or (limits.max_wait_s is not None and backlog * pace_s > limits.max_wait_s)


class _Worker:
    """A worker as in `service.worker.engine`, with time in place of models."""

    def __init__(self, run: _Run) -> None:
        self._run, self._env, self._times = run, run.env, run.times
        self._codec = simpy.Resource(run.env, run.scenario.codec_threads)
        self._ready: deque[_Image] = deque()
        self._lanes: list[_Image] = []
        self._decoding, self._decoded = 0, run.env.event()

    def loop(self) -> Events:
        """Claim, admit, step, finish; wait only where there is nothing else to do."""
        while True:
            self._claim()
            while self._ready and len(self._lanes) < self._run.scenario.lanes:
                self._lanes.append(self._ready.popleft())
                yield from self._busy(self._times.encode_s)
            if not self._lanes:
                yield self._run.arrival | self._decoded
                continue
            comparing = sum(image.comparisons_left > 0 for image in self._lanes)
            yield from self._busy(self._times.step_s(len(self._lanes), comparing))
            for image in self._lanes:
                image.comparisons_left, image.steps_left = image.comparisons_left - 1, image.steps_left - 1
            for image in [one for one in self._lanes if one.steps_left == 0]:
                yield from self._busy(self._times.finish_s)
                self._lanes.remove(image)
                self._env.process(self._draw(image))

    def _claim(self) -> None:
        scenario, waiting = self._run.scenario, self._run.waiting
        room = scenario.lanes + scenario.decode_buffer - self._decoding - len(self._ready) - len(self._lanes)
        for _ in range(min(room, len(waiting))):
            self._decoding += 1
            self._env.process(self._decode(waiting.popleft()))

    def _busy(self, seconds: float) -> Events:
        # The part after the last post does not count for the utilisation.
        self._run.busy_s += max(0.0, min(seconds, self._run.scenario.seconds - self._env.now))
        yield self._env.timeout(seconds)

    def _decode(self, image: _Image) -> Events:
        with self._codec.request() as thread:
            yield thread
            yield self._env.timeout(self._times.decode_s)
        self._decoding -= 1
        self._ready.append(image)
        self._decoded.succeed()
        self._decoded = self._env.event()

    def _draw(self, image: _Image) -> Events:
        with self._codec.request() as thread:
            yield thread
            yield self._env.timeout(self._times.draw_s)
        self._run.finish(image)
