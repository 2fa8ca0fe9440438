"""The worker process: builds the engine from the settings, warms the models, works until it is told to stop."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import structlog
import torch
from redis.exceptions import RedisError

from model_store.bundle import Bundle
from model_store.engines.engine_spec import EngineSpec
from model_store.engines.loading import LoadedModels, choose_device
from model_store.engines.loading import load as load_engine
from model_store.engines.timing import seconds_per_image
from model_store.errors import StoreError
from model_store.store import SHIPPED_BUNDLES, Store
from service.host.health_server import HealthServer
from service.host.memory import freeze_startup_objects
from service.host.shutdown import Shutdown
from service.queue.connection import SchemaTooNew, connect, refuse_newer_schema
from service.queue.jobs import JobQueue
from service.queue.results import Retention
from service.settings import Settings
from service.storage.artifacts import ArtifactStore
from service.telemetry.logs import configure_logging
from service.telemetry.metrics.worker import WorkerMetrics
from service.telemetry.tracing import open_tracing
from service.worker.bundle_cache import BundleCache, Load, first_to_warm
from service.worker.codec_threads import Codecs
from service.worker.engine import Engine
from service.worker.heartbeat import Heartbeat, Vitals
from service.worker.lease_keeper import LeaseKeeper
from service.worker.runner import Runner
from service.worker.scheduler import Scheduler

EXIT_CONFIG = 78
"""The settings are wrong: starting again would not help (EX_CONFIG)."""
DEATH_S = 10.0
"""How long a failed worker may take to store what its codec threads have in hand."""

log = structlog.get_logger(__name__)


def run(settings: Settings, *, ready_fd: int | None = None, load: Load | None = None) -> int:
    """Works until SIGTERM; returns the exit status. `ready_fd`: told the port, then that the models are warm."""
    configure_logging(settings)
    stop = Shutdown(settings.drain_s)
    pulse = Heartbeat(settings.stuck_after_s, leaving=stop.draining)
    try:
        workplace = Workplace(settings, stop=stop, pulse=pulse, load=load)
        health_server = HealthServer(settings.host, settings.worker_port, pulse)
        workplace.refuse_newer_schema()
    except (ValueError, OSError, StoreError, SchemaTooNew) as error:
        print(f"glad worker: {error}", file=sys.stderr)  # noqa: T201 - for the person who set it
        return EXIT_CONFIG
    torch.set_num_threads(torch_threads(settings.torch_threads))
    with stop.on_signals(), health_server, _told(ready_fd) as tell:
        tell({"port": health_server.port, "pid": os.getpid()})
        freeze_startup_objects()
        workplace.warm()
        if not stop.draining():
            tell({"warm": True})
            log.info(
                "worker ready",
                port=health_server.port,
                pool=settings.pool,
                device=workplace.device,
                lanes=workplace.lanes,
            )
        workplace.work()
    log.info("worker stopped")
    return 0


class Workplace:
    """The parts of one worker, put together."""

    def __init__(self, settings: Settings, *, stop: Shutdown, pulse: Heartbeat, load: Load | None) -> None:
        """ValueError, OSError or StoreError if the settings cannot be used. Connects to nothing yet."""
        self._settings = settings
        self.device = device = choose_device(settings.device)
        self.lanes = settings.lanes or default_lanes(device)
        self._stop, self._pulse, metrics = stop, pulse, WorkerMetrics()
        metrics.registry.register(Vitals(pulse, device))
        self._store = Store(settings.store_url, shipped=SHIPPED_BUNDLES, keys=settings.trusted_keys)
        loader = load or fastest(EngineSpec.parse(settings.engine), self.lanes)
        self._bundles = BundleCache(self._store, device, settings.max_bundles, loader, metrics)
        self._runner = Runner(device, self.lanes)
        self._jobs, self._redis_url = job_queue(settings), settings.redis_url
        self._tracing = open_tracing("glad-worker")
        self._leases = LeaseKeeper(self._jobs, metrics)
        self._codecs = Codecs(
            self._jobs,
            ArtifactStore(settings.artifacts),
            metrics,
            self._tracing,
            threads=settings.codec_threads,
            max_pixels=settings.max_pixels,
        )
        self._engine = Engine(
            jobs=self._jobs,
            scheduler=Scheduler(self.lanes, settings.decode_buffer, leaving=self.lanes + settings.decode_buffer),
            runner=self._runner,
            bundles=self._bundles,
            codecs=self._codecs,
            leases=self._leases,
            metrics=metrics,
            pulse=pulse,
            stop=stop,
        )

    def refuse_newer_schema(self) -> None:
        """SchemaTooNew if this Redis holds what only a newer version understands."""
        if self._redis_url is not None:
            refuse_newer_schema(self._redis_url)

    def warm(self) -> None:
        """Loads the active bundles of the products that come first, as many as are kept, and calls their models in
        every shape once. One that cannot be used is passed over: other products' images do not wait for it."""
        for product in first_to_warm(self._served(), self._products(), self._settings.max_bundles):
            if self._stop.draining():
                return
            try:
                self._warm(product)
            except Exception as error:
                self._runner.check_device()
                log.warning("bundle not warmed", product=product, error=str(error))
        if not self._stop.draining():
            self._pulse.warm()

    def _products(self) -> list[str]:
        """The store's products that come to this worker's pool, as far as GLAD_POOLS says."""
        return [name for name in self._store.products() if self._settings.takes(name)]

    def _served(self) -> tuple[str, ...]:
        """What this worker's pool inspected last; nothing is known of it without Redis."""
        try:
            return self._jobs.recently_served()
        except (RedisError, OSError) as error:
            log.warning("not known what the pool served last", error=str(error))
            return ()

    def _warm(self, product: str) -> None:
        reference = self._store.resolve(product)
        bundle = self._bundles.get(product, reference.version, reference.hash)
        began = time.perf_counter()
        for _ in self._runner.warm(bundle):
            self._pulse.warming()
            if self._stop.draining():
                return
        log.info("bundle warmed", product=product, ms=round((time.perf_counter() - began) * 1e3))

    def work(self) -> None:
        """Runs the engine; afterwards no job is held and no thread is left."""
        self._leases.start()
        try:
            self._engine.run()
        except BaseException:
            _end_soon()
            raise
        finally:
            self._codecs.let_go()
            self._codecs.close()
            self._leases.stop()
            self._tracing.close()
        try:
            self._jobs.retire()
        except (RedisError, OSError) as error:
            log.warning("not signed off", error=str(error))


def job_queue(settings: Settings) -> JobQueue:
    """The worker's side of the queue. ValueError if the settings name no Redis."""
    if settings.redis_url is None:
        raise ValueError("GLAD_REDIS_URL is not set: a worker takes its jobs from a Redis, such as redis://host:6379/0")
    return JobQueue(
        connect(settings.redis_url),
        settings.pool,
        lease_ms=settings.lease_ms,
        max_deaths=settings.max_deaths,
        retention=Retention(settings.result_ttl_s, settings.max_events, settings.max_results),
    )


def fastest(wanted: EngineSpec, lanes: int) -> Load:
    """Loads a bundle on the fastest of the engines that are wanted, measured here with so many lanes."""

    def load(bundle: Bundle, device: str) -> LoadedModels:
        settings = bundle.manifest.settings
        return load_engine(
            bundle, device, wanted, measure=lambda models: seconds_per_image(models, settings, device, lanes=lanes)
        )

    return load


def default_lanes(device: str) -> int:
    """Images denoised at a time: a CPU gains little from more than a few."""
    return 4 if device == "cpu" else 16


def torch_threads(wanted: int | None) -> int:
    """Threads of one call: as set, else all cores but one, which is left to Redis, API and codec threads."""
    return wanted or max(1, len(os.sched_getaffinity(0)) - 1 if hasattr(os, "sched_getaffinity") else 1)


def _end_soon() -> None:
    """A dead loop ends its process, even if a thread hangs on a disk that does not answer."""
    timer = threading.Timer(DEATH_S, os._exit, (1,))
    timer.daemon = True
    timer.start()


@contextmanager
def _told(fd: int | None) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A way to tell the supervisor, one line of JSON at a time; one that has gone away is not missed."""
    with open(os.devnull, "wb", 0) if fd is None else os.fdopen(fd, "wb", 0) as pipe:

        def tell(word: dict[str, Any]) -> None:
            with suppress(BrokenPipeError):
                pipe.write(json.dumps(word).encode() + b"\n")

        yield tell


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m service.worker.main`: a worker with the settings of the environment."""
    parser = argparse.ArgumentParser(prog="python -m service.worker.main", description=__doc__)
    parser.add_argument("--ready-fd", type=int, help="descriptor to tell the port, and when the models are warm")
    given = parser.parse_args(arguments)
    return run(Settings(), ready_fd=given.ready_fd)


if __name__ == "__main__":
    status = main()
    # All is stored and handed over; taking torch apart in order would only keep the supervisor waiting for seconds.
    logging.shutdown()
    os._exit(status)
