"""A worker's own parts around one bundle, without queue and threads: what it would load, and a runner for it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from model_store.engines.engine_spec import EngineSpec
from model_store.store import Store
from service.host.memory import keep_freed_memory
from service.settings import Settings
from service.storage.artifacts import ArtifactStore
from service.worker.bundle_cache import BundleCache, LoadedBundle
from service.worker.main import fastest
from service.worker.picture_codec import PreparedInspection, prepare_inspection
from service.worker.runner import Runner


@dataclass(frozen=True)
class WorkerParts:
    """What one image passes."""

    bundle: LoadedBundle
    runner: Runner
    artifacts: ArtifactStore

    def prepare(self, data: bytes) -> PreparedInspection:
        """Return an image file, decoded, framed and checked."""
        return prepare_inspection(
            data, self.bundle, Settings.model_fields["max_pixels"].default, self.bundle.manifest.gate
        )


@contextmanager
def worker_parts(bundle: Path, device: str, engine: str, lanes: int) -> Iterator[WorkerParts]:
    """Load a bundle as a worker with so many lanes does, warm; its files are gone at the end of the block.

    Args:
        engine: as GLAD_ENGINE.

    Raises:
        BundleError, EngineUnusable: if the bundle cannot be loaded.
    """
    keep_freed_memory()  # as a worker does
    with tempfile.TemporaryDirectory(prefix="glad-bench-") as scratch:
        store = Store(Path(scratch) / "store")
        reference = store.publish(bundle)
        cache = BundleCache(store, device, 1, fastest(EngineSpec.parse(engine), lanes))
        loaded = cache.get(reference.product, reference.version, reference.hash)
        runner = Runner(device, lanes)
        for _ in runner.warm(loaded):
            pass
        yield WorkerParts(loaded, runner, ArtifactStore(Path(scratch) / "artifacts"))
