"""The engine: claim → admit → step → finish, in one thread that owns the device.

Between two steps, finished images leave and waiting ones enter; nothing ever waits for a batch to fill or to end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic

import structlog
import torch
from redis.exceptions import RedisError

from service.contract import Failure, State
from service.host.shutdown import Shutdown
from service.queue.claims import ClaimedJob
from service.telemetry.metrics.worker import WorkerMetrics
from service.worker.bundle_cache import BundleUnavailable
from service.worker.heartbeat import Heartbeat
from service.worker.lease_keeper import LeaseKeeper
from service.worker.parts import Bundle, Bundles, Device, Found, Image, Queue, Ready, Threads
from service.worker.runner import NotFinite
from service.worker.scheduler import Place, Scheduler

BLOCK_MS = 1000
"""How long an idle claim waits in Redis; also how soon an idle worker sees that it shall stop."""
HEAR_MS = 50
"""How long the engine listens to its codec threads when no lane is occupied."""
REDIS_AWAY_S = 0.5
LOOK_SHARE = 10
"""While lanes walk, looking for jobs in vain may take one part of so many of the engine's time: Redis may write a claim
to disk before it answers."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, eq=False)
class Guest(Generic[Image]):
    """A job in the house."""

    claimed: ClaimedJob
    began_at: float
    """The engine's clock at the claim, in seconds."""
    prepared: Image | None = None
    switching: bool = False
    """Its bundle was loaded for it, and it has not made a step yet."""

    def overdue(self, now: float) -> Failure | None:
        """Why it expires: its deadline has passed; None: it has not, or there is none. `now`: by the engine's clock."""
        deadline_ms = self.claimed.job.deadline_ms
        waited_ms = self.claimed.waited_ms + round((now - self.began_at) * 1000)
        if deadline_ms is None or waited_ms <= deadline_ms:
            return None
        detail = f"waited {waited_ms} ms for a lane; its deadline was {deadline_ms} ms after acceptance"
        return Failure(code="deadline_passed", detail=detail)


class Engine(Generic[Bundle, Image, Found]):
    """Runs until told to stop. An exception that is no single image's fault ends it, and with it the process."""

    def __init__(
        self,
        *,
        jobs: Queue,
        scheduler: Scheduler,
        runner: Device[Image, Found],
        bundles: Bundles[Bundle],
        codecs: Threads[Bundle, Image, Found],
        leases: LeaseKeeper,
        metrics: WorkerMetrics,
        pulse: Heartbeat,
        stop: Shutdown,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`clock`: seconds that only grow; that of the codec threads."""
        self._clock = clock
        self._jobs, self._scheduler, self._runner, self._bundles = jobs, scheduler, runner, bundles
        self._codecs, self._leases, self._metrics, self._pulse, self._stop = codecs, leases, metrics, pulse, stop
        self._guests: dict[str, Guest[Image]] = {}
        self._told = False
        self._look_again_at = 0.0

    def run(self) -> None:
        """Inspects until asked to stop; then finishes what has begun, or, asked twice or for too long, hands it
        back."""
        while not self._over():
            self.round()

    def round(self) -> None:
        """Claim, admit, one step, finish. Waits a moment only where nothing else is to be done."""
        self._claim()
        self._admit()
        finished = self._step()
        self._finish(finished)

    def _over(self) -> bool:
        """Asked to stop, and nobody is left in the house."""
        if not self._stop.draining():
            return False
        if not self._told:
            self._told = True
            log.info("draining", jobs=len(self._guests))
        return self._scheduler.empty

    def _claim(self) -> None:
        """Takes as many jobs as there is room for; waits for one only when there is nothing else to do."""
        room = 0 if self._stop.draining() else self._scheduler.room()
        at_work = self._scheduler.jobs((Place.PREPARING, Place.READY, Place.WALKING))
        if room == 0:
            if not at_work:  # waits for disk or Redis to take results: a new process could not do better
                self._pulse.claim_answered()
            return
        began = self._clock()
        if at_work and began < self._look_again_at:
            return
        patience_ms = 0 if at_work else BLOCK_MS if self._scheduler.empty else HEAR_MS
        try:
            claimed = self._jobs.claim(room, patience_ms, idle=self._scheduler.empty, should_stop=self._stop.draining)
        except (RedisError, OSError) as error:
            log.warning("no jobs: Redis is away", error=str(error))
            if not at_work:
                self._stop.wait(REDIS_AWAY_S)
            return
        self._pulse.claim_answered()
        ended = self._clock()
        self._look_again_at = ended if claimed else ended + (LOOK_SHARE - 1) * (ended - began)
        for one in claimed:
            self._welcome(one)

    def _welcome(self, claimed: ClaimedJob) -> None:
        """Has the bundle at hand, and the image decoded."""
        job = claimed.entry_id
        self._scheduler.claimed(job, alone=claimed.alone)
        self._guests[job] = Guest(claimed, self._clock())
        overdue = self._guests[job].overdue(self._clock())
        if overdue is not None:
            self._codecs.fail(claimed, overdue, State.EXPIRED)
            return
        if not self._bundles.holds(claimed.job.bundle_hash):
            self._guests[job] = replace(self._guests[job], switching=True)
        try:
            bundle = self._bundles.get(claimed.job.product, claimed.job.bundle_version, claimed.job.bundle_hash)
        except BundleUnavailable as error:
            self._codecs.retry_or_fail(claimed, _failure("bundle_unavailable", error))
            return
        self._codecs.prepare(claimed, bundle, self._guests[job].began_at)

    def _admit(self) -> None:
        """Hears what the codec threads and the leases say, and seats decoded images in free lanes."""
        self._hear()
        for job in self._leases.take_lost():
            self._leave(job)
        if self._stop.must_stop_now():
            self._hand_all_back()
        self._expire()
        for job in self._scheduler.admit():
            if self._scheduler.place(job) is not Place.WALKING:  # another of its tiles has just failed
                continue
            prepared = self._guests[job].prepared
            assert prepared is not None, "only decoded images are admitted"
            try:
                self._runner.admit(job, prepared)
            except Exception as error:
                self._fail(job, error)

    def _expire(self) -> None:
        """Whose deadline has passed while it waited for a lane takes none: nobody waits for it any more."""
        for job in self._scheduler.jobs((Place.READY,)):
            guest = self._guests[job]
            overdue = guest.overdue(self._clock())
            if overdue is not None:
                self._scheduler.left(job)
                self._codecs.fail(guest.claimed, overdue, State.EXPIRED)

    def _hear(self) -> None:
        """Takes in all messages; with nobody in a lane it waits a moment for one."""
        waiting = self._scheduler.jobs((Place.PREPARING, Place.LEAVING))
        idle = not self._scheduler.jobs((Place.READY, Place.WALKING))
        message = self._codecs.hear(HEAR_MS / 1000 if waiting and idle else 0)
        while message is not None:
            job = message.claimed.entry_id
            if isinstance(message, Ready):
                if self._scheduler.place(job) is Place.PREPARING:  # else it was lost or handed back meanwhile
                    self._guests[job] = replace(self._guests[job], prepared=message.prepared)
                    framed = message.prepared.framed
                    self._scheduler.prepared(job, message.prepared.bundle.group, len(framed.tiles))
            else:
                self._leave(job)
            message = self._codecs.hear()

    def _step(self) -> tuple[str, ...]:
        """One step of the group whose turn it is; returns the jobs that have walked all their way."""
        turn = self._scheduler.turn()
        self._metrics.set_lanes(self._scheduler.walking, self._scheduler.lanes)
        if turn is None:
            self._pulse.nobody_walks()
            return ()
        began = self._clock()
        stepped = self._runner.step(turn.group, turn.jobs)
        self._pulse.step_completed(lanes=stepped.size)
        self._metrics.observe_step(stepped.size, self._clock() - began)
        self._note_switches(turn.jobs)
        for job in stepped.freed:
            self._scheduler.freed(job)
        for job, error in stepped.failed.items():
            self._fail(job, error)
        return stepped.finished

    def _note_switches(self, jobs: Sequence[str]) -> None:
        """These have made a step: those that had to wait for their bundle tell how long that took."""
        for job in jobs:
            guest = self._guests[job]
            if guest.switching:
                self._guests[job] = replace(guest, switching=False)
                named = guest.claimed.job
                self._metrics.bundle_switched(named.product, named.bundle_version, self._clock() - guest.began_at)

    def _finish(self, finished: Sequence[str]) -> None:
        """Scores what has walked all its way, frees its lane, and passes it on to be drawn and stored."""
        for job in finished:
            guest = self._guests[job]
            assert guest.prepared is not None, "a lane's image was decoded before"
            try:
                found = self._runner.finish(job)
            except Exception as error:
                self._fail(job, error)
                continue
            self._runner.release(job)
            self._scheduler.left(job)
            self._codecs.conclude(guest.claimed, guest.prepared, found, guest.began_at)

    def _fail(self, job: str, error: Exception) -> None:
        """One image's failure: it never passes, and its neighbours never notice."""
        self._runner.release(job)
        self._runner.check_device()
        self._scheduler.left(job)
        claimed = self._guests[job].claimed
        match error:
            case NotFinite():
                self._codecs.fail(claimed, _failure("model_not_finite", error))
            case torch.OutOfMemoryError():
                self._codecs.retry_or_fail(claimed, _failure("device_out_of_memory", error))
            case _:
                log.error("model failed", inspection_id=claimed.id, exc_info=error)
                self._codecs.fail(claimed, _failure("model_error", error))

    def _leave(self, job: str) -> None:
        """The job is done with, or was never ours to finish."""
        self._runner.release(job)
        self._scheduler.gone(job)
        self._guests.pop(job, None)

    def _hand_all_back(self) -> None:
        """Asked to stop at once: whatever has no result yet goes back to the queue, and counts for nothing."""
        self._codecs.let_go()
        for job in self._scheduler.jobs((Place.PREPARING, Place.READY, Place.WALKING)):
            self._runner.release(job)
            self._scheduler.left(job)
            self._codecs.hand_back(self._guests[job].claimed)


def _failure(code: str, error: BaseException) -> Failure:
    return Failure(code=code, detail=(str(error) or type(error).__name__)[:1000])
