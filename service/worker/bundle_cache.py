"""Keeps bundles in memory: verified when loaded, the least recently used dropped first, equal weights held once."""

from __future__ import annotations

import errno
import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Self, TypeVar
from weakref import WeakValueDictionary

import structlog
import torch

from glad.models import Models
from glad.settings.method import MethodSettings
from model_store.bundle import Bundle
from model_store.compatibility import ModelsDoNotFit
from model_store.engines.export_manifest import EngineUnusable
from model_store.engines.loading import LoadedModels, load
from model_store.errors import BundleError, ModelLoadError, StoreError
from model_store.manifest import Manifest
from model_store.store import BundleRef, Store
from service.contract import Job
from service.telemetry.metrics.worker import WorkerMetrics

Entry = TypeVar("Entry")


class LruCache(Generic[Entry]):
    """Entries by name; of too many the least recently used is dropped first. Not thread-safe."""

    def __init__(
        self,
        capacity: int,
        dropped: Callable[[Entry], None] | None = None,
        *,
        fit: Callable[[Iterable[Entry]], bool] = lambda _: False,
    ) -> None:
        """Start empty.

        Args:
            capacity: so many entries are kept, whatever they are.
            dropped: called with each entry that has to leave.
            fit: whether entries beyond the capacity may be kept all the same, because they are small.

        Raises:
            ValueError: if the capacity is below 1.
        """
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}; it must be at least 1")
        self._capacity, self._dropped, self._fit = capacity, dropped, fit
        self._entries: OrderedDict[str, Entry] = OrderedDict()

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def get(self, name: str, make: Callable[[], Entry]) -> Entry:
        """Return the entry of this name, made if it is missing. An exception of `make` leaves the cache as it was."""
        if name not in self._entries:
            self._entries[name] = make()
        self._entries.move_to_end(name)
        while len(self._entries) > self._capacity and not self._fit(self._entries.values()):
            _, oldest = self._entries.popitem(last=False)
            if self._dropped is not None:
                self._dropped(oldest)
        return self._entries[name]


Load = Callable[[Bundle, str], LoadedModels]
"""Loads a verified bundle's models onto a device: `model_store.engines.loading.load`, with its options set."""

_UNUSABLE = (
    StoreError,
    BundleError,
    EngineUnusable,
    ModelLoadError,
    ModelsDoNotFit,
    OSError,
    torch.OutOfMemoryError,
)

log = structlog.get_logger(__name__)


_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""Errors of the system by which a store that can be read says that it does not have a file, or not as one."""


class BundleUnavailable(Exception):
    """This worker cannot use the bundle that the job is pinned to; another worker may."""


class StoreAway(BundleUnavailable):
    """The store cannot be read now: whether it has the bundle is not known."""


@dataclass(frozen=True)
class PinnedBundle:
    """The bundle that a job is pinned to."""

    product: str
    version: str
    hash: str

    @classmethod
    def from_job(cls, job: Job) -> Self:
        """Return the bundle of a job."""
        return cls(job.product, job.bundle_version, job.bundle_hash)

    @classmethod
    def from_reference(cls, reference: BundleRef) -> Self:
        """Return the pin of a bundle that the store has."""
        return cls(reference.product, reference.version, reference.hash)

    def __str__(self) -> str:
        return f"{self.product}/{self.version}"


@dataclass(frozen=True, eq=False)
class LoadedBundle:
    """A bundle whose models are ready on the device."""

    hash: str
    manifest: Manifest
    models: Models
    engine: str
    """What runs the models, such as onnx-cpu-float32."""
    group: str
    """Lanes of equal groups share calls: their models, sides and noise schedules are the same."""

    # Cached, because the device loop reads them for every tile and step.
    @cached_property
    def settings(self) -> MethodSettings:
        """The method's settings."""
        return self.manifest.settings

    @cached_property
    def file_bytes(self) -> int:
        """The size of its weights' files."""
        return sum(file.bytes for part in self.manifest.components.values() for file in part.files.values())

    @cached_property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of one image's latent."""
        return self.models.latent_shape(self.settings.resolution)


@dataclass(frozen=True, eq=False)
class BundleLoaded:
    """Message: a bundle that was asked for is loaded, or cannot be."""

    bundle: PinnedBundle
    outcome: LoadedBundle | BundleUnavailable


class BundleCache:
    """Loads bundles from the store and keeps the last used ones. Used by the thread that owns the device only.

    `load_beside` loads while that thread goes on serving.
    """

    def __init__(
        self,
        store: Store,
        device: str,
        capacity: int,
        load: Load = load,
        metrics: WorkerMetrics | None = None,
        *,
        small_bytes: int = 0,
    ) -> None:
        """Start empty.

        Args:
            capacity: bundles kept loaded when no lane needs them.
            small_bytes: more of them are kept as long as the files of all together are no larger.

        Raises:
            ValueError: if not even one bundle may be kept.
        """
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}; at least one bundle must fit: raise GLAD_MAX_BUNDLES")
        self._store, self._device, self._load, self._metrics = store, device, load, metrics
        self._loaded: LruCache[LoadedBundle] = LruCache(
            capacity, self._unloaded, fit=lambda loaded: sum(one.file_bytes for one in loaded) <= small_bytes
        )
        self._components: WeakValueDictionary[str, Any] = WeakValueDictionary()
        self._one_load = threading.Lock()

    def get(self, product: str, version: str, bundle_hash: str) -> LoadedBundle:
        """Return the bundle of exactly this hash, loaded if need be.

        Raises:
            BundleUnavailable: if it is missing, changed or broken.
        """
        return self._loaded.get(bundle_hash, lambda: self._open(PinnedBundle(product, version, bundle_hash)))

    def is_loaded(self, bundle_hash: str) -> bool:
        """Return whether `get` would return this bundle at once."""
        return bundle_hash in self._loaded

    def load_beside(self, pinned: PinnedBundle, answer: Callable[[BundleLoaded | BaseException], None]) -> None:
        """Load the bundle of exactly this hash in a thread of its own; `keep` then takes it into the cache.

        One is loaded after the other. The process can end while one is: its thread is a daemon.

        Args:
            answer: called in that thread, with the outcome or with what went wrong unexpectedly.
        """

        def load() -> None:
            try:
                with self._one_load:
                    answer(BundleLoaded(pinned, self._open(pinned)))
            except BundleUnavailable as error:
                answer(BundleLoaded(pinned, error))
            except BaseException as error:  # a bug: who asked raises it
                answer(error)

        threading.Thread(target=load, name=f"load {pinned}", daemon=True).start()

    def keep(self, bundle: LoadedBundle) -> None:
        """Take a bundle that was loaded beside; the least recently used one may have to leave."""
        self._loaded.get(bundle.hash, lambda: bundle)

    def _open(self, pinned: PinnedBundle) -> LoadedBundle:
        product, version, began = pinned.product, pinned.version, time.perf_counter()
        bundle = self._read(pinned)
        try:
            loaded = self._load(bundle, self._device)
            models = self._shared(loaded)
        except _UNUSABLE as error:
            self._check_store(pinned)
            raise BundleUnavailable(f"{_named(pinned)}: {error}") from error
        fields = {"product": product, "version": version, "hash": pinned.hash[:12]}
        took_s = time.perf_counter() - began
        ms = round(took_s * 1e3)
        log.info("bundle loaded", **fields, engine=loaded.engine, passed_over=loaded.passed_over, ms=ms)
        if self._metrics is not None:
            calibration = bundle.manifest.calibration
            self._metrics.bundle_loaded(product, version, loaded.engine, seconds=took_s, calibration=calibration)
        return LoadedBundle(
            hash=bundle.hash,
            manifest=bundle.manifest,
            models=models,
            engine=loaded.engine,
            group=_group(bundle, loaded),
        )

    def _read(self, pinned: PinnedBundle) -> Bundle:
        """Return the bundle of exactly this hash, every file of it verified.

        Raises:
            StoreAway: if the store cannot be read.
            BundleUnavailable: if the store does not have it, or has it broken.
        """
        try:
            reference = self._store.resolve(pinned.product, pinned.version)
            if reference.hash == pinned.hash:
                return reference.open()
        except _UNUSABLE as error:
            self._check_store(pinned)
            kind = StoreAway if _could_not_read(error) else BundleUnavailable
            raise kind(f"{_named(pinned)}: {error}") from error
        self._check_store(pinned)
        raise BundleUnavailable(
            f"{_named(pinned)}: the store has another bundle of that version, {reference.hash[:12]}"
        )

    def _check_store(self, pinned: PinnedBundle) -> None:
        try:
            self._store.check_readable()
        except OSError as error:
            raise StoreAway(f"{_named(pinned)}: the store {self._store.root} cannot be read: {error}") from error

    def _unloaded(self, bundle: LoadedBundle) -> None:
        if self._metrics is not None:
            self._metrics.bundle_unloaded(bundle.manifest.product, bundle.manifest.version, bundle.engine)

    def _shared(self, loaded: LoadedModels) -> Models:
        """Return the models, each network replaced by an equal one that another bundle has loaded already."""
        parts, share = loaded.parts, self._components.setdefault
        shared = {name: share(f"{name} {loaded.identities[name]}", model) for name, model in parts.components.items()}
        return parts.with_components(shared).assemble()


def _named(pinned: PinnedBundle) -> str:
    return f"bundle {pinned} ({pinned.hash[:12]})"


def _could_not_read(error: BaseException | None) -> bool:
    """Return whether the system refused a read, in an error or in what caused it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno not in _NOT_THERE:
            return True
        error = error.__cause__
    return False


def first_to_warm(served: Sequence[str], known: Sequence[str], most: int) -> tuple[str, ...]:
    """Return at most `most` of the known products: those served last, then the first of the store."""
    return tuple(dict.fromkeys([*(product for product in served if product in known), *known]))[:most]


def _group(bundle: Bundle, loaded: LoadedModels) -> str:
    """Return a digest of what lanes must agree on to share a block: the weights, by content and not by name, the engine
    that runs them, the side and the schedule.

    The condition is each lane's own, so that the products of one multi-class model share calls; only its shape counts.
    """
    settings, condition = bundle.manifest.settings, loaded.parts.condition
    parts = [
        *(f"{name}={digest}" for name, digest in sorted(loaded.identities.items()) if name != "condition"),
        f"condition={None if condition is None else tuple(condition.product.shape)}",
        f"side={settings.resolution}",
        f"schedule={settings.schedule.model_dump_json()}",
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
