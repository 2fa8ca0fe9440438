"""The codec threads: fetch and decode before the device, draw and store after it. They tell the engine by its inbox.

Nothing here is lost: storing goes on until the disk and Redis take it, or the worker is told to let go; an image that
cannot be fetched is tried again, here or elsewhere, before it fails; it does not fail while the whole store is away.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import structlog
from redis.exceptions import RedisError

from glad.image_codec import ImageError
from glad.images.framed import NothingCounts
from glad.images.tiling import PlaneTooLarge
from service.contract import Failure, Findings, Quality, Region, Result, State, Timings
from service.queue.claims import ClaimedJob
from service.queue.jobs import JobQueue
from service.storage.artifacts import ArtifactStore
from service.telemetry.metrics.worker import WorkerMetrics
from service.telemetry.tracing import Tracing
from service.worker.bundle_cache import LoadedBundle
from service.worker.parts import Gone, Ready
from service.worker.picture_codec import Prepared, Rendered, prepare, render
from service.worker.runner import Inspected

T = TypeVar("T")

RETRY_ELSEWHERE_MS = 60_000
"""How long what may be this worker's fault (a broken bundle, a share that is not mounted) is tried again."""
RETRY_DELAY_MS = 2_000

log = structlog.get_logger(__name__)


class LetGo(Exception):
    """The worker was told to stop at once; what is not stored yet is handed back."""


class Codecs:
    """A few threads around the device loop. How many jobs they hold is bounded by the scheduler."""

    def __init__(
        self,
        jobs: JobQueue,
        artifacts: ArtifactStore,
        metrics: WorkerMetrics,
        tracing: Tracing,
        *,
        threads: int,
        max_pixels: int,
    ) -> None:
        self._jobs, self._artifacts, self._max_pixels = jobs, artifacts, max_pixels
        self._metrics, self._tracing = metrics, tracing
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="codec")
        self._inbox: queue.SimpleQueue[Ready[Prepared] | Gone | BaseException] = queue.SimpleQueue()
        self._let_go = threading.Event()

    def hear(self, wait_s: float = 0.0) -> Ready[Prepared] | Gone | None:
        """The next thing that happened; waits at most so long. Raises what ended a thread's task unexpectedly."""
        try:
            message = self._inbox.get(block=wait_s > 0, timeout=wait_s or None)
        except queue.Empty:
            return None
        if isinstance(message, BaseException):
            raise message
        return message

    def prepare(self, claimed: ClaimedJob, bundle: LoadedBundle, began_at: float) -> None:
        """Fetch, decode and check; ends in Ready, or in Gone if the image cannot be inspected, or is unfit for it.

        `began_at`: perf_counter at the claim.
        """
        self._submit(claimed, lambda: self._prepare(claimed, bundle, began_at))

    def conclude(self, claimed: ClaimedJob, prepared: Prepared, found: Inspected, began_at: float) -> None:
        """Draw, store, complete; ends in Gone. `began_at`: perf_counter at the claim."""
        self._submit(claimed, lambda: self._conclude(claimed, prepared, found, began_at))

    def fail(self, claimed: ClaimedJob, failure: Failure, state: State = State.FAILED) -> None:
        """End without a verdict; ends in Gone."""
        self._submit(claimed, lambda: self._fail(claimed, failure, state))

    def retry_or_fail(self, claimed: ClaimedJob, failure: Failure) -> None:
        """Hand back for a little later, to whoever takes it then; once that has gone on for too long, fail."""
        self._submit(claimed, lambda: self._retry_or_fail(claimed, failure))

    def hand_back(self, claimed: ClaimedJob) -> None:
        """Give the job to another worker, at once; ends in Gone."""
        self._submit(claimed, lambda: self._hand_back(claimed))

    def let_go(self) -> None:
        """From now on nothing is tried a second time."""
        self._let_go.set()

    def close(self) -> None:
        """Waits for what is under way."""
        self._pool.shutdown()

    def _submit(self, claimed: ClaimedJob, task: Callable[[], Ready[Prepared] | Gone]) -> None:
        def run() -> None:
            try:
                self._inbox.put(task())
            except LetGo:
                self._inbox.put(self._hand_back(claimed))
            except BaseException as error:  # a bug: the engine raises it, and a dead loop ends the process
                self._inbox.put(error)

        self._pool.submit(run)

    def _prepare(self, claimed: ClaimedJob, bundle: LoadedBundle, began_at: float) -> Ready[Prepared] | Gone:
        try:
            data = self._artifacts.get(claimed.job.image_ref)
        except OSError as error:
            failure = _failure("image_unavailable", error)
            return self._retry_or_fail(claimed, failure, lambda: self._is_lost(claimed.job.image_ref))
        gate = bundle.manifest.gate if claimed.job.gate else None
        try:
            prepared = prepare(data, bundle, self._max_pixels, gate)
        except ImageError as error:
            return self._fail(claimed, _failure("image_undecodable", error))
        except (NothingCounts, PlaneTooLarge) as error:
            return self._fail(claimed, _failure("image_not_inspectable", error))
        except Exception as error:
            log.exception("image could not be prepared", inspection_id=claimed.id)
            return self._fail(claimed, _failure("internal_error", error))
        return self._stop(claimed, prepared, began_at) if prepared.unfit else Ready(claimed, prepared)

    def _stop(self, claimed: ClaimedJob, prepared: Prepared, began_at: float) -> Gone:
        """The quality gate: the image is for people to look at, and takes no lane."""
        spent = dict.fromkeys(("encode", "denoise", "score"), 0.0)
        timings = Timings(
            queue=claimed.waited_ms, decode=prepared.decode_ms, **spent, total=_total_ms(claimed, began_at)
        )
        quality = Quality.from_reasons(prepared.unfit)
        result = Result.stopped(claimed.job, quality, timings, started_at=claimed.started_at, attempts=claimed.attempt)
        return self._complete(claimed, result)

    def _conclude(self, claimed: ClaimedJob, prepared: Prepared, found: Inspected, began_at: float) -> Gone:
        try:
            rendered = render(prepared, found.map, found.reconstruction, claimed.job.thresholds.pixel)
            findings = _findings(claimed, prepared, found, rendered, began_at)
        except Exception as error:
            log.exception("pictures could not be made", inspection_id=claimed.id)
            return self._fail(claimed, _failure("internal_error", error))
        for name, content in rendered.pictures.items():
            self._insist(name, claimed, partial(self._artifacts.put, claimed.id, name, content))
        timings = findings.timings_ms.model_copy(update={"total": _total_ms(claimed, began_at)})
        result = Result.done(
            claimed.job,
            findings.model_copy(update={"timings_ms": timings}),
            started_at=claimed.started_at,
            attempts=claimed.attempt,
        )
        return self._complete(claimed, result)

    def _fail(self, claimed: ClaimedJob, failure: Failure, state: State = State.FAILED) -> Gone:
        result = Result.ended(claimed.job, state, failure, started_at=claimed.started_at, attempts=claimed.attempt)
        return self._complete(claimed, result)

    def _complete(self, claimed: ClaimedJob, result: Result) -> Gone:
        """Makes the result the visible one, unless another worker has the job by now."""
        if self._insist("result", claimed, lambda: self._jobs.complete(claimed, result)):
            self._metrics.count_result(result)
            self._tracing.record_inspection(claimed.job, result)
            _log_end(result)
        else:
            log.warning("result dropped: another worker has the job", inspection_id=claimed.id)
        return Gone(claimed)

    def _retry_or_fail(
        self, claimed: ClaimedJob, failure: Failure, is_lasting: Callable[[], bool] = lambda: True
    ) -> Gone:
        """`is_lasting`: asked once it has gone on for too long; where it is not, it goes on."""
        if claimed.since_first_claim_ms >= RETRY_ELSEWHERE_MS and is_lasting():
            return self._fail(claimed, failure)
        log.warning("inspection handed back", inspection_id=claimed.id, code=failure.code, detail=failure.detail)
        # At random, so that it is not always this worker whose next claim comes first.
        delay_ms = round(RETRY_DELAY_MS * random.uniform(0.25, 1.75))
        self._insist("hand-back", claimed, lambda: self._jobs.hand_back(claimed, delay_ms=delay_ms))
        return Gone(claimed)

    def _is_lost(self, image_ref: str) -> bool:
        """The store as a whole is there, and this image still cannot be fetched."""
        try:
            self._artifacts.probe()
        except OSError as error:
            log.warning("artifacts are away", error=str(error))
            return False
        try:
            self._artifacts.get(image_ref)
        except OSError:
            return True
        return False  # the store came back in between

    def _hand_back(self, claimed: ClaimedJob) -> Gone:
        try:
            self._jobs.hand_back(claimed)
        except (RedisError, OSError) as error:
            # Its lease will end, and another worker takes it over, as a suspect.
            log.warning("not handed back", inspection_id=claimed.id, error=str(error))
        return Gone(claimed)

    def _insist(self, what: str, claimed: ClaimedJob, action: Callable[[], T]) -> T:
        """Repeats until Redis or the disk takes it. The results that wait for it stop the claims, not the service."""
        pause_s = 0.1
        while True:
            try:
                return action()
            except (RedisError, OSError) as error:
                log.warning("not stored yet", what=what, inspection_id=claimed.id, error=str(error))
            if self._let_go.wait(pause_s):
                raise LetGo
            pause_s = min(5.0, pause_s * 2)


def _log_end(result: Result) -> None:
    bundle = result.bundle.version if result.bundle else None
    told = {"inspection_id": result.id, "product": result.product, "bundle": bundle}
    if result.error is not None:
        log.warning(f"inspection {result.state.value}", **told, code=result.error.code, detail=result.error.detail)
        return
    ms = round(result.timings_ms.total) if result.timings_ms else None
    if result.unfit and result.quality is not None:
        told["unfit"] = ", ".join(reason.check.value for reason in result.quality.reasons)
    log.info("inspection done", **told, verdict=result.verdict, score=result.score, step=result.denoising_step, ms=ms)


def _findings(
    claimed: ClaimedJob, prepared: Prepared, found: Inspected, rendered: Rendered, began_at: float
) -> Findings:
    return Findings(
        score=found.score,
        regions=tuple(Region(box=one.box, area_px=one.area_px, peak=one.peak) for one in rendered.regions),
        denoising_step=found.lane.denoising_step,
        unet_evaluations=found.lane.unet_evaluations,
        seed=prepared.bundle.settings.noise_seed,
        timings_ms=Timings(
            queue=claimed.waited_ms,
            decode=prepared.decode_ms,
            encode=found.encode_ms,
            denoise=found.denoise_ms,
            score=found.score_ms,
            total=_total_ms(claimed, began_at),
        ),
        artifacts=tuple(rendered.pictures),
        quality=Quality.from_reasons(()) if claimed.job.gate and prepared.bundle.manifest.gate is not None else None,
    )


def _total_ms(claimed: ClaimedJob, began_at: float) -> float:
    """From submission to now, without comparing two machines' clocks."""
    return claimed.waited_ms + (time.perf_counter() - began_at) * 1e3


def _failure(code: str, error: BaseException) -> Failure:
    return Failure(code=code, detail=(str(error) or type(error).__name__)[:1000])
