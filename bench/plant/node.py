"""One node: the worker's own engine, scheduler, lease keeper and queue, on a device and threads that only take time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from bench.plant.device import SimulatedBundles, SimulatedRunner, Spent
from bench.plant.parts import PartOf
from bench.plant.steps import StepTimes
from bench.plant.threads import Ended, SimulatedThreads
from bench.plant.timeline import LocalClock, Timeline
from bench.plant.virtual_redis import VirtualRedis
from service.host.shutdown import Stop
from service.queue.claims import ClaimedJob
from service.queue.jobs import JobQueue
from service.telemetry.metrics.worker import WorkerMetrics
from service.worker.engine import Engine
from service.worker.heartbeat import Pulse
from service.worker.lease_keeper import LeaseKeeper
from service.worker.scheduler import Scheduler

STUCK_AFTER_S = 300.0
STANDSTILL = 1000
"""Rounds without any time passing: then the simulation itself has gone wrong."""


@dataclass(frozen=True)
class NodeSettings:
    """As the GLAD_* settings of the same names."""

    lanes: int
    decode_buffer: int = 2
    codec_threads: int = 2
    max_bundles: int = 4
    lease_ms: int = 30_000


@dataclass
class Board:
    """What one pool's queue has: jobs that no living node holds. Where there are none, looking would find none."""

    waiting: int = 0


class PatientQueue:
    """The queue as the engine claims from it. It cannot wait in virtual time, so it says that it would have waited."""

    def __init__(self, queue: JobQueue, board: Board, spent: Spent) -> None:
        self._queue, self._board, self._spent = queue, board, spent
        self.patience_s = 0.0
        """How long the last claim would have waited for a job; 0: it had one, or would not have waited."""

    def claim(
        self, count: int, block_ms: int = 0, *, idle: bool = True, wanted: Callable[[], bool] = lambda: True
    ) -> list[ClaimedJob]:
        """As `JobQueue.claim`, without the waiting, and without asking Redis for what it cannot have."""
        found = self._queue.claim(count, 0, idle=idle, wanted=wanted) if self._board.waiting else []
        self._spent.claims += bool(found)
        self._spent.choices += 0 < len(found) < self._board.waiting
        self._board.waiting -= len(found)
        self.patience_s = 0.0 if found else block_ms / 1000
        return found


class Node:
    """A worker process on a machine. Lost, it stops in the middle of what it did, and says nothing."""

    def __init__(
        self,
        name: str,
        pool: str,
        settings: NodeSettings,
        times: StepTimes,
        groups: dict[str, str],
        *,
        timeline: Timeline,
        client: VirtualRedis,
        board: Board,
        part_of: PartOf,
        ended: Ended,
        came_back: Callable[[str], None],
    ) -> None:
        """`came_back`: told the pool when jobs may have come back to its queue."""
        self._board = board
        self.name, self.pool, self.spent, self.alive = name, pool, Spent(), True
        self._settings, self._timeline, self._came_back = settings, timeline, came_back
        self._clock = LocalClock(timeline.now)
        self._queue = JobQueue(client, pool, name, lease_ms=settings.lease_ms)
        self._patient = PatientQueue(self._queue, board, self.spent)
        metrics = WorkerMetrics(CollectorRegistry())
        self._leases = LeaseKeeper(self._queue, metrics)
        threads = SimulatedThreads(
            self._queue,
            times,
            settings.codec_threads,
            clock=self._clock,
            timeline=timeline,
            part_of=part_of,
            alive=lambda: self.alive,
            ended=ended,
        )
        self._bundles = SimulatedBundles(times, settings.max_bundles, self._clock, self.spent, groups)
        ahead = settings.lanes + settings.decode_buffer
        self._engine = Engine(
            jobs=self._patient,
            runner=SimulatedRunner(times, settings.lanes, self._clock, self.spent),
            bundles=self._bundles,
            codecs=threads,
            scheduler=Scheduler(settings.lanes, settings.decode_buffer, leaving=ahead),
            leases=self._leases,
            metrics=metrics,
            pulse=Pulse(STUCK_AFTER_S, self._clock),
            stop=Stop(),
            clock=self._clock,
        )
        self._idle: object | None = None
        self._still = 0

    @property
    def idle(self) -> bool:
        """It waits in Redis for a job."""
        return self.alive and self._idle is not None

    @property
    def held(self) -> tuple[str, ...]:
        """The inspections that it believes to hold."""
        return tuple(claimed.id for claimed in self._queue.held)

    def start(self, first_renewal_s: float) -> None:
        """Warm and ready for jobs from now on. `first_renewal_s`: from now; nodes do not renew in step."""
        self._bundles.warm(self._queue.recently_served())
        self._timeline.at(self._timeline.now, self._round)
        self._timeline.at(self._timeline.now + first_renewal_s, self._renew)

    def lose(self) -> None:
        """Dies, with all that it held: nobody has that now."""
        self._board.waiting += len(self.held)
        self.alive, self._idle = False, None

    def wake(self) -> bool:
        """A job has come while it waited; True if it took one."""
        self._idle = None
        self._round()
        return not self.idle

    def _round(self) -> None:
        """One round of the engine, and when the next one is due."""
        if not self.alive:
            return
        self._clock.now, self._patient.patience_s = self._timeline.now, 0.0
        self._engine.round()
        spent = self._clock.now > self._timeline.now
        self._still = 0 if spent else self._still + 1
        if self._still > STANDSTILL:
            raise RuntimeError(f"{self.name} stands still at {self._timeline.now} s with {self._queue.held}")
        if spent or not self._patient.patience_s:
            self._timeline.at(self._clock.now, self._round)
        else:
            self._wait(self._patient.patience_s)

    def _wait(self, seconds: float) -> None:
        own = self._idle = object()

        def patience_ends() -> None:
            if self._idle is own:
                self._idle = None
                self._round()

        self._timeline.at(self._timeline.now + seconds, patience_ends)

    def _renew(self) -> None:
        if not self.alive:
            return
        self._leases.round()
        self._came_back(self.pool)
        self._timeline.at(self._timeline.now + self._settings.lease_ms / 3000, self._renew)
