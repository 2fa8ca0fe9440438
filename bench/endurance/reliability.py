"""The long run: cameras post while workers and Redis are killed; every accepted image must end, once.

Real processes (Redis, API, workers) with the toy models of the tests, so that thousands of inspections run in minutes.
Only a checkout has those. With a clock skew there are two APIs, of which one's clock is ahead, and each camera posts to
them in turn: of each part the image that was posted last must count.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import httpx
import redis
from redis.exceptions import RedisError

from bench.endurance.checkout import toy_bundle
from bench.endurance.ledger import Ends, Ledger
from bench.support.servers import web_server
from glad_client.client import Client
from service.contract import FINAL_STATES
from service.queue import keys

if TYPE_CHECKING:
    from tests.support.nursery import Nursery, Worker
    from tests.support.redis_server import RedisServer

PRODUCT = "toy"
IMAGES = 20
SHOTS_PER_PART = 7
"""Images of one view that a camera posts of each part. Odd: of half the parts the last one goes to the other API."""
REDIS_DOWN_S = 1.0
PATIENCE_S = 900.0
"""Without a single end for so long, the run gives up and reports what is missing."""

Say = Callable[[str], None]
BadStore = Literal["empty", "stale", "absent"]
BAD_STORES: tuple[BadStore, ...] = get_args(BadStore)
"""Stores of a worker that lacks the bundle: a folder without any, one with another of that version, no folder."""


@dataclass(frozen=True)
class ReliabilityTrial:
    """The load, and how often processes are killed."""

    inspections: int = 10_000
    cameras: int = 8
    workers: int = 2
    kill_every_s: float = 4.0
    redis_kills: int = 2
    lease_ms: int = 3000
    clock_skew_s: int = 0
    """So far ahead is the clock of a second API; 0: there is one."""
    bad_stores: tuple[BadStore, ...] = ()
    """Each is the store of one more worker, which stands beside the others all the time and is never killed."""


@dataclass(frozen=True)
class ReliabilityReport:
    """The figures of a trial. `lost` and `double` must be 0, and `ended` equal `accepted`."""

    accepted: int
    ended: int
    lost: int
    double: int
    states: dict[str, int]
    failures: dict[str, int]
    """Codes of those that ended without a verdict."""
    left_in_queue: int
    """Entries, leases, suspects and handed-back jobs once all has ended."""
    widest_score_spread: float
    """Largest relative difference of two scores of one image."""
    redelivered: int
    """Inspections that a worker took up more than once."""
    by_older_image: int
    """Parts that are judged by another image than the one that was posted last."""
    worker_kills: int
    redis_kills: int
    worker_recovery_s: tuple[float, ...]
    """Per kill of a worker that held images: until all of them had ended."""
    redis_recovery_s: tuple[float, ...]
    """Per kill of Redis: until the next inspection ended; it was down for 1 s by design."""
    seconds: float

    @property
    def sound(self) -> bool:
        """Whether nothing is lost, double or left, and each part is judged by its last image."""
        wrong = (self.lost, self.double, self.left_in_queue, self.by_older_image)
        return not any(wrong) and self.ended == self.accepted


def run_reliability(trial: ReliabilityTrial, folder: Path, say: Say) -> ReliabilityReport:
    """Run the trial in this folder, and return the report.

    Raises:
        RuntimeError: if a clock cannot be set ahead.
    """
    from tests.support.nursery import Nursery
    from tests.support.redis_server import RedisServer

    toy_bundle(folder / "store")
    server = RedisServer(folder / "redis")
    server.start()
    try:
        with Nursery() as nursery, _apis(trial, folder, server.url) as urls:
            return _Run(trial, folder, server=server, nursery=nursery, urls=urls, say=say).run()
    finally:
        server.kill()


@contextmanager
def _apis(trial: ReliabilityTrial, folder: Path, redis_url: str) -> Iterator[tuple[str, ...]]:
    """Yield the addresses of the APIs, which run as long as the block.

    Raises:
        RuntimeError: if a clock is to be ahead, and there is no libfaketime.
    """
    from tests.support.shifted_clock import LIBRARY, shifted

    if trial.clock_skew_s and LIBRARY is None:
        raise RuntimeError("a clock is set ahead by libfaketime, which is missing: apt-get install faketime")
    environment = _environment(folder, redis_url)
    with ExitStack() as stack:
        urls = []
        for skew_s in dict.fromkeys((trial.clock_skew_s, 0)):
            api = web_server("service.api.server", environment | shifted(skew_s), folder / f"api{skew_s:+d}.log")
            urls.append(stack.enter_context(api).url)
        yield tuple(urls)


def _environment(folder: Path, redis_url: str) -> dict[str, str]:
    return {
        "GLAD_REDIS_URL": redis_url,
        "GLAD_STORE": str(folder / "store"),
        "GLAD_DATA_DIR": str(folder),
        "GLAD_DEVICE": "cpu",
        "GLAD_TORCH_THREADS": "1",
        "GLAD_LOG_LEVEL": "warning",
    }


@dataclass
class Kills:
    """The times of the kills, in seconds since 1970."""

    of_workers: list[tuple[float, frozenset[str]]] = field(default_factory=list)
    """With the images that the worker held."""
    of_redis: list[float] = field(default_factory=list)


class _Run:
    """A trial under way."""

    def __init__(
        self,
        trial: ReliabilityTrial,
        folder: Path,
        *,
        server: RedisServer,
        nursery: Nursery,
        urls: Sequence[str],
        say: Say,
    ) -> None:
        self._trial, self._folder, self._server, self._nursery, self._urls = trial, folder, server, nursery, urls
        self._say, self._client = say, server.connect()
        self._ledger, self._kills = Ledger(self._client), Kills()
        self._started = itertools.count(1)
        self._last_posted: dict[str, str] = {}
        """Serial -> the image of the part that was posted last."""

    def run(self) -> ReliabilityReport:
        """Let cameras post in threads, and kill processes in this one."""
        began = time.monotonic()
        with self._ledger.following(), ThreadPoolExecutor(self._trial.cameras) as pool:
            cameras = [pool.submit(self._camera, number) for number in range(self._trial.cameras)]
            self._kill_until_all_ended(lambda: all(camera.done() for camera in cameras))
            for camera in cameras:
                camera.result()
            seconds = time.monotonic() - began
        return self._report(seconds)

    def _camera(self, number: int) -> None:
        from tests.support.line import picture

        colours = [f"hsl({360 * image // IMAGES}, 60%, 50%)" for image in range(IMAGES)]
        images = [picture(32, 32, colour=colour) for colour in colours]
        with ExitStack() as stack:
            clients = itertools.cycle([stack.enter_context(Client(url, patience_s=PATIENCE_S)) for url in self._urls])
            for place, shot in enumerate(range(number, self._trial.inspections, self._trial.cameras)):
                image, serial = shot % IMAGES, f"part-{number}-{place // SHOTS_PER_PART}"
                part, key = {"serial": serial, "view": "top"}, f"shot-{shot}"
                accepted = next(clients).submit(PRODUCT, images[image], idempotency_key=key, fields=part)
                self._ledger.accept(accepted, image)
                self._last_posted[serial] = accepted.id

    def _kill_until_all_ended(self, posted: Callable[[], bool]) -> None:
        for what in self._trial.bad_stores:
            self._worker(_bad_store(what, self._folder))
        workers = [self._worker() for _ in range(self._trial.workers)]
        marks = [
            self._trial.inspections * (n + 1) // (self._trial.redis_kills + 1) for n in range(self._trial.redis_kills)
        ]
        seen, progress_at, kill_at = 0, time.monotonic(), time.monotonic() + self._trial.kill_every_s
        while not (posted() and len(self._ledger.ends) >= len(self._ledger.accepted)):
            time.sleep(0.1)
            now, ended = time.monotonic(), len(self._ledger.ends)
            if ended > seen:
                seen, progress_at = ended, now
            if now - progress_at > PATIENCE_S:
                self._say("nothing ends any more: giving up")
                return
            if marks and ended >= marks[0]:
                marks.pop(0)
                self._kill_redis()
            if now >= kill_at and (victim := self._at_work(workers)) is not None:
                kill_at = now + self._trial.kill_every_s
                workers = [worker for worker in workers if worker is not victim] + [self._replaced(victim)]
                self._say(f"{ended} of {len(self._ledger.accepted)} accepted have ended")

    def _at_work(self, workers: Sequence[Worker]) -> Worker | None:
        """Return the longest living worker that holds images: killing one that still warms up would prove nothing."""
        return next((worker for worker in workers if self._held(worker.pid)), None)

    def _worker(self, store: Path | None = None) -> Worker:
        settings = {**_environment(self._folder, self._server.url), "GLAD_LANES": "4"}
        settings["GLAD_LEASE_MS"] = str(self._trial.lease_ms)
        if store is not None:
            settings["GLAD_STORE"] = str(store)
        return self._nursery.start(settings, self._folder / f"worker-{next(self._started)}.log")

    def _replaced(self, worker: Worker) -> Worker:
        held = self._held(worker.pid)
        self._kills.of_workers.append((time.time(), held))
        worker.kill()
        return self._worker()

    def _held(self, pid: int) -> frozenset[str]:
        try:
            found = list(self._client.scan_iter(match=f"{keys.HELD_PREFIX}*-{pid}/*"))
            return frozenset(one for key in found for one in _members(self._client, key))
        except (RedisError, OSError):
            return frozenset()

    def _kill_redis(self) -> None:
        self._say("Redis is killed")
        self._kills.of_redis.append(time.time())
        self._server.kill()
        time.sleep(REDIS_DOWN_S)
        self._server.start()

    def _report(self, seconds: float) -> ReliabilityReport:
        ledger, results = self._ledger, self._ledger.results()
        return ReliabilityReport(
            accepted=len(ledger.accepted),
            ended=sum(one.state in FINAL_STATES for one in results),
            lost=ledger.lost,
            double=ledger.double,
            states=dict(Counter(one.state.value for one in results)),
            failures=dict(Counter(one.error.code for one in results if one.error is not None)),
            left_in_queue=ledger.left_in_queue(),
            widest_score_spread=ledger.widest_score_spread(results),
            redelivered=sum(one.attempts > 1 for one in results),
            by_older_image=self._parts_by_an_older_image(),
            worker_kills=len(self._kills.of_workers),
            redis_kills=len(self._kills.of_redis),
            worker_recovery_s=tuple(
                _recovered(ledger.ends, at, held) for at, held in self._kills.of_workers if held & ledger.ends.keys()
            ),
            redis_recovery_s=tuple(_next_end(ledger.ends, at) for at in self._kills.of_redis),
            seconds=round(seconds, 1),
        )

    def _parts_by_an_older_image(self) -> int:
        with httpx.Client(base_url=self._urls[0], timeout=60) as http:
            return sum(self._counted(http, serial) != [last] for serial, last in self._last_posted.items())

    @staticmethod
    def _counted(http: httpx.Client, serial: str) -> list[str]:
        """Return the images by which the service judges the part: one, of its only view."""
        return [view["inspection_id"] for view in http.get(f"/v1/parts/{serial}").raise_for_status().json()["views"]]


def _bad_store(what: BadStore, folder: Path) -> Path:
    """Return a store that does not have the bundle that the images are accepted for."""
    from tests.support.tiny_bundle import make_tiny_bundle

    store = folder / f"{what}-store"
    if what == "empty":
        store.mkdir()
    elif what == "stale":
        make_tiny_bundle(store, product=PRODUCT, seed=1)
    return store


def _members(client: redis.Redis, key: str) -> frozenset[str]:
    found: Any = client.smembers(key)
    return frozenset(found)


def _recovered(ends: Ends, at: float, held: frozenset[str]) -> float:
    """Return the seconds from the kill until the last image that the worker held had ended."""
    return round(max((ends[one][0] - at for one in held if one in ends), default=0.0), 2)


def _next_end(ends: Ends, at: float) -> float:
    """Return the seconds from the kill until the new server ended its first inspection."""
    later = [times[0] - at for times in ends.values() if times[0] > at + REDIS_DOWN_S]
    return round(min(later, default=float("nan")), 2)
