"""The long run: cameras post while workers and Redis are killed; every accepted image must end, once.

Real processes (Redis, API, workers) with the toy models of the tests, so that thousands of inspections run in minutes.
Only a checkout has those. With a clock skew there are two APIs, of which one's clock is ahead, and each camera posts to
them in turn: of each part the image that was posted last must count.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import httpx

from bench.endurance.ledger import Ends, Ledger
from bench.endurance.trial_plant import DISTURBANCES, REDIS_DOWN_S, PlantWorker, TrialPlant
from glad_client.client import Client
from service.contract import FINAL_STATES, Result
from service.queue import keys

PRODUCT = "toy"
IMAGES = 20
SHOTS_PER_PART = 7
"""Images of one view that a camera posts of each part. Odd: of half the parts the last one goes to the other API."""
MAX_DEATHS = 3
"""GLAD_MAX_DEATHS by default."""
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
    disturbances: tuple[str, ...] = ()
    """What else is done to the processes, in turns with kills of a worker: names of `DISTURBANCES`."""


@dataclass(frozen=True)
class FailedInspection:
    """An inspection that ended without a verdict."""

    id: str
    code: str
    message: str
    attempts: int
    deaths_alone: int
    """Deaths of a worker that held this image and no other."""

    @property
    def is_expected(self) -> bool:
        """Whether it was given up after so many kills while it was alone that the image itself had to be suspected."""
        return self.code == "worker_died" and self.deaths_alone >= MAX_DEATHS


@dataclass(frozen=True)
class ReliabilityReport:
    """The figures of a trial. `lost` and `double` must be 0, and `ended` equal `accepted`."""

    accepted: int
    ended: int
    lost: int
    double: int
    states: dict[str, int]
    failures: tuple[FailedInspection, ...]
    """Those that ended without a verdict."""
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
    disturbances: dict[str, int]
    """What else was done -> how often."""
    worker_recovery_s: tuple[float, ...]
    """Per kill of a worker that held images: until all of them had ended."""
    redis_recovery_s: tuple[float, ...]
    """Per kill of Redis: until the next inspection ended; it was down for 1 s by design."""
    seconds: float

    @property
    def sound(self) -> bool:
        """Whether nothing is lost, double or left, each part is judged by its last image, and no failure is ours."""
        ours = sum(not one.is_expected for one in self.failures)
        wrong = (self.lost, self.double, self.left_in_queue, self.by_older_image, ours)
        return not any(wrong) and self.ended == self.accepted


def run_reliability(trial: ReliabilityTrial, folder: Path, say: Say) -> ReliabilityReport:
    """Run the trial in this folder, and return the report.

    Raises:
        RuntimeError: if a clock cannot be set ahead.
    """
    with TrialPlant.running(folder, lease_ms=trial.lease_ms, clock_skew_s=trial.clock_skew_s) as plant:
        return _Run(trial, plant, say).run()


@dataclass
class DoneToPlant:
    """What was done to the processes, with times in seconds since 1970."""

    worker_kills: list[tuple[float, frozenset[str]]] = field(default_factory=list)
    """With the images that the worker held."""
    redis_kills: list[float] = field(default_factory=list)
    disturbances: Counter[str] = field(default_factory=Counter)


class _Run:
    """A trial under way."""

    def __init__(self, trial: ReliabilityTrial, plant: TrialPlant, say: Say) -> None:
        self._trial, self._plant, self._say = trial, plant, say
        self._ledger, self._done = Ledger(plant.client), DoneToPlant()
        self._next_disturbances = itertools.cycle(trial.disturbances)
        self._last_posted: dict[str, str] = {}
        """Serial -> the image of the part that was posted last."""

    def run(self) -> ReliabilityReport:
        """Let cameras post in threads, and disturb processes in this one."""
        began = time.monotonic()
        with self._ledger.following(), ThreadPoolExecutor(self._trial.cameras) as pool:
            cameras = [pool.submit(self._camera, number) for number in range(self._trial.cameras)]
            self._disturb_until_all_ended(lambda: all(camera.done() for camera in cameras))
            for camera in cameras:
                camera.result()
            seconds = time.monotonic() - began
        return self._report(seconds)

    def _camera(self, number: int) -> None:
        from tests.support.line import picture

        colours = [f"hsl({360 * image // IMAGES}, 60%, 50%)" for image in range(IMAGES)]
        images = [picture(32, 32, colour=colour) for colour in colours]
        with ExitStack() as stack:
            urls = self._plant.urls
            clients = itertools.cycle([stack.enter_context(Client(url, patience_s=PATIENCE_S)) for url in urls])
            for place, shot in enumerate(range(number, self._trial.inspections, self._trial.cameras)):
                image, serial = shot % IMAGES, f"part-{number}-{place // SHOTS_PER_PART}"
                part, key = {"serial": serial, "view": "top"}, f"shot-{shot}"
                accepted = next(clients).submit(PRODUCT, images[image], idempotency_key=key, fields=part)
                self._ledger.accept(accepted, image)
                self._last_posted[serial] = accepted.id

    def _disturb_until_all_ended(self, posted: Callable[[], bool]) -> None:
        for what in self._trial.bad_stores:
            self._plant.start_worker(_bad_store(what, self._plant.folder))
        for _ in range(self._trial.workers):
            self._plant.start_worker()
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
            if now >= kill_at and (worker := self._plant.working()) is not None:
                self._disturb(worker)
                kill_at = time.monotonic() + self._trial.kill_every_s
                self._say(f"{ended} of {len(self._ledger.accepted)} accepted have ended")

    def _disturb(self, worker: PlantWorker) -> None:
        """Kill the worker or do the next other thing, in turns."""
        disturbed = self._done.disturbances.total()
        if self._trial.disturbances and disturbed <= len(self._done.worker_kills):
            name = next(self._next_disturbances)
            self._say(name)
            DISTURBANCES[name](self._plant, worker)
            self._done.disturbances[name] += 1
            return
        self._done.worker_kills.append((time.time(), self._plant.held(worker)))
        worker.process.kill()
        self._plant.replace(worker)

    def _kill_redis(self) -> None:
        self._say("Redis is killed")
        self._done.redis_kills.append(time.time())
        self._plant.kill_redis()

    def _report(self, seconds: float) -> ReliabilityReport:
        ledger, done, results = self._ledger, self._done, self._ledger.results()
        return ReliabilityReport(
            accepted=len(ledger.accepted),
            ended=sum(one.state in FINAL_STATES for one in results),
            lost=ledger.lost,
            double=ledger.double,
            states=dict(Counter(one.state.value for one in results)),
            failures=tuple(self._failure(one) for one in results if one.error is not None),
            left_in_queue=ledger.left_in_queue(),
            widest_score_spread=ledger.widest_score_spread(results),
            redelivered=sum(one.attempts > 1 for one in results),
            by_older_image=self._parts_by_an_older_image(),
            worker_kills=len(done.worker_kills),
            redis_kills=len(done.redis_kills),
            disturbances=dict(done.disturbances),
            worker_recovery_s=tuple(
                _recovered(ledger.ends, at, held) for at, held in done.worker_kills if held & ledger.ends.keys()
            ),
            redis_recovery_s=tuple(_next_end(ledger.ends, at) for at in done.redis_kills),
            seconds=round(seconds, 1),
        )

    def _failure(self, result: Result) -> FailedInspection:
        assert result.error is not None
        deaths: Any = self._plant.client.hget(keys.inspection(result.id), "deaths")
        return FailedInspection(
            result.id, result.error.code, result.error.detail, attempts=result.attempts, deaths_alone=int(deaths or 0)
        )

    def _parts_by_an_older_image(self) -> int:
        with httpx.Client(base_url=self._plant.urls[0], timeout=60) as http:
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


def _recovered(ends: Ends, at: float, held: frozenset[str]) -> float:
    """Return the seconds from the kill until the last image that the worker held had ended."""
    return round(max((ends[one][0] - at for one in held if one in ends), default=0.0), 2)


def _next_end(ends: Ends, at: float) -> float:
    """Return the seconds from the kill until the new server ended its first inspection."""
    later = [times[0] - at for times in ends.values() if times[0] > at + REDIS_DOWN_S]
    return round(min(later, default=float("nan")), 2)
