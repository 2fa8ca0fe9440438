"""The worker process: builds the engine from the settings, warms the models, and works until it is asked to stop."""

from __future__ import annotations

import argparse
import json
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import structlog
import torch
from redis.exceptions import RedisError

from glad.models import ComponentModels
from model_store.bundle import Bundle
from model_store.engines.engine_spec import EngineSpec
from model_store.engines.loading import LoadedModels, choose_device
from model_store.engines.loading import load as load_engine
from model_store.engines.timing import seconds_per_image
from model_store.errors import StoreError
from model_store.store import SHIPPED_BUNDLES, BundleRef, Store
from service.auth.metrics_access import MetricsAccess
from service.host.child_process import EXIT_CONFIG, read_settings
from service.host.decoder_pool import DecodeLimits, DecoderPool
from service.host.health_server import HealthServer
from service.host.memory import freeze_startup_objects, keep_freed_memory
from service.host.shutdown import Shutdown
from service.queue.artifact_home import ArtifactHome
from service.queue.connection import SchemaTooNew, connect, refuse_newer_schema
from service.queue.jobs import JobQueue
from service.queue.results import Retention
from service.settings import Settings
from service.storage.artifacts import ArtifactStore
from service.telemetry.logs import configure_logging
from service.telemetry.metrics.worker import WorkerMetrics
from service.telemetry.tracing import open_tracing
from service.worker.bundle_cache import (
    BundleCache,
    BundleLoaded,
    BundleUnavailable,
    Load,
    LoadedBundle,
    PinnedBundle,
    first_to_warm,
)
from service.worker.bundle_loads import BundleLoads
from service.worker.codec_threads import CodecThreads
from service.worker.engine import Engine
from service.worker.heartbeat import Heartbeat, WorkerGaugesCollector
from service.worker.lease_keeper import LeaseKeeper
from service.worker.runner import Runner
from service.worker.scheduler import Scheduler

DEATH_S = 10.0
"""How long a failed worker may take to store what its codec threads have in hand."""

PULSE_S = 1.0
"""How often a worker that waits for its first bundles shows that it lives."""
SEARCH_EVERY_S = 5.0
"""How often a worker without a usable bundle looks into the store for one."""

log = structlog.get_logger(__name__)


def run(settings: Settings, *, ready_fd: int | None = None, load: Load | None = None) -> int:
    """Work until SIGTERM; return the exit status.

    Args:
        ready_fd: a descriptor that is written the port, and then that the models are warm.
        load: loads a bundle's models; None: on the fastest engine.
    """
    configure_logging(settings)
    keep_freed_memory()
    shutdown = Shutdown(settings.drain_s)
    heartbeat = Heartbeat(settings.stuck_after_s, draining=shutdown.draining)
    try:
        worker = WorkerProcess(settings, shutdown=shutdown, heartbeat=heartbeat, load=load)
        access = MetricsAccess(settings)
        health_server = HealthServer(settings.health_host, settings.worker_port, heartbeat, access.check)
        worker.refuse_newer_schema()
    except (ValueError, OSError, StoreError, SchemaTooNew) as error:
        print(f"glad worker: {error}", file=sys.stderr)  # noqa: T201 - for the person who set it
        return EXIT_CONFIG
    torch.set_num_threads(torch_threads(settings.torch_threads))
    with shutdown.on_signals(), health_server, _ready_pipe(ready_fd) as report:
        report({"port": health_server.port, "pid": os.getpid()})
        freeze_startup_objects()
        worker.warm()
        if not shutdown.draining():
            report({"warm": True})
            log.info(
                "worker ready" if heartbeat.ready() else "worker waits for a bundle that it can use",
                port=health_server.port,
                pool=settings.pool,
                device=worker.device,
                lanes=worker.lanes,
            )
        worker.work()
    log.info("worker stopped")
    return 0


class WorkerProcess:
    """The parts of one worker, put together."""

    def __init__(self, settings: Settings, *, shutdown: Shutdown, heartbeat: Heartbeat, load: Load | None) -> None:
        """Build the parts; connect to nothing yet.

        Raises:
            ValueError, OSError, StoreError: if the settings cannot be used.
        """
        self._settings = settings
        self.device = device = choose_device(settings.device)
        self.lanes = settings.lanes or default_lanes(device)
        self._shutdown, self._heartbeat, metrics = shutdown, heartbeat, WorkerMetrics()
        metrics.registry.register(WorkerGaugesCollector(heartbeat, device))
        self._store = Store(settings.store_url, shipped=SHIPPED_BUNDLES, keys=settings.trusted_keys, records=False)
        loader = load or fastest(EngineSpec.parse(settings.engine), self.lanes)
        self._bundles = BundleCache(
            self._store, device, settings.max_bundles, loader, metrics, small_bytes=settings.small_bundles_bytes
        )
        self._runner = Runner(device, self.lanes)
        self._redis_url = redis_url_of(settings)
        self._jobs = job_queue(settings)
        self._tracing = open_tracing("glad-worker")
        self._leases = LeaseKeeper(self._jobs, metrics)
        self._decoders = DecoderPool(
            settings.codec_threads,
            DecodeLimits(settings.decode_limit_s, settings.decode_memory_bytes),
            on_end=lambda why: metrics.count_decoder_end(why.value),
        )
        artifacts = ArtifactStore(settings.artifacts)
        self._codecs = CodecThreads(
            self._jobs,
            artifacts,
            ArtifactHome(connect(self._redis_url, settings.redis_answer_s), artifacts),
            metrics,
            self._tracing,
            threads=settings.codec_threads,
            max_pixels=settings.max_pixels,
            decoders=self._decoders,
        )
        self._loads = BundleLoads(
            self._bundles,
            self._codecs.messages.put,
            limit_s=settings.load_limit_s,
            metrics=metrics,
            heartbeat=heartbeat,
        )
        self._engine = Engine(
            jobs=self._jobs,
            scheduler=Scheduler(self.lanes, settings.decode_buffer, storing=self.lanes + settings.decode_buffer),
            runner=self._runner,
            bundles=self._bundles,
            loads=self._loads,
            codecs=self._codecs,
            leases=self._leases,
            metrics=metrics,
            heartbeat=heartbeat,
            shutdown=shutdown,
        )

    def refuse_newer_schema(self) -> None:
        """Check what this Redis holds.

        Raises:
            SchemaTooNew: if only a newer version understands it.
        """
        refuse_newer_schema(self._redis_url)

    def warm(self) -> None:
        """Load the active bundles of the first products, as many as are kept, and call their models in every size once.

        A bundle that cannot be used is passed over: other products' images do not wait for it. Without any bundle of
        those that the pool needs the worker is not ready.
        """
        self._decoders.start()  # it imports what it needs while the first bundle is loaded
        served, known = self._served(), self._products()
        to_warm, warmed = first_to_warm(served, known, self._settings.max_bundles), set()
        for product in to_warm:
            if self._shutdown.draining():
                return
            try:
                self._warm(product)
                warmed.add(product)
            except Exception as error:
                self._runner.check_device()
                log.warning("bundle not warmed", product=product, error=str(error))
        needed, untried = set(served or known), set(known) - set(to_warm)
        if not needed & (warmed | untried):
            self._heartbeat.bundle_missed()
        if not self._shutdown.draining():
            self._heartbeat.warm_up_finished()

    def _search_bundle(self) -> None:
        """Look for a bundle that the pool needs, until the worker has one. The engine is told as of any other load."""
        tried: set[str] = set()
        while not self._heartbeat.has_bundle and not self._shutdown.draining():
            served = self._served()
            for product in first_to_warm(served, self._products(), self._settings.max_bundles):
                if product in served or not served:
                    self._try_bundle(product, tried)
            time.sleep(SEARCH_EVERY_S)

    def _try_bundle(self, product: str, tried: set[str]) -> None:
        """Load the product's active bundle beside the engine, once; one that is unusable the engine tries again."""
        with suppress(StoreError, OSError):  # published half, or gone again
            reference = self._store.resolve(product)
            if reference.hash not in tried:
                tried.add(reference.hash)
                self._bundles.load_beside(PinnedBundle.from_reference(reference), self._offer)

    def _offer(self, message: BundleLoaded | BaseException) -> None:
        """Give the engine a bundle that no job asked for: unlike of one that a job did, a bug in it ends nothing."""
        if isinstance(message, BaseException):
            log.error("bundle not loaded", exc_info=message)
        else:
            self._codecs.messages.put(message)

    def _products(self) -> list[str]:
        """Return the store's products that GLAD_POOLS gives to this worker's pool."""
        return [name for name in self._store.products() if self._settings.takes(name)]

    def _served(self) -> tuple[str, ...]:
        """Return the products that this worker's pool inspected last; none if Redis does not answer."""
        try:
            return self._jobs.recently_served()
        except (RedisError, OSError) as error:
            log.warning(
                "Redis does not say what the pool served last: the store's first products are warmed", error=str(error)
            )
            return ()

    def _warm(self, product: str) -> None:
        reference = self._store.resolve(product)
        bundle = self._loaded_beside(reference)
        began = time.perf_counter()
        for _ in self._runner.warm(bundle):
            self._heartbeat.warm_up_progressed()
            if self._shutdown.draining():
                return
        log.info("bundle warmed", product=product, ms=round((time.perf_counter() - began) * 1e3))

    def _loaded_beside(self, reference: BundleRef) -> LoadedBundle:
        """Return a bundle, with signs of life while it loads, up to the limit.

        Raises:
            BundleUnavailable: if it cannot be used.
        """
        arrived: queue.SimpleQueue[BundleLoaded | BaseException] = queue.SimpleQueue()
        pinned = PinnedBundle.from_reference(reference)
        self._bundles.load_beside(pinned, arrived.put)
        began = time.monotonic()
        while True:
            try:
                message = arrived.get(timeout=PULSE_S)
            except queue.Empty:
                if time.monotonic() - began < self._settings.load_limit_s:
                    self._heartbeat.warm_up_progressed()
                continue
            if isinstance(message, BaseException):
                raise message
            if isinstance(message.outcome, BundleUnavailable):
                self._loads.note_unusable(pinned, message.outcome, time.perf_counter())
                raise message.outcome
            self._bundles.keep(message.outcome)
            return message.outcome

    def work(self) -> None:
        """Run the engine; afterwards no job is held and no thread is left."""
        self._leases.start()
        threading.Thread(target=self._search_bundle, name="search", daemon=True).start()
        try:
            self._engine.run()
        except BaseException:
            _end_soon()
            raise
        finally:
            self._codecs.stop_retries()
            self._codecs.close()
            self._leases.stop()
            self._tracing.close()
        try:
            self._jobs.retire()
        except (RedisError, OSError) as error:
            log.warning("worker not signed off: Redis does not answer", error=str(error))


def redis_url_of(settings: Settings) -> str:
    """Return the address of the worker's Redis.

    Raises:
        ValueError: if the settings name none.
    """
    if settings.redis_url is None:
        raise ValueError("GLAD_REDIS_URL is not set: a worker takes its jobs from a Redis, such as redis://host:6379/0")
    return settings.redis_url


def job_queue(settings: Settings) -> JobQueue:
    """Return the worker's side of the queue.

    Raises:
        ValueError: if the settings name no Redis.
    """
    return JobQueue(
        connect(redis_url_of(settings), settings.redis_answer_s),
        settings.pool,
        lease_ms=settings.lease_ms,
        max_deaths=settings.max_deaths,
        retention=Retention(settings.result_ttl_s, settings.max_events, settings.max_results),
    )


def fastest(spec: EngineSpec, lanes: int) -> Load:
    """Return a function that loads a bundle on the fastest engine that `spec` allows, measured here with `lanes`."""

    def load(bundle: Bundle, device: str) -> LoadedModels:
        settings = bundle.manifest.settings

        def seconds(parts: ComponentModels) -> float:
            return seconds_per_image(parts.assemble(), settings, device, lanes=lanes)

        return load_engine(bundle, device, spec, measure=seconds)

    return load


def default_lanes(device: str) -> int:
    """Return how many tiles to denoise at a time: a CPU gains little from more than a few."""
    return 4 if device == "cpu" else 16


def torch_threads(setting: int | None) -> int:
    """Return the threads of one model call: the setting, else all cores but one, for Redis, API and codec threads."""
    return setting or max(1, len(os.sched_getaffinity(0)) - 1 if hasattr(os, "sched_getaffinity") else 1)


def _end_soon() -> None:
    """End the process after `DEATH_S` seconds, even if a thread hangs on a disk that does not answer."""
    timer = threading.Timer(DEATH_S, os._exit, (1,))
    timer.daemon = True
    timer.start()


@contextmanager
def _ready_pipe(fd: int | None) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yield a function that writes the supervisor a line of JSON; a supervisor that has gone is ignored."""
    with open(os.devnull, "wb", 0) if fd is None else os.fdopen(fd, "wb", 0) as pipe:

        def report(state: dict[str, Any]) -> None:
            with suppress(BrokenPipeError):
                pipe.write(json.dumps(state).encode() + b"\n")

        yield report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `python -m service.worker.main`: a worker with the settings of the environment."""
    parser = argparse.ArgumentParser(prog="python -m service.worker.main", description=__doc__)
    parser.add_argument(
        "--ready-fd", type=int, help="descriptor that is written the port, and when the models are warm"
    )
    given = parser.parse_args(arguments)
    return run(read_settings(Settings, "glad worker"), ready_fd=given.ready_fd)


if __name__ == "__main__":
    status = main()
    # All is stored and handed over; taking torch apart in order would only keep the supervisor waiting for seconds.
    logging.shutdown()
    os._exit(status)
