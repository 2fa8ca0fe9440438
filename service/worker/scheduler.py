"""Decides which jobs are claimed, which take a lane and which group steps next, in plain Python: no tensor, Redis or
clock.

A job moves through four stages, always forwards (the engine's docstring shows who holds what in each)::

    DECODING   its image is being fetched and decoded
    READY      it waits for a free lane
    DENOISING  its tiles hold lanes and are denoised step by step, or wait for more lanes
    STORING    its pictures and result are being written

An image is one tile or many. Each tile takes a lane; a job is DENOISING from its first tile's start to its last one's
end. A *group* is a set of lanes that share one denoiser, and so share its calls. All groups together have `lanes`
lanes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto


class JobStage(Enum):
    """The stage of a job inside the worker."""

    DECODING = auto()
    READY = auto()
    DENOISING = auto()
    STORING = auto()


@dataclass(frozen=True)
class ScheduledJob:
    """A job as the scheduler sees it."""

    stage: JobStage
    alone: bool
    group: str | None = None
    tiles_waiting: int = 0
    """Tiles that have no lane yet; an untiled image is one tile."""
    lanes: int = 0
    """Lanes that its tiles hold."""


@dataclass(frozen=True)
class Turn:
    """The next step to take: these jobs, all of this group."""

    group: str
    jobs: tuple[str, ...]


class Scheduler:
    """Keeps the stage of every job in flight. Jobs are known by unique names."""

    def __init__(self, lanes: int, buffer: int, storing: int) -> None:
        """Start without jobs.

        Args:
            lanes: tiles denoised at a time.
            buffer: images decoded ahead of a free lane.
            storing: results that may wait to be written before claims stop.

        Raises:
            ValueError: if a size is too small to work with.
        """
        for name, value, least in (("lanes", lanes, 1), ("buffer", buffer, 0), ("storing", storing, 1)):
            if value < least:
                raise ValueError(f"{name} is {value}; it must be at least {least}")
        self.lanes, self._buffer, self._storing = lanes, buffer, storing
        self._jobs: dict[str, ScheduledJob] = {}
        self._last_turns: dict[str, int] = {}
        self._turns = 0

    def claimable(self) -> int:
        """Return how many more jobs to claim: the free lanes and the decode buffer.

        0 while a suspect runs, which must be alone, and while too many results wait to be written: a slow disk slows
        the claims down instead of filling the memory.
        """
        storing = taken = 0
        for job in self._jobs.values():
            if job.alone:
                return 0
            if job.stage is JobStage.STORING:
                storing += 1
            else:
                taken += max(1, job.lanes)
        return 0 if storing >= self._storing else max(0, self.lanes + self._buffer - taken)

    def add(self, job: str, *, alone: bool = False) -> None:
        """Take in a claimed job as DECODING.

        Args:
            alone: nothing else may run beside it, because it is suspected of killing its worker.

        Raises:
            ValueError: if it is here already, or must be alone and is not.
        """
        if job in self._jobs:
            raise ValueError(f"job {job} is already in flight, {self._jobs[job].stage.name.lower()}")
        if alone and self._jobs:
            raise ValueError(f"job {job} must run alone, but {len(self._jobs)} jobs are in flight: finish them first")
        self._jobs[job] = ScheduledJob(JobStage.DECODING, alone)

    def mark_ready(self, job: str, group: str, tiles: int = 1) -> None:
        """Record that a job's image is decoded; each of its tiles may take a lane of this group.

        Raises:
            ValueError: if the job is in another stage than DECODING.
        """
        scheduled = self._jobs[job]
        if scheduled.stage is not JobStage.DECODING:
            raise ValueError(f"job {job} is {scheduled.stage.name.lower()}, not decoding")
        self._jobs[job] = replace(scheduled, stage=JobStage.READY, group=group, tiles_waiting=tiles)

    def assign_lane(self) -> str | None:
        """Return the job that takes a free lane now, as DENOISING from here on; None: no lane is free, or no job waits.

        A free lane goes to the job with the fewest, of those the longest waiting: an image of many tiles never holds
        up an image of one, and never stands still for it.
        """
        waiting = [job for job, scheduled in self._jobs.items() if scheduled.tiles_waiting]
        if not waiting or self.occupied_lanes >= self.lanes:
            return None
        job = min(waiting, key=lambda name: self._jobs[name].lanes)  # min keeps the first, the longest waiting
        scheduled = self._jobs[job]
        self._jobs[job] = replace(
            scheduled,
            stage=JobStage.DENOISING,
            tiles_waiting=scheduled.tiles_waiting - 1,
            lanes=scheduled.lanes + 1,
        )
        return job

    def free_lane(self, job: str) -> None:
        """Record that one of a job's tiles has given back its lane, with other tiles still to come.

        Raises:
            ValueError: if the job holds no lane.
        """
        scheduled = self._jobs[job]
        if scheduled.lanes < 1:
            raise ValueError(f"job {job} holds no lane to give back")
        self._jobs[job] = replace(scheduled, lanes=scheduled.lanes - 1)

    @property
    def occupied_lanes(self) -> int:
        """Lanes that are taken."""
        return sum(scheduled.lanes for scheduled in self._jobs.values())

    def next_turn(self) -> Turn | None:
        """Return the next step: every job with lanes of the group that has waited longest; None without such a job."""
        groups: dict[str, list[str]] = {}
        for job, scheduled in self._jobs.items():
            if scheduled.lanes and scheduled.group is not None:
                groups.setdefault(scheduled.group, []).append(job)
        if not groups:
            return None
        group = min(groups, key=lambda name: self._last_turns.get(name, 0))
        self._turns += 1
        # Groups that have no lane any more are dropped, so that the table does not grow with every bundle ever served.
        self._last_turns = {name: turn for name, turn in self._last_turns.items() if name in groups}
        self._last_turns[group] = self._turns
        return Turn(group, tuple(groups[group]))

    def mark_storing(self, job: str) -> None:
        """Record that a job has given back its lanes, or never needed one: its result is being written."""
        self._jobs[job] = ScheduledJob(JobStage.STORING, self._jobs[job].alone, self._jobs[job].group)

    def remove(self, job: str) -> None:
        """Forget a job that is finished, handed back or lost, if it is here."""
        self._jobs.pop(job, None)

    def stage(self, job: str) -> JobStage | None:
        """Return a job's stage; None if it is not in flight."""
        scheduled = self._jobs.get(job)
        return scheduled.stage if scheduled else None

    def jobs_in(self, *stages: JobStage) -> tuple[str, ...]:
        """Return the jobs in these stages, in the order they were claimed."""
        return tuple(job for job, scheduled in self._jobs.items() if scheduled.stage in stages)

    def stages(self) -> frozenset[JobStage]:
        """Return the stages in which there is any job."""
        return frozenset(scheduled.stage for scheduled in self._jobs.values())

    @property
    def empty(self) -> bool:
        """Whether no job is in flight."""
        return not self._jobs
