"""The worker's loop: claim, admit, step, finish, in the one thread that owns the device.

Between two steps finished images leave and waiting images enter: no image waits for a batch to fill or to end.

One image in flight, from the claim to its result. `JobStage` (in `scheduler`) is where it stands; the columns are the
thread that holds it and the object in that thread's hands::

    stage      thread   object                             made by             ends when
    ---------  -------  ---------------------------------  ------------------  -----------------------------------------
    (claimed)  engine   ClaimedJob -> InFlight             JobQueue.claim      its bundle is loaded, see below
    DECODING   codec    PreparedInspection                 CodecThreads.decode message Decoded
    READY      engine   InFlight.image                     Decoded             a lane is free
    DENOISING  engine   DeviceJob, a TileSlot per lane     Runner.start_tile   all tiles are done -> DeviceResult
    STORING    codec    DeviceResult -> RenderedPictures   CodecThreads.store  message Finished
    (gone)     -        nothing                                                the result is stored, or handed back

    DECODING ---> READY ---> DENOISING ---> STORING ---> gone
        |           |            |             ^           ^
        |           +------------+-------------+           |   failed, deadline passed, handed back
        +--------------------------------------------------+   failed, unfit, or lost to another worker

The engine thread alone changes the scheduler, the runner and the table of `InFlight`. Codec threads answer by messages
(`Decoded`, `Finished`); the lease thread only names the claims that were lost. A bundle that is missing is loaded in a
thread of its own (`BundleLoaded`): its jobs wait as DECODING, those of other bundles go on.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import structlog
import torch
from redis.exceptions import RedisError

from service.contract import Failure, State
from service.host.shutdown import Shutdown
from service.queue.claims import ClaimedJob
from service.queue.jobs import JobQueue
from service.telemetry.metrics.worker import WorkerMetrics
from service.worker.bundle_cache import BundleCache, BundleLoaded, BundleUnavailable, PinnedBundle
from service.worker.bundle_loads import BundleLoads
from service.worker.codec_threads import CodecThreads, Decoded, Finished, failure_from_error
from service.worker.heartbeat import Heartbeat
from service.worker.lease_keeper import LeaseKeeper
from service.worker.picture_codec import PreparedInspection
from service.worker.runner import NotFinite, Runner
from service.worker.scheduler import JobStage, Scheduler

IDLE_CLAIM_MS = 1000
"""How long an idle claim waits in Redis; also how soon an idle worker notices that it shall stop."""
INBOX_WAIT_MS = 50
"""How long the engine waits for its codec threads when no lane is occupied."""
REDIS_RETRY_S = 0.5
"""Pause of an idle worker after a claim that Redis did not answer."""
CLAIM_TIME_SHARE = 10
"""While lanes are occupied, claims that find no job may take one part in this many of the engine's time: Redis may
write a claim to disk before it answers."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, eq=False)
class InFlight:
    """A claimed job that has no result yet, as the engine knows it."""

    claimed: ClaimedJob
    claimed_at: float
    """The engine's clock at the claim, in seconds."""
    image: PreparedInspection | None = None
    """None until it is decoded."""
    waits_for_bundle: bool = False
    """Its bundle was loaded for it, and it has not made a step yet."""

    def deadline_failure(self, now: float) -> Failure | None:
        """Return why the job expires, or None if its deadline has not passed or it has none.

        Args:
            now: the engine's clock, in seconds.
        """
        deadline_ms = self.claimed.job.deadline_ms
        if deadline_ms is None:
            return None
        waited_ms = self.claimed.waited_ms + round((now - self.claimed_at) * 1000)
        if waited_ms <= deadline_ms:
            return None
        detail = f"waited {waited_ms} ms for a lane; its deadline was {deadline_ms} ms after acceptance"
        return Failure(code="deadline_passed", detail=detail)


class Engine:
    """Inspects images until the process is asked to stop.

    An exception that is not the fault of a single image ends the loop, and with it the process.
    """

    def __init__(
        self,
        *,
        jobs: JobQueue,
        scheduler: Scheduler,
        runner: Runner,
        bundles: BundleCache,
        loads: BundleLoads,
        codecs: CodecThreads,
        leases: LeaseKeeper,
        metrics: WorkerMetrics,
        heartbeat: Heartbeat,
        shutdown: Shutdown,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Connect the parts; nothing is claimed yet.

        Args:
            clock: monotonic seconds, the same clock as that of the codec threads.
        """
        self._clock, self._jobs, self._scheduler, self._runner = clock, jobs, scheduler, runner
        self._bundles, self._loads = bundles, loads
        self._codecs, self._leases, self._metrics = codecs, leases, metrics
        self._heartbeat, self._shutdown = heartbeat, shutdown
        self._in_flight: dict[str, InFlight] = {}
        self._drains = False
        """As of the round's beginning: a request that comes later counts from the next round on."""
        self._next_claim_at = 0.0
        self._reported_lanes: int | None = None

    def run(self) -> None:
        """Inspect until asked to stop, then finish what has begun.

        A second request, or a drain that takes too long, hands unfinished jobs back to the queue instead.
        """
        while not (self._is_draining() and not self._in_flight):
            self.round()

    def round(self) -> None:
        """Claim, admit, one step, finish. Wait for a moment only where there is nothing else to do."""
        stages = self._scheduler.stages()
        self._claim(at_work=bool(stages - {JobStage.STORING}))
        self._admit(lanes_wanted=not stages.isdisjoint((JobStage.READY, JobStage.DENOISING)))
        finished = self._step()
        self._finish(finished)

    def _is_draining(self) -> bool:
        """Return whether the worker was asked to stop, and log it once."""
        if not self._drains and self._shutdown.draining():
            self._drains = True
            log.info("draining", jobs=len(self._in_flight))
        return self._drains

    def _claim(self, *, at_work: bool) -> None:
        """Claim as many jobs as there is room for; wait for one only when there is nothing else to do.

        Args:
            at_work: there is a job that is not only being stored.
        """
        room = 0 if self._drains else self._scheduler.claimable()
        if room == 0:
            # It waits for disk or Redis to take results, or for a bundle: a restarted process could not do better.
            if not at_work or self._loads.busy:
                self._heartbeat.claim_answered()
            return
        began = self._clock()
        if at_work and began < self._next_claim_at:
            return
        idle = not self._in_flight
        block_ms = 0 if at_work else IDLE_CLAIM_MS if idle else INBOX_WAIT_MS
        try:
            claims = self._jobs.claim(
                room, block_ms, idle=idle, unusable=self._loads.unusable, should_stop=self._shutdown.draining
            )
        except (RedisError, OSError) as error:
            log.warning("no jobs claimed: Redis does not answer", error=str(error))
            # A Redis that is away or silent is no fault of this process: a new one would fare no better, and would have
            # to load its models first once Redis is back.
            self._heartbeat.claim_answered()
            if not at_work:
                self._shutdown.wait(REDIS_RETRY_S)
            # The lanes stood still while the claim waited: they step for as long now.
            self._next_claim_at = 2 * self._clock() - began
            return
        self._heartbeat.claim_answered()
        ended = self._clock()
        # An empty claim is a round trip that the occupied lanes wait for: the next one comes when this one's time has
        # become a small share. A claim that brought jobs is repeated at once, because more may be waiting.
        self._next_claim_at = ended if claims else ended + (CLAIM_TIME_SHARE - 1) * (ended - began)
        for claimed in claims:
            self._start(claimed)

    def _start(self, claimed: ClaimedJob) -> None:
        """Have the job's image decoded, as soon as its bundle is loaded."""
        job, pinned = claimed.entry_id, claimed.job
        # A suspect (its worker died before) runs alone: if this worker dies too, the blame falls on no other job.
        self._scheduler.add(job, alone=claimed.alone)
        loaded = self._bundles.is_loaded(pinned.bundle_hash)
        in_flight = InFlight(claimed, self._clock(), waits_for_bundle=not loaded)
        self._in_flight[job] = in_flight
        expired = in_flight.deadline_failure(in_flight.claimed_at)
        if expired is not None:
            self._codecs.fail(claimed, expired, State.EXPIRED)
            return
        bundle = PinnedBundle.from_job(pinned)
        if loaded:
            self._heartbeat.bundle_found()
            self._decode(in_flight)
        elif (error := self._loads.why_unusable(bundle)) is not None:
            self._leave(in_flight, error)
        else:
            self._loads.add(job, bundle, self._clock())

    def _leave(self, in_flight: InFlight, error: BundleUnavailable) -> None:
        """Leave a job to workers that can use its bundle; end it, if for some time none has had it."""
        claimed = in_flight.claimed
        if claimed.unserved:
            self._codecs.fail(claimed, failure_from_error("bundle_unavailable", error))
        else:
            self._codecs.hand_back(claimed)

    def _decode(self, in_flight: InFlight) -> None:
        pinned = in_flight.claimed.job
        bundle = self._bundles.get(pinned.product, pinned.bundle_version, pinned.bundle_hash)
        self._codecs.decode(in_flight.claimed, bundle, in_flight.claimed_at)

    def _bundle_loaded(self, message: BundleLoaded) -> None:
        """Have the images decoded that waited for a bundle, or leave their jobs, but for those lost meanwhile."""
        for job in self._loads.ended(message, self._clock()):
            if self._scheduler.stage(job) is not JobStage.DECODING:
                continue
            if isinstance(message.outcome, BundleUnavailable):
                self._leave(self._in_flight[job], message.outcome)
            else:
                self._decode(self._in_flight[job])

    def _admit(self, *, lanes_wanted: bool) -> None:
        """Read what codec threads and leases report, and put decoded images into free lanes.

        Args:
            lanes_wanted: there is a job that has a lane, or waits for one.
        """
        # Jobs in flight without any that could take a step: a moment's wait for the codec threads costs nothing.
        self._drain_inbox(0 if lanes_wanted or not self._in_flight else INBOX_WAIT_MS / 1000)
        self._loads.look_again(self._clock())
        if self._leases.has_news.is_set():
            for job in self._leases.take_lost():
                self._forget(job)
        if self._drains and self._shutdown.must_stop_now():
            self._hand_all_back()
        if any(in_flight.claimed.job.deadline_ms is not None for in_flight in self._in_flight.values()):
            self._expire()
        while (admitted := self._scheduler.assign_lane()) is not None:
            image = self._in_flight[admitted].image
            assert image is not None, "only decoded images get lanes"
            try:
                needs_steps = self._runner.start_tile(admitted, image)
            except Exception as error:
                self._fail(admitted, error)
                continue
            # Its result waits for no other image's encoding; an image of many tiles is stepped in its group's turn.
            if image.single is not None and not needs_steps:
                self._finish(self._take_step(image.bundle.group, (admitted,)))

    def _expire(self) -> None:
        """End decoded jobs whose deadline passed while they waited: a lane would be spent for no reader."""
        for job in self._scheduler.jobs_in(JobStage.READY):
            in_flight = self._in_flight[job]
            expired = in_flight.deadline_failure(self._clock())
            if expired is not None:
                self._scheduler.mark_storing(job)
                self._codecs.fail(in_flight.claimed, expired, State.EXPIRED)

    def _drain_inbox(self, wait_s: float) -> None:
        """Read all messages of the other threads; wait up to `wait_s` seconds for the first."""
        message = self._next_message(wait_s)
        while message is not None:
            match message:
                case BundleLoaded():
                    self._bundle_loaded(message)
                case Decoded():
                    self._decoded(message)
                case Finished():
                    self._forget(message.job)
            message = self._next_message()

    def _decoded(self, message: Decoded) -> None:
        """Let a decoded image wait for a lane, unless its job was lost or handed back meanwhile."""
        job, image = message.job, message.image
        if self._scheduler.stage(job) is JobStage.DECODING:
            self._in_flight[job] = replace(self._in_flight[job], image=image)
            self._scheduler.mark_ready(job, image.bundle.group, len(image.framed.tiles))

    def _next_message(self, wait_s: float = 0.0) -> Decoded | Finished | BundleLoaded | None:
        """Return the next message, or None if there is none within `wait_s` seconds.

        Raises:
            BaseException: what ended another thread's task unexpectedly; the engine ends with it.
        """
        try:
            message = self._codecs.messages.get(block=wait_s > 0, timeout=wait_s or None)
        except queue.Empty:
            return None
        if isinstance(message, BaseException):
            raise message
        return message

    def _step(self) -> tuple[str, ...]:
        """Take one step of the group whose turn it is; return the jobs of which every tile is done."""
        turn = self._scheduler.next_turn()
        occupied_lanes = self._scheduler.occupied_lanes
        if occupied_lanes != self._reported_lanes:
            self._reported_lanes = occupied_lanes
            self._metrics.set_lanes(occupied_lanes, self._scheduler.lanes)
        if turn is None:
            self._heartbeat.lanes_emptied()
            return ()
        return self._take_step(turn.group, turn.jobs)

    def _take_step(self, group: str, jobs: Sequence[str]) -> tuple[str, ...]:
        """Take one step of these jobs, of this group; return those of which every tile is done."""
        began = self._clock()
        report = self._runner.step(group, jobs)
        self._heartbeat.step_completed(lanes=report.lanes)
        if report.lanes:  # none of clear images alone, which no model steps
            self._metrics.observe_step(report.lanes, self._clock() - began)
        self._observe_bundle_switches(jobs)
        for job in report.freed:
            self._scheduler.free_lane(job)
        for job, error in report.failed.items():
            self._fail(job, error)
        return report.finished

    def _observe_bundle_switches(self, jobs: Sequence[str]) -> None:
        """Record how long jobs had to wait for their bundle, once each, after their first step."""
        for job in jobs:
            in_flight = self._in_flight[job]
            if in_flight.waits_for_bundle:
                self._in_flight[job] = replace(in_flight, waits_for_bundle=False)
                waited_s = self._clock() - in_flight.claimed_at
                self._metrics.bundle_switched(
                    in_flight.claimed.job.product, in_flight.claimed.job.bundle_version, waited_s
                )

    def _finish(self, finished: Sequence[str]) -> None:
        """Score jobs whose tiles are done, free their lanes, and pass them on to be drawn and stored."""
        for job in finished:
            in_flight = self._in_flight[job]
            assert in_flight.image is not None, "a lane's image was decoded before"
            try:
                result = self._runner.finish(job, in_flight.claimed.job.draws_pictures)
            except Exception as error:
                self._fail(job, error)
                continue
            self._runner.release(job)
            self._scheduler.mark_storing(job)
            self._codecs.store(in_flight.claimed, in_flight.image, result, in_flight.claimed_at)

    def _fail(self, job: str, error: Exception) -> None:
        """End one job without a verdict; the jobs beside it go on."""
        self._runner.release(job)
        # A broken device would fail every later image too: then this raises and the process ends, so that the jobs
        # are taken over elsewhere instead of failing here one after the other.
        self._runner.check_device()
        self._scheduler.mark_storing(job)
        claimed = self._in_flight[job].claimed
        match error:
            case NotFinite():
                self._codecs.fail(claimed, failure_from_error("model_not_finite", error))
            case torch.OutOfMemoryError():
                # Another worker may have a larger device, or fewer neighbours beside this image.
                self._codecs.retry_or_fail(claimed, failure_from_error("device_out_of_memory", error))
            case _:
                log.error("model failed", inspection_id=claimed.id, exc_info=error)
                self._codecs.fail(claimed, failure_from_error("model_error", error))

    def _forget(self, job: str) -> None:
        """Drop a job that has ended, or that another worker holds by now."""
        self._runner.release(job)
        self._scheduler.remove(job)
        self._in_flight.pop(job, None)

    def _hand_all_back(self) -> None:
        """Return every job without a result to the queue at once; it does not count as a death of a worker."""
        self._codecs.stop_retries()
        for job in self._scheduler.jobs_in(JobStage.DECODING, JobStage.READY, JobStage.DENOISING):
            self._runner.release(job)
            self._scheduler.mark_storing(job)
            self._codecs.hand_back(self._in_flight[job].claimed)
