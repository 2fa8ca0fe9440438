"""A device that only takes time: the worker's runner and bundle cache, with measured seconds in place of models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from bench.plant.parts import Decoded, Loaded, bundle_hash
from bench.plant.steps import StepTimes
from bench.plant.timeline import LocalClock
from glad.lane import Lane, Phase, Trigger, TriggerReason
from service.worker.bundle_cache import LeastUsed, first_to_warm
from service.worker.runner import Stepped


@dataclass
class Spent:
    """What a node has done. Mutated by its device and its queue only."""

    device_s: float = 0.0
    load_s: float = 0.0
    loads: int = 0
    steps: int = 0
    stepped_lanes: int = 0
    lane_s: float = 0.0
    """Occupied lanes, times how long."""
    claims: int = 0
    """Calls for jobs that gave some."""
    choices: int = 0
    """Of these, the ones that left others to wait: only there another order was possible. Jobs of a lost node count as
    waiting."""

    def __add__(self, other: Spent) -> Spent:
        return Spent(*(own + its for own, its in zip(vars(self).values(), vars(other).values(), strict=True)))


@dataclass
class Seat:
    """One job's lane, from its entry on."""

    lane: Lane
    triggers_at: int
    entered_at: float


class SimulatedRunner:
    """As `service.worker.runner.Runner`, for images of one tile. A lane walks by `Lane.advanced`, as the real one."""

    def __init__(self, times: StepTimes, lanes: int, clock: LocalClock, spent: Spent) -> None:
        self._times, self._lanes, self._clock, self._spent = times, lanes, clock, spent
        self._seats: dict[str, Seat] = {}

    def admit(self, job: str, prepared: Decoded) -> None:
        """Takes a free lane. RuntimeError if there is none, or the job has one: the scheduler has gone wrong."""
        if job in self._seats or len(self._seats) >= self._lanes:
            raise RuntimeError(f"{job} was given a lane; {len(self._seats)} of {self._lanes} are taken: {self._seats}")
        self._seats[job] = Seat(Lane(self._times.settings), prepared.denoising_step, self._clock())
        self._work(self._times.encode_s)

    def step(self, group: str, jobs: Sequence[str]) -> Stepped:
        """One step of these jobs' lanes."""
        lanes = [self._seats[job].lane for job in jobs]
        self._work(self._times.step_s(len(lanes), sum(lane.adapting for lane in lanes)))
        self._spent.steps += 1
        self._spent.stepped_lanes += len(lanes)
        for job in jobs:
            seat = self._seats[job]
            seat.lane = seat.lane.advanced(_triggered(seat))
        finished = [job for job in jobs if self._seats[job].lane.phase is Phase.FINISHED]
        return Stepped(tuple(finished), size=len(lanes))

    def finish(self, job: str) -> Lane:
        """Decodes and scores."""
        self._work(self._times.finish_s)
        return self._seats[job].lane

    def release(self, job: str) -> None:
        """Frees its lane, if it has one."""
        seat = self._seats.pop(job, None)
        if seat is not None:
            self._spent.lane_s += self._clock() - seat.entered_at

    def check_device(self) -> None:
        """It never fails."""

    def _work(self, seconds: float) -> None:
        self._clock.spend(seconds)
        self._spent.device_s += seconds


def _triggered(seat: Seat) -> Trigger | None:
    if not seat.lane.adapting or seat.lane.timestep > seat.triggers_at:
        return None
    return Trigger(seat.lane.timestep, TriggerReason.SCORE, score=0.0)


class SimulatedBundles:
    """As `service.worker.bundle_cache.BundleCache`: the least used leaves first, and a load takes its measured time."""

    def __init__(
        self, times: StepTimes, capacity: int, clock: LocalClock, spent: Spent, groups: dict[str, str]
    ) -> None:
        """`groups`: product -> whose lanes its images share."""
        self._times, self._clock, self._spent, self._groups = times, clock, spent, groups
        self._capacity = capacity
        self._kept: LeastUsed[Loaded] = LeastUsed(capacity)

    def warm(self, served: Sequence[str]) -> None:
        """As a worker before it takes jobs. `served`: what its pool inspected last. It takes no time."""
        for product in first_to_warm(served, sorted(self._groups), self._capacity):
            self._kept.get(bundle_hash(product), partial(Loaded, self._groups[product]))

    def holds(self, digest: str) -> bool:
        """It is loaded."""
        return digest in self._kept

    def get(self, product: str, version: str, digest: str) -> Loaded:
        """The bundle; loaded if need be."""
        return self._kept.get(digest, partial(self._load, product))

    def _load(self, product: str) -> Loaded:
        self._clock.spend(self._times.load_s)
        self._spent.load_s += self._times.load_s
        self._spent.loads += 1
        return Loaded(self._groups[product])
