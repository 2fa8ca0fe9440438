"""The long run: cameras post while workers and Redis are killed; every accepted image must end, once.

Real processes (Redis, API, workers) with the toy models of the tests, so that thousands of inspections run in minutes.
Only a checkout has those: an installed package says so.
"""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis
from redis.exceptions import RedisError

from bench.processes import web_server
from service.client import Client
from service.contract import FINAL_STATES, Priority, Result
from service.queue import keys

if TYPE_CHECKING:
    from tests.support.nursery import Nursery, Worker
    from tests.support.redis_server import RedisServer

PRODUCT = "toy"
IMAGES = 20
REDIS_DOWN_S = 1.0
PATIENCE_S = 900.0
"""Without a single end for so long, the run gives up and reports what is missing."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Trial:
    """What is done to the service."""

    inspections: int = 10_000
    cameras: int = 8
    workers: int = 2
    kill_every_s: float = 4.0
    redis_kills: int = 2
    lease_ms: int = 3000


@dataclass(frozen=True)
class Report:
    """What came of it. `lost` and `double` must be 0, and `ended` equal `accepted`."""

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
    worker_kills: int
    redis_kills: int
    worker_recovery_s: tuple[float, ...]
    """Per kill of a worker that held images: until all of them had ended."""
    redis_recovery_s: tuple[float, ...]
    """Per kill of Redis: until the next inspection ended; it was down for 1 s by design."""
    seconds: float

    @property
    def sound(self) -> bool:
        """Nothing lost, nothing double, nothing left."""
        return self.lost == self.double == self.left_in_queue == 0 and self.ended == self.accepted


@dataclass
class Log:
    """What happens, as it happens; several threads write."""

    accepted: dict[str, int] = field(default_factory=dict)
    """Inspection -> which image."""
    ends: dict[str, list[float]] = field(default_factory=dict)
    """Inspection -> the times of its events, seconds since 1970."""
    worker_kills: list[tuple[float, frozenset[str]]] = field(default_factory=list)
    redis_kills: list[float] = field(default_factory=list)


def run(trial: Trial, folder: Path, say: Say) -> Report:
    """Runs the trial in this folder, and counts. RuntimeError outside a checkout."""
    try:
        from tests.support.nursery import Nursery
        from tests.support.redis_server import RedisServer
        from tests.support.tiny_bundle import make_tiny_bundle
    except ModuleNotFoundError as error:
        raise RuntimeError("the toy models lie in tests/support: run this from a checkout of the project") from error
    make_tiny_bundle(folder / "store", resolution=32, steps=2, t_min=100, trigger={"delta": 0.05})
    server = RedisServer(folder / "redis")
    server.start()
    try:
        api = web_server("service.api_process", _environment(folder, server.url), folder / "api.log")
        with Nursery() as nursery, api as found:
            return _Run(trial, folder, server=server, nursery=nursery, url=found.url, say=say).run()
    finally:
        server.kill()


def _environment(folder: Path, redis_url: str) -> dict[str, str]:
    return {
        "GLAD_REDIS_URL": redis_url,
        "GLAD_STORE": str(folder / "store"),
        "GLAD_DATA_DIR": str(folder),
        "GLAD_DEVICE": "cpu",
        "GLAD_TORCH_THREADS": "1",
        "GLAD_LOG_LEVEL": "warning",
    }


class _Run:
    """One trial under way."""

    def __init__(
        self, trial: Trial, folder: Path, *, server: RedisServer, nursery: Nursery, url: str, say: Say
    ) -> None:
        self._trial, self._folder, self._server, self._nursery, self._url = trial, folder, server, nursery, url
        self._say, self._log = say, Log()
        self._client = server.connect()
        self._started = itertools.count(1)
        self._over = threading.Event()

    def run(self) -> Report:
        """Cameras in threads, the killing in this one."""
        began = time.monotonic()
        follower = threading.Thread(target=self._follow, name="events", daemon=True)
        follower.start()
        with ThreadPoolExecutor(self._trial.cameras) as pool:
            cameras = [pool.submit(self._camera, number) for number in range(self._trial.cameras)]
            self._kill_until_all_ended(lambda: all(camera.done() for camera in cameras))
            for camera in cameras:
                camera.result()
        seconds = time.monotonic() - began
        self._over.set()
        follower.join()
        return self._report(seconds)

    def _camera(self, number: int) -> None:
        from tests.support.line import picture

        colours = [f"hsl({360 * image // IMAGES}, 60%, 50%)" for image in range(IMAGES)]
        images = [picture(32, 32, colour=colour) for colour in colours]
        with Client(self._url, patience_s=PATIENCE_S) as client:
            for shot in range(number, self._trial.inspections, self._trial.cameras):
                image = shot % IMAGES
                accepted = client.submit(PRODUCT, images[image], idempotency_key=f"shot-{shot}")
                self._log.accepted[accepted.id] = image

    def _follow(self) -> None:
        """Notes every event; what Redis does not answer is asked again."""
        last = "0"
        while not self._over.is_set():
            try:
                rows: Any = self._client.xread({keys.EVENTS: last}, count=500, block=500)
            except (RedisError, OSError):
                time.sleep(0.1)
                continue
            for _, entries in rows or ():
                for entry, fields in entries:
                    last = entry
                    self._log.ends.setdefault(fields["id"], []).append(int(entry.split("-")[0]) / 1000)

    def _kill_until_all_ended(self, posted: Callable[[], bool]) -> None:
        workers = [self._worker() for _ in range(self._trial.workers)]
        marks = [
            self._trial.inspections * (n + 1) // (self._trial.redis_kills + 1) for n in range(self._trial.redis_kills)
        ]
        seen, progress_at, kill_at = 0, time.monotonic(), time.monotonic() + self._trial.kill_every_s
        while not (posted() and len(self._log.ends) >= len(self._log.accepted)):
            time.sleep(0.1)
            now, ended = time.monotonic(), len(self._log.ends)
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
                self._say(f"{ended} of {len(self._log.accepted)} accepted have ended")

    def _at_work(self, workers: Sequence[Worker]) -> Worker | None:
        """The longest living worker that holds images: killing one that still warms up would prove nothing."""
        return next((worker for worker in workers if self._held(worker.pid)), None)

    def _worker(self) -> Worker:
        settings = {**_environment(self._folder, self._server.url), "GLAD_LANES": "4"}
        settings["GLAD_LEASE_MS"] = str(self._trial.lease_ms)
        return self._nursery.start(settings, self._folder / f"worker-{next(self._started)}.log")

    def _replaced(self, worker: Worker) -> Worker:
        held = self._held(worker.pid)
        self._log.worker_kills.append((time.time(), held))
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
        self._log.redis_kills.append(time.time())
        self._server.kill()
        time.sleep(REDIS_DOWN_S)
        self._server.start()

    def _report(self, seconds: float) -> Report:
        log, results = self._log, self._results()
        scores = _by_image((log.accepted[one.id], one.score) for one in results if one.score is not None)
        return Report(
            accepted=len(log.accepted),
            ended=sum(one.state in FINAL_STATES for one in results),
            lost=len(log.accepted.keys() - log.ends.keys()),
            double=sum(len(times) > 1 for times in log.ends.values()) + len(log.ends.keys() - log.accepted.keys()),
            states=dict(Counter(one.state.value for one in results)),
            failures=dict(Counter(one.error.code for one in results if one.error is not None)),
            left_in_queue=self._left(),
            widest_score_spread=max((_spread(ones) for ones in scores.values()), default=0.0),
            redelivered=sum(one.attempts > 1 for one in results),
            worker_kills=len(log.worker_kills),
            redis_kills=len(log.redis_kills),
            worker_recovery_s=tuple(
                _recovered(log, at, held) for at, held in log.worker_kills if held & log.ends.keys()
            ),
            redis_recovery_s=tuple(_next_end(log, at) for at in log.redis_kills),
            seconds=round(seconds, 1),
        )

    def _results(self) -> list[Result]:
        found: list[Result] = []
        for inspection_id in self._log.accepted:
            text: Any = self._client.hget(keys.inspection(inspection_id), "result")
            if text is not None:
                found.append(Result.model_validate_json(text))
        return found

    def _left(self) -> int:
        pool, client = keys.PoolKeys("default"), self._client
        streams: Any = [client.xlen(pool.jobs(priority)) for priority in Priority]
        sets: Any = [client.zcard(key) for key in (pool.leases, pool.suspects, *map(pool.returned, Priority))]
        return int(sum(streams) + sum(sets))


def _members(client: redis.Redis, key: str) -> frozenset[str]:
    found: Any = client.smembers(key)
    return frozenset(found)


def _by_image(scored: Iterable[tuple[int, float]]) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for image, score in scored:
        found.setdefault(image, []).append(score)
    return found


def _spread(scores: Sequence[float]) -> float:
    middle = statistics.median(scores)
    return (max(scores) - min(scores)) / abs(middle) if middle else 0.0


def _recovered(log: Log, at: float, held: frozenset[str]) -> float:
    """Seconds from the kill until the last of what the worker held had ended."""
    return round(max((log.ends[one][0] - at for one in held if one in log.ends), default=0.0), 2)


def _next_end(log: Log, at: float) -> float:
    """Seconds from the kill until the next end of an inspection by the new server."""
    later = [times[0] - at for times in log.ends.values() if times[0] > at + REDIS_DOWN_S]
    return round(min(later, default=float("nan")), 2)
