"""Replay: an image whose inspection ended without a verdict is inspected again, as a new inspection.

The new one names the old one in `replay_of`, and runs with the bundle and thresholds that are in force now, and without
the old deadline. An inspection has one replay, however often it is asked for; a replay that fails too has its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import ParamSpec, Protocol, TypeVar

from model_store.errors import StoreError
from model_store.store import Store
from service.contract import IMAGE, Job, JobTooLarge, State, new_inspection_id
from service.errors import NotReplayable, StorageUnavailable, UnknownInspection
from service.queue.admission import ACCEPTED, Admission, Submission
from service.queue.dead_letters import DeadLetters
from service.queue.submitter import JobSubmitter, pin_now
from service.storage.artifacts import ArtifactNotFound, ArtifactStore, ArtifactsUnavailable

P = ParamSpec("P")
T = TypeVar("T")

CLIENT = "replay"
"""Its idempotency keys are apart from everybody else's."""


class RunInThread(Protocol):
    """Calls a function that blocks in another thread, as `asyncio.to_thread` does."""

    async def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...


class RunOnBundles(Protocol):
    """Makes a call that reads a product in the store of bundles, and may block, in another thread."""

    async def __call__(self, product: str, call: Callable[[], T], /) -> T: ...


@dataclass(frozen=True)
class Replayer:
    """The parts that a replay needs; the API and `glad queue replay` put them together."""

    jobs: JobSubmitter
    letters: DeadLetters
    store: Store
    artifacts: ArtifactStore
    pool_of: Callable[[str], str]
    """product -> the pool that inspects it now."""
    retry_after_s: int
    run_on_images: RunInThread
    """For calls of the artifact store."""
    run_on_bundles: RunOnBundles
    """For calls of the store of bundles."""

    async def replay(self, inspection_id: str, by: str | None = None) -> tuple[Job, Submission]:
        """Return the new job, and what became of it: accepted, the same as before, or refused for want of room.

        Args:
            inspection_id: of what ended without a verdict.
            by: who wants it; None: not known.

        Raises:
            UnknownInspection, NotReplayable, StorageUnavailable: as they say.
            RedisError: if Redis is away.
        """
        old = await self._ended(inspection_id)
        content = await self.run_on_images(self._image, old)
        job = await self.run_on_bundles(old.product, partial(self._pinned_anew, old, by, await self.jobs.now()))
        await self.run_on_images(self._keep, job, content)
        submission = await self.jobs.submit(
            job, fingerprint=inspection_id, idempotency_key=inspection_id, client_name=CLIENT
        )
        if submission.admission is not Admission.ADMITTED:
            await self.run_on_images(self.artifacts.remove, job.image_ref)
        if submission.admission in ACCEPTED:
            await self.letters.remove(inspection_id)
        return job, submission

    async def _ended(self, inspection_id: str) -> Job:
        found = await self.letters.find(inspection_id)
        if found is None:
            raise UnknownInspection(
                f"no ended inspection {inspection_id[:100]!r}: it was never accepted, is no longer kept, or still runs"
            )
        if found.state not in {State.FAILED, State.EXPIRED}:
            raise NotReplayable(f"inspection {inspection_id} has a verdict: only failed and expired ones are replayed")
        if found.job is None:
            raise NotReplayable(
                f"the job of inspection {inspection_id} cannot be read by this version: replay it with the version "
                "that wrote it, or send the image again"
            )
        return found.job

    def _image(self, old: Job) -> bytes:
        try:
            return self.artifacts.get(old.image_ref)
        except ArtifactNotFound as error:
            raise NotReplayable(
                f"the image of inspection {old.id} is no longer kept: send it again from the camera"
            ) from error
        except ArtifactsUnavailable as error:
            raise self._storage_away(f"the image of inspection {old.id} cannot be read now") from error

    def _pinned_anew(self, old: Job, by: str | None, at: datetime) -> Job:
        try:
            pinned = pin_now(self.store, old.product)
        except (StoreError, ValueError) as error:
            raise NotReplayable(
                f"product {old.product!r} has no usable bundle now: publish or activate one, then replay"
            ) from error
        inspection_id = new_inspection_id(at)
        job = old.model_copy(
            update={
                "id": inspection_id,
                **pinned.job_fields,
                "image_ref": ArtifactStore.ref(inspection_id, IMAGE),
                "accepted_at": at,
                "deadline_ms": None,
                "takt_ms": None,
                "pool": self.pool_of(old.product),
                "replay_of": old.id,
                "replayed_by": by,
            }
        )
        if job.hold is not None:  # as at acceptance: the image was taken while the station was held
            job = job.model_copy(update={"thresholds": job.thresholds.on_hold})
        try:
            job.to_json()
        except JobTooLarge as error:
            raise NotReplayable(f"the replay of inspection {old.id} cannot be queued: {error}") from error
        return job

    def _keep(self, job: Job, content: bytes) -> None:
        try:
            self.artifacts.put(job.id, IMAGE, content)
        except ArtifactsUnavailable as error:
            raise self._storage_away("the image could not be stored again") from error

    def _storage_away(self, what: str) -> StorageUnavailable:
        return StorageUnavailable(f"{what}: try again later", retry_after_s=self.retry_after_s)
