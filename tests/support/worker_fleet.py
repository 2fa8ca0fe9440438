"""A small installation: a real queue, a store, artifacts, and real worker processes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import redis

from model_store.store import Store
from service.contract import ArtifactName, Event, Job, PinnedThresholds, Result, new_inspection_id, now
from service.queue import keys
from service.queue.admission import Admission
from service.queue.connection import connect_async
from service.queue.picture_requests import PictureRequests
from service.queue.results import Results
from service.queue.submitter import JobSubmitter
from service.storage.artifacts import ArtifactStore
from tests.support.nursery import Nursery, Worker
from tests.support.processes import eventually

LEASE_MS = 1500


class WorkerFleet:
    """Accepts images as the API does, and runs workers on them."""

    def __init__(self, url: str, client: redis.Redis, store: Path, folder: Path, nursery: Nursery) -> None:
        self.url, self.client, self.store, self.folder = url, client, store, folder
        self.artifacts = ArtifactStore(str(folder / "artifacts"))
        self._nursery = nursery
        self._workers = 0
        self._ended: set[str] = set()
        self._last_event = "0"

    def accept(
        self, images: Sequence[bytes], product: str = "toy", *, store: Path | None = None, **fields: Any
    ) -> list[str]:
        """Store the images and submit their jobs; return the inspections' ids.

        Args:
            store: the one that they are pinned by; None: the fleet's.
        """
        bundles = Store(store or self.store)
        reference = bundles.resolve(product)
        limits = bundles.thresholds(reference)
        jobs = []
        for image in images:
            name = new_inspection_id()
            job = {
                "id": name,
                "product": product,
                "bundle_version": reference.version,
                "bundle_hash": reference.hash,
                "thresholds": PinnedThresholds(**limits.model_dump()),
                "gate": bundles.gate(reference) is not None,
                "image_ref": self.artifacts.put(name, "image", image),
                "image_sha256": hashlib.sha256(image).hexdigest(),
                "image_format": "PNG",
                "image_bytes": len(image),
                "width": 1,
                "height": 1,
                "accepted_at": now(),
            }
            jobs.append(Job.model_validate({**job, **fields}))
        asyncio.run(self._submit(jobs))
        return [job.id for job in jobs]

    def worker(self, *, odd: bool = False, **env: str) -> Worker:
        """Start a worker process; GLAD_* in `env` replace the fleet's settings."""
        self._workers += 1
        settings = {
            "GLAD_REDIS_URL": self.url,
            "GLAD_STORE": str(self.store),
            "GLAD_DATA_DIR": str(self.folder),
            "GLAD_ARTIFACTS_URL": str(self.folder / "artifacts"),
            "GLAD_DEVICE": "cpu",
            "GLAD_TORCH_THREADS": "1",
            "GLAD_LANES": "4",
            "GLAD_LEASE_MS": str(LEASE_MS),
        }
        return self._nursery.start({**settings, **env}, self.folder / f"worker-{self._workers}.log", odd=odd)

    def artifact(self, inspection_id: str, name: ArtifactName) -> bytes:
        """Return a stored picture, that of the attempt whose result is the visible one."""
        [result] = self.results([inspection_id])
        return self.artifacts.get(ArtifactStore.ref(inspection_id, name, result.attempts))

    def request_picture(self, inspection_id: str) -> str | None:
        """Ask for the reconstruction, as the API does."""

        async def ask() -> str | None:
            async with connect_async(self.url) as client:
                return await PictureRequests(client).request(inspection_id, "default")

        return asyncio.run(ask())

    def results(self, ids: Iterable[str]) -> list[Result]:
        """Return the inspections as they are now."""
        return asyncio.run(self._results(list(ids)))

    def ended(self, ids: Sequence[str], patience_s: float = 120.0) -> list[Result]:
        """Return the inspections once all have ended."""
        eventually(lambda: self.count_ended(ids) == len(ids), patience_s)
        return self.results(ids)

    def count_ended(self, ids: Iterable[str]) -> int:
        """Return how many of these have ended."""
        rows: Any = self.client.xread({keys.EVENTS: self._last_event})
        for _, entries in rows or []:
            self._ended |= {fields["id"] for _, fields in entries}
            self._last_event = entries[-1][0]
        return sum(name in self._ended for name in ids)

    def events(self) -> list[Event]:
        """Return all events, in their order."""
        rows: Any = self.client.xrange(keys.EVENTS)
        return [Event.model_validate_json(fields["event"]) for _, fields in rows]

    async def _submit(self, jobs: Sequence[Job]) -> None:
        async with connect_async(self.url) as client:
            submitter = JobSubmitter(client, max_backlog=10_000)
            for job in jobs:
                assert (await submitter.submit(job)).admission is Admission.ADMITTED

    async def _results(self, ids: Sequence[str]) -> list[Result]:
        async with connect_async(self.url) as client:
            found = [await Results(client).get(name) for name in ids]
        assert all(result is not None for result in found)
        return [result for result in found if result is not None]
