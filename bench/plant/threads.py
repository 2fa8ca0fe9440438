"""A worker's codec threads in virtual time: as many at once as there are threads, each task as long as measured."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from bench.plant.parts import Decoded, Loaded, PartOf
from bench.plant.steps import StepTimes
from bench.plant.timeline import LocalClock, Timeline
from glad.lane import Lane
from service.contract import Failure, Findings, Result, State, Timings
from service.queue.claims import ClaimedJob
from service.queue.jobs import JobQueue
from service.worker.parts import Gone, Ready

Ended = Callable[[str, State], None]
"""Told the inspection and its end, when its result became the visible one."""


class SimulatedThreads:
    """As `service.worker.codec_threads.Codecs`. Results are written at their time on the plant's clock."""

    def __init__(
        self,
        queue: JobQueue,
        times: StepTimes,
        threads: int,
        *,
        clock: LocalClock,
        timeline: Timeline,
        part_of: PartOf,
        alive: Callable[[], bool],
        ended: Ended,
    ) -> None:
        self._queue, self._times, self._clock, self._timeline = queue, times, clock, timeline
        self._part_of, self._alive, self._ended = part_of, alive, ended
        self._free_at = [0.0] * threads
        self._inbox: list[tuple[float, int, Ready[Decoded] | Gone]] = []
        self._told = 0

    def hear(self, wait_s: float = 0.0) -> Ready[Decoded] | Gone | None:
        """The next thing that has happened; waits at most so long for one."""
        until = self._clock() + wait_s
        if self._inbox and self._inbox[0][0] <= until:
            when, _, message = heapq.heappop(self._inbox)
            self._clock.now = max(self._clock(), when)
            return message
        self._clock.now = until
        return None

    def prepare(self, claimed: ClaimedJob, bundle: Loaded, began_at: float) -> None:
        """Reads and decodes; ends in Ready: every image is fit for inspection."""
        decoded = Decoded(bundle, self._part_of(claimed.id).denoising_step)
        self._tell(self._task(self._times.decode_s), Ready(claimed, decoded))

    def conclude(self, claimed: ClaimedJob, prepared: Decoded, found: Lane, began_at: float) -> None:
        """Draws, stores, completes; ends in Gone."""
        result = Result.done(claimed.job, _findings(found), started_at=claimed.started_at, attempts=claimed.attempt)
        self._end(claimed, result, self._task(self._times.draw_s))

    def fail(self, claimed: ClaimedJob, failure: Failure, state: State = State.FAILED) -> None:
        """Ends without a verdict; ends in Gone."""
        result = Result.ended(claimed.job, state, failure, started_at=claimed.started_at, attempts=claimed.attempt)
        self._end(claimed, result, self._task(0.0))

    def retry_or_fail(self, claimed: ClaimedJob, failure: Failure) -> None:
        """Never asked: bundles are always there, and the device never fails."""
        raise RuntimeError(f"{claimed.id} cannot be tried again: {failure.detail}")

    def hand_back(self, claimed: ClaimedJob) -> None:
        """Never asked: nodes are lost, not stopped."""
        raise RuntimeError(f"{claimed.id} cannot be handed back")

    def let_go(self) -> None:
        """Never asked, likewise."""
        raise RuntimeError("a node cannot be stopped")

    def _end(self, claimed: ClaimedJob, result: Result, at: float) -> None:
        def write() -> None:
            if self._alive() and self._queue.complete(claimed, result):
                self._ended(claimed.id, result.state)

        self._timeline.at(at, write)
        self._tell(at, Gone(claimed))

    def _task(self, seconds: float) -> float:
        """When a task that is handed over now is done: the first free thread takes it."""
        at = max(self._clock(), heapq.heappop(self._free_at)) + seconds
        heapq.heappush(self._free_at, at)
        return at

    def _tell(self, at: float, message: Ready[Decoded] | Gone) -> None:
        heapq.heappush(self._inbox, (at, self._told, message))
        self._told += 1


def _findings(lane: Lane) -> Findings:
    """What a lane cost; what it showed is nobody's matter here."""
    return Findings(
        score=0.0,
        denoising_step=lane.denoising_step,
        unet_evaluations=lane.unet_evaluations,
        seed=lane.settings.noise_seed,
        timings_ms=Timings(queue=0, decode=0, encode=0, denoise=0, score=0, total=0),
    )
