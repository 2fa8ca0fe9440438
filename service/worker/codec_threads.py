"""The codec threads: fetch and decode images before the device, draw and store results after it.

They answer the engine by messages. No job is lost here: storing is repeated until the disk and Redis take it, or the
worker is told to stop retrying; an image that cannot be fetched is tried again, here or on another worker, before it
fails, and does not fail while the whole store is away.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import structlog
from redis.exceptions import RedisError

from glad.image_codec import ImageError
from glad.images.tiling import NothingCounts, PlaneTooLarge
from service.contract import (
    RECONSTRUCTION,
    Failure,
    Findings,
    Region,
    Result,
    State,
    StoredName,
    Timings,
    done_result,
    ended_result,
    quality_from_reasons,
    unfit_result,
)
from service.host.decoder_pool import DecoderPool, DecoderUnavailable
from service.queue.artifact_home import ArtifactHome
from service.queue.claims import ClaimedJob
from service.queue.jobs import JobQueue
from service.storage.artifacts import ArtifactStore
from service.telemetry.metrics.worker import WorkerMetrics
from service.telemetry.tracing import Tracing
from service.worker.bundle_cache import BundleLoaded, LoadedBundle
from service.worker.picture_codec import (
    PreparedInspection,
    RenderedPictures,
    draw_reconstruction,
    prepare_inspection,
    render_pictures,
)
from service.worker.runner import DeviceResult

T = TypeVar("T")

RETRY_ELSEWHERE_MS = 60_000
"""How long what may be this worker's fault (a small device, a share that is not mounted) is tried again."""
RETRY_DELAY_MS = 2_000

log = structlog.get_logger(__name__)


@dataclass(frozen=True, eq=False)
class Decoded:
    """Message: the image of a job (`ClaimedJob.entry_id`) is decoded."""

    job: str
    image: PreparedInspection


@dataclass(frozen=True)
class Finished:
    """Message: a job has ended, was handed back, or is another worker's by now."""

    job: str


class RetriesStopped(Exception):
    """The worker must stop at once; what is not stored yet is handed back."""


class CodecThreads:
    """A few threads around the device loop. How many jobs they hold is bounded by the scheduler."""

    def __init__(
        self,
        jobs: JobQueue,
        artifacts: ArtifactStore,
        home: ArtifactHome,
        metrics: WorkerMetrics,
        tracing: Tracing,
        *,
        threads: int,
        max_pixels: int,
        decoders: DecoderPool,
    ) -> None:
        """Prepare the threads.

        Args:
            threads: how many there are.
            decoders: the processes in which images are decoded. They are closed with the threads.
            max_pixels: an image with more pixels fails before it is decoded.
        """
        self._jobs, self._artifacts, self._home, self._max_pixels = jobs, artifacts, home, max_pixels
        self._metrics, self._tracing, self._decoders = metrics, tracing, decoders
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="codec")
        self.messages: queue.SimpleQueue[Decoded | Finished | BundleLoaded | BaseException] = queue.SimpleQueue()
        """For the engine: how each task ended, or the exception that ended it unexpectedly; and bundles that arrive."""
        self._retries_stopped = threading.Event()

    def decode(self, claimed: ClaimedJob, bundle: LoadedBundle, claimed_at: float) -> None:
        """Fetch, decode and check an image. Ends in Decoded, or in Finished if it cannot be inspected or is unfit.

        Args:
            claimed_at: perf_counter at the claim.
        """
        self._submit(claimed, lambda: self._decode(claimed, bundle, claimed_at))

    def store(self, claimed: ClaimedJob, image: PreparedInspection, result: DeviceResult, claimed_at: float) -> None:
        """Draw and store the pictures and complete the job, or answer a request for a picture. Ends in Finished.

        Args:
            claimed_at: perf_counter at the claim.
        """
        if claimed.picture_only:
            self._submit(claimed, lambda: self._store_picture(claimed, image, result))
        else:
            self._submit(claimed, lambda: self._store(claimed, image, result, claimed_at))

    def fail(self, claimed: ClaimedJob, failure: Failure, state: State = State.FAILED) -> None:
        """End the job without a verdict. Ends in Finished."""
        self._submit(claimed, lambda: self._fail(claimed, failure, state))

    def retry_or_fail(self, claimed: ClaimedJob, failure: Failure) -> None:
        """Hand the job back for a little later, to any worker; fail it once that has gone on for too long."""
        self._submit(claimed, lambda: self._retry_or_fail(claimed, failure))

    def hand_back(self, claimed: ClaimedJob) -> None:
        """Hand the job back to the queue at once. Ends in Finished."""
        self._submit(claimed, lambda: self._hand_back(claimed))

    def stop_retries(self) -> None:
        """Try nothing a second time from now on."""
        self._retries_stopped.set()

    def close(self) -> None:
        """Wait for the tasks under way."""
        self._pool.shutdown()
        self._decoders.close()

    def _submit(self, claimed: ClaimedJob, task: Callable[[], Decoded | Finished]) -> None:
        def run() -> None:
            try:
                self.messages.put(task())
            except RetriesStopped:
                self.messages.put(self._hand_back(claimed))
            except BaseException as error:  # a bug: the engine raises it, and a dead loop ends the process
                self.messages.put(error)

        self._pool.submit(run)

    def _decode(self, claimed: ClaimedJob, bundle: LoadedBundle, claimed_at: float) -> Decoded | Finished:
        try:
            self._home.check()
            data = self._artifacts.get(claimed.job.image_ref)
        except (OSError, RedisError) as error:
            failure = failure_from_error("image_unavailable", error)
            return self._retry_or_fail(claimed, failure, lambda: self._is_lost(claimed.job.image_ref))
        gate = claimed.job.gate_in_force(bundle.manifest.gate)
        # What the API has accepted is inspected, also where its GLAD_MAX_PIXELS is the larger one.
        max_pixels = max(self._max_pixels, claimed.job.width * claimed.job.height)
        try:
            image = prepare_inspection(data, bundle, max_pixels, gate, decode=self._decoders.decode_image)
        except DecoderUnavailable as error:
            return self._retry_or_fail(claimed, failure_from_error("decoder_unavailable", error))
        except ImageError as error:
            return self._fail(claimed, failure_from_error("image_undecodable", error))
        except (NothingCounts, PlaneTooLarge) as error:
            return self._fail(claimed, failure_from_error("image_not_inspectable", error))
        except Exception as error:
            log.exception("image could not be prepared", inspection_id=claimed.id)
            return self._fail(claimed, failure_from_error("internal_error", error))
        if image.unfit:
            return self._complete_unfit(claimed, image, claimed_at)
        return Decoded(claimed.entry_id, image)

    def _complete_unfit(self, claimed: ClaimedJob, image: PreparedInspection, claimed_at: float) -> Finished:
        """Complete an image that the quality gate stops: people look at it, and it takes no lane."""
        timings = Timings(
            queue=claimed.waited_ms,
            decode=image.decode_ms,
            encode=0.0,
            denoise=0.0,
            score=0.0,
            total=_total_ms(claimed, claimed_at),
        )
        quality = quality_from_reasons(image.unfit, image.measures)
        result = unfit_result(claimed.job, quality, timings, **claimed.result_fields)
        return self._complete(claimed, result)

    def _store_picture(self, claimed: ClaimedJob, image: PreparedInspection, result: DeviceResult) -> Finished:
        """Store what was asked for, and answer the request."""
        assert result.reconstruction is not None, "its job draws pictures always"
        try:
            content = draw_reconstruction(image, result.reconstruction)
        except Exception as error:
            return self._fail(claimed, failure_from_error("internal_error", error))
        self._put(claimed, RECONSTRUCTION, content)
        self._insist("answer", claimed, lambda: self._jobs.end_picture(claimed))
        log.info("picture drawn", inspection_id=claimed.id, product=claimed.job.product)
        return Finished(claimed.entry_id)

    def _store(
        self, claimed: ClaimedJob, image: PreparedInspection, result: DeviceResult, claimed_at: float
    ) -> Finished:
        try:
            at_once = claimed.job.draws_pictures(result.score)
            rendered = render_pictures(
                image, result.map, result.reconstruction, claimed.job.thresholds.pixel, at_once=at_once
            )
            findings = _findings(claimed, image, result, rendered, claimed_at)
        except Exception as error:
            log.exception("pictures could not be made", inspection_id=claimed.id)
            return self._fail(claimed, failure_from_error("internal_error", error))
        # A worker that slept past its lease ends here; what it stores later lies under its own attempt's names.
        if not self._insist("claim", claimed, lambda: self._jobs.still_holds(claimed)):
            return self._drop(claimed)
        for name, content in rendered.files.items():
            self._put(claimed, name, content)
        # The total is taken once more: storing the pictures may have waited for the disk.
        timings = findings.timings_ms.model_copy(update={"total": _total_ms(claimed, claimed_at)})
        done = done_result(
            claimed.job,
            findings.model_copy(update={"timings_ms": timings}),
            **claimed.result_fields,
        )
        return self._complete(claimed, done)

    def _put(self, claimed: ClaimedJob, name: StoredName, content: bytes) -> None:
        """Store a picture under the names of this attempt: if it is stale, nobody is shown what it stores."""
        self._insist(name, claimed, partial(self._artifacts.put, claimed.id, name, content, claimed.stores_as))

    def _fail(self, claimed: ClaimedJob, failure: Failure, state: State = State.FAILED) -> Finished:
        if claimed.picture_only:
            log.warning("picture not drawn", inspection_id=claimed.id, code=failure.code, detail=failure.detail)
            self._insist("answer", claimed, lambda: self._jobs.end_picture(claimed, failure))
            return Finished(claimed.entry_id)
        result = ended_result(claimed.job, state, failure, **claimed.result_fields)
        return self._complete(claimed, result)

    def _complete(self, claimed: ClaimedJob, result: Result) -> Finished:
        """Make the result the visible one, unless another worker has the job by now."""
        # Pictures were stored before: a reader that sees the result finds everything it links to.
        recorded = self._insist("result", claimed, lambda: self._jobs.record(claimed, result))
        if recorded is None:
            return self._drop(claimed)
        self._metrics.count_result(recorded)
        self._tracing.record_inspection(claimed.job, recorded)
        _log_end(recorded)
        return Finished(claimed.entry_id)

    def _drop(self, claimed: ClaimedJob) -> Finished:
        log.warning("result dropped: another worker has the job", inspection_id=claimed.id)
        return Finished(claimed.entry_id)

    def _retry_or_fail(
        self, claimed: ClaimedJob, failure: Failure, is_lasting: Callable[[], bool] = lambda: True
    ) -> Finished:
        """Hand the job back for a little later, or fail it once it was tried for too long.

        Args:
            is_lasting: asked only then; if it returns False, the job is handed back again instead of failing.
        """
        if claimed.picture_only or (claimed.since_first_claim_ms >= RETRY_ELSEWHERE_MS and is_lasting()):
            return self._fail(claimed, failure)
        log.warning("inspection handed back", inspection_id=claimed.id, code=failure.code, detail=failure.detail)
        # At random, so that it is not always this worker whose next claim comes first.
        delay_ms = round(RETRY_DELAY_MS * random.uniform(0.25, 1.75))
        self._insist("hand-back", claimed, lambda: self._jobs.hand_back(claimed, delay_ms=delay_ms))
        return Finished(claimed.entry_id)

    def _is_lost(self, image_ref: str) -> bool:
        """Return whether the store as a whole answers and this image still cannot be fetched."""
        try:
            self._home.check()
            self._artifacts.probe(make=False)
        except (OSError, RedisError) as error:
            log.warning("the artifact store does not answer", error=str(error))
            return False
        try:
            self._artifacts.get(image_ref)
        except OSError:
            return True
        return False  # the store came back in between

    def _hand_back(self, claimed: ClaimedJob) -> Finished:
        try:
            self._jobs.hand_back(claimed)
        except (RedisError, OSError) as error:
            # Its lease will end, and another worker takes it over, as a suspect.
            log.warning("not handed back", inspection_id=claimed.id, error=str(error))
        return Finished(claimed.entry_id)

    def _insist(self, what: str, claimed: ClaimedJob, action: Callable[[], T]) -> T:
        """Repeat an action until Redis or the disk takes it.

        The image has been inspected by now: to give up would cost the device's work once more, and a disk that is full
        would fail every part of the line. Results that wait here stop new claims (`Scheduler.claimable`), not the
        service. Repeating is safe: a picture is overwritten by itself, and a completion counts once.
        """
        pause_s = 0.1
        while True:
            try:
                return action()
            except (RedisError, OSError) as error:
                log.warning("not stored yet", what=what, inspection_id=claimed.id, error=str(error))
            if self._retries_stopped.wait(pause_s):
                raise RetriesStopped
            pause_s = min(5.0, pause_s * 2)


def _log_end(result: Result) -> None:
    bundle = result.bundle.version if result.bundle else None
    fields = {"inspection_id": result.id, "product": result.product, "bundle": bundle}
    if result.error is not None:
        log.warning(f"inspection {result.state.value}", **fields, code=result.error.code, detail=result.error.detail)
        return
    ms = round(result.timings_ms.total) if result.timings_ms else None
    if result.unfit and result.quality is not None:
        fields["unfit"] = ", ".join(reason.check.value for reason in result.quality.reasons)
    log.info("inspection done", **fields, verdict=result.verdict, score=result.score, step=result.denoising_step, ms=ms)


def _findings(
    claimed: ClaimedJob, image: PreparedInspection, result: DeviceResult, rendered: RenderedPictures, claimed_at: float
) -> Findings:
    return Findings(
        score=result.score,
        regions=tuple(Region(box=one.box, area_px=one.area_px, peak=one.peak) for one in rendered.regions),
        hottest=rendered.hottest,
        denoising_step=result.lane.denoising_step,
        unet_evaluations=result.lane.unet_evaluations,
        near_tie=result.lane.near_tie,
        seed=image.bundle.settings.noise_seed,
        timings_ms=Timings(
            queue=claimed.waited_ms,
            decode=image.decode_ms,
            encode=result.encode_ms,
            denoise=result.denoise_ms,
            score=result.score_ms,
            total=_total_ms(claimed, claimed_at),
        ),
        artifacts=rendered.artifacts,
        quality=None if image.measures is None else quality_from_reasons((), image.measures),
    )


def _total_ms(claimed: ClaimedJob, claimed_at: float) -> float:
    """Return the time from submission to now, in ms, without comparing two machines' clocks."""
    return claimed.waited_ms + (time.perf_counter() - claimed_at) * 1e3


def failure_from_error(code: str, error: BaseException) -> Failure:
    """Return a failure with this code that quotes the error, at most 1000 characters of it."""
    return Failure(code=code, detail=(str(error) or type(error).__name__)[:1000])
