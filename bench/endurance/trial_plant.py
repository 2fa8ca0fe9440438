"""The processes of a long run (Redis, one or two APIs, workers behind wires of their own), and what is done to them."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import redis
from redis.exceptions import RedisError

from bench.endurance.checkout import toy_bundle
from service.queue import keys

if TYPE_CHECKING:
    from tests.support.api_process import Api
    from tests.support.nursery import Nursery, Worker
    from tests.support.redis_server import RedisServer
    from tests.support.wire import Wire

REDIS_DOWN_S = 1.0
AWAY_S = 2.0
"""So long a store is away, and Redis out of memory."""
SMALL_REDIS = "1mb"
"""Less than it has: every write is refused."""


@dataclass(frozen=True)
class PlantWorker:
    """A worker, and the wire to its Redis."""

    process: Worker
    wire: Wire


class TrialPlant:
    """Everything that a long run needs, in one folder; it ends with the block."""

    def __init__(self, folder: Path, *, server: RedisServer, nursery: Nursery, apis: tuple[Api, ...], lease_ms: int):
        self.folder, self.server, self.apis = folder, server, apis
        self.client = server.connect()
        self.workers: list[PlantWorker] = []
        self._nursery, self._lease_ms = nursery, lease_ms
        self._started = count(1)
        self._wires = ExitStack()

    @classmethod
    @contextmanager
    def running(cls, folder: Path, *, lease_ms: int, clock_skew_s: int) -> Iterator[Self]:
        """Start Redis and the APIs, and yield the plant; all ends with the block.

        Raises:
            RuntimeError: if a clock cannot be set ahead.
        """
        toy_bundle(folder / "store")
        from tests.support.nursery import Nursery
        from tests.support.redis_server import RedisServer

        server = RedisServer(folder / "redis")
        server.start()
        try:
            with Nursery() as nursery, _apis(folder, server.url, clock_skew_s) as apis:
                plant = cls(folder, server=server, nursery=nursery, apis=apis, lease_ms=lease_ms)
                with plant._wires:
                    yield plant
        finally:
            server.kill()

    @property
    def urls(self) -> tuple[str, ...]:
        """The addresses of the APIs."""
        return tuple(f"http://127.0.0.1:{api.port}" for api in self.apis)

    @property
    def longer_than_a_lease_s(self) -> float:
        """Who is silent for so long has lost its images."""
        return 1.5 * self._lease_ms / 1000

    def start_worker(self, store: Path | None = None) -> PlantWorker:
        """Start a worker; one with a store of its own never counts among `workers`."""
        from tests.support.wire import Wire

        wire = self._wires.enter_context(Wire(self.server.url))
        settings = {**_environment(self.folder, wire.url), "GLAD_LANES": "4", "GLAD_LEASE_MS": str(self._lease_ms)}
        if store is not None:
            settings["GLAD_STORE"] = str(store)
        process = self._nursery.start(settings, self.folder / f"worker-{next(self._started)}.log")
        worker = PlantWorker(process, wire)
        if store is None:
            self.workers.append(worker)
        return worker

    def working(self) -> PlantWorker | None:
        """Return the longest living worker that holds images: to disturb one that still starts would prove nothing."""
        return next((worker for worker in self.workers if self.held(worker)), None)

    def held(self, worker: PlantWorker) -> frozenset[str]:
        """Return the images that a worker holds."""
        try:
            found = list(self.client.scan_iter(match=f"{keys.HELD_PREFIX}*-{worker.process.pid}/*"))
            return frozenset(one for key in found for one in _members(self.client, key))
        except (RedisError, OSError):
            return frozenset()

    def replace(self, worker: PlantWorker) -> None:
        """Start another worker in place of one that was killed or told to stop."""
        self.workers.remove(worker)
        self.start_worker()

    def kill_redis(self) -> None:
        """Kill Redis, and start it again."""
        self.server.kill()
        time.sleep(REDIS_DOWN_S)
        self.server.start()


def stop_worker(plant: TrialPlant, worker: PlantWorker) -> None:
    """Ask the worker to stop: it finishes what it holds, and ends well."""
    worker.process.signal(signal.SIGTERM)
    plant.replace(worker)


def stop_worker_at_once(plant: TrialPlant, worker: PlantWorker) -> None:
    """Ask twice: it hands back what it holds."""
    worker.process.signal(signal.SIGTERM)
    time.sleep(0.2)
    with suppress(ProcessLookupError):
        worker.process.signal(signal.SIGTERM)
    plant.replace(worker)


def pause_worker(plant: TrialPlant, worker: PlantWorker) -> None:
    """Let the worker sleep past its lease, and wake."""
    worker.process.signal(signal.SIGSTOP)
    time.sleep(plant.longer_than_a_lease_s)
    worker.process.signal(signal.SIGCONT)


def silence_worker(plant: TrialPlant, worker: PlantWorker) -> None:
    """Let nothing pass between the worker and Redis, past its lease."""
    worker.wire.silence()
    time.sleep(plant.longer_than_a_lease_s)
    worker.wire.mend()


def lose_replies(plant: TrialPlant, worker: PlantWorker) -> None:
    """Let the worker not hear of what Redis does for it, for a while."""
    worker.wire.lose_replies()
    time.sleep(1.0)
    worker.wire.mend()


def cut_connections(plant: TrialPlant, worker: PlantWorker) -> None:
    """End all connections to Redis, of workers and APIs."""
    plant.client.client_kill_filter(_type="normal", skipme=True)


def pause_redis(plant: TrialPlant, worker: PlantWorker) -> None:
    """Let Redis answer nobody, past the lease."""
    pause_ms = int(1000 * plant.longer_than_a_lease_s)
    plant.client.client_pause(pause_ms)
    time.sleep(pause_ms / 1000)


def fill_redis(plant: TrialPlant, worker: PlantWorker) -> None:
    """Let Redis refuse every write for want of memory, for a while."""
    plant.client.config_set("maxmemory", SMALL_REDIS)
    time.sleep(AWAY_S)
    plant.client.config_set("maxmemory", "0")


def kill_api(plant: TrialPlant, worker: PlantWorker) -> None:
    """Kill an API in the midst of its work, each in turn, and start it again."""
    api, *others = plant.apis
    plant.apis = (*others, api)
    api.child.kill()
    api.start()


def take_images_away(plant: TrialPlant, worker: PlantWorker) -> None:
    """Let the store of images be away for a while, as a share that is not mounted."""
    _take_away(plant.folder / "artifacts")


def take_bundles_away(plant: TrialPlant, worker: PlantWorker) -> None:
    """Let the store of bundles be away for a while, and a worker start meanwhile."""
    worker.process.kill()
    store, away = plant.folder / "store", plant.folder / "store.away"
    store.rename(away)
    plant.replace(worker)
    time.sleep(AWAY_S)
    away.rename(store)


DISTURBANCES: Mapping[str, Callable[[TrialPlant, PlantWorker], None]] = {
    "worker stopped": stop_worker,
    "worker stopped at once": stop_worker_at_once,
    "worker asleep": pause_worker,
    "worker's wire silent": silence_worker,
    "replies to a worker lost": lose_replies,
    "connections cut": cut_connections,
    "Redis paused": pause_redis,
    "Redis out of memory": fill_redis,
    "API killed": kill_api,
    "images away": take_images_away,
    "bundles away": take_bundles_away,
}
"""Name -> what is done, to a worker that holds images or to all. A kill of a worker and of Redis are counted apart."""


def _take_away(folder: Path) -> None:
    away = folder.with_name(f"{folder.name}.away")
    folder.rename(away)
    folder.write_text("no folder")
    time.sleep(AWAY_S)
    folder.unlink()
    try:
        away.rename(folder)
    except OSError:  # somebody made it anew in between
        shutil.copytree(away, folder, dirs_exist_ok=True)


@contextmanager
def _apis(folder: Path, redis_url: str, clock_skew_s: int) -> Iterator[tuple[Api, ...]]:
    """Yield the APIs, which run as long as the block.

    Raises:
        RuntimeError: if a clock is to be ahead, and there is no libfaketime.
    """
    from tests.support.api_process import running_api
    from tests.support.shifted_clock import LIBRARY, shifted

    if clock_skew_s and LIBRARY is None:
        raise RuntimeError("a clock is set ahead by libfaketime, which is missing: apt-get install faketime")
    with ExitStack() as stack:
        apis = []
        for skew_s in dict.fromkeys((clock_skew_s, 0)):
            logs = folder / f"api{skew_s:+d}"
            logs.mkdir()
            settings = _environment(folder, redis_url) | shifted(skew_s)
            apis.append(stack.enter_context(running_api(settings, logs)))
        yield tuple(apis)


def _environment(folder: Path, redis_url: str) -> dict[str, str]:
    return {
        "GLAD_REDIS_URL": redis_url,
        "GLAD_STORE": str(folder / "store"),
        "GLAD_DATA_DIR": str(folder),
        "GLAD_DEVICE": "cpu",
        "GLAD_TORCH_THREADS": "1",
        "GLAD_LOG_LEVEL": "warning",
    }


def _members(client: redis.Redis, key: str) -> frozenset[str]:
    found: Any = client.smembers(key)
    return frozenset(found)
