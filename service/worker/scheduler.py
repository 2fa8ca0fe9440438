"""Who may come in, who takes a lane, whose turn it is: plain decisions over names. No tensor, no Redis, no clock.

A job moves through four places, always forwards::

    PREPARING  its image is being fetched and decoded
    READY      waits for a free lane
    WALKING    its tiles hold lanes, and are denoised step by step, or wait for more
    LEAVING    its pictures and result are being written

An image is one tile or many. Each takes a lane; the job walks from its first tile's entry to its last one's end.

A *group* is a set of lanes that share one denoiser, and so share its calls. All groups together have `lanes` lanes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum, auto


class Place(Enum):
    """Where a job stands inside the worker."""

    PREPARING = auto()
    READY = auto()
    WALKING = auto()
    LEAVING = auto()


@dataclass(frozen=True)
class Entry:
    """One job as the scheduler sees it."""

    place: Place
    alone: bool
    group: str | None = None
    waiting: int = 0
    """Tiles that have no lane yet; an untiled image is one."""
    walking: int = 0
    """Tiles that hold a lane."""


@dataclass(frozen=True)
class Turn:
    """One step to take: these jobs, all of this group."""

    group: str
    jobs: tuple[str, ...]


class Scheduler:
    """Keeps the order of the house. Jobs are known by name; names are unique."""

    def __init__(self, lanes: int, buffer: int, leaving: int) -> None:
        """`lanes`: images denoised at a time. `buffer`: images decoded ahead. `leaving`: results written at a time."""
        for name, value, least in (("lanes", lanes, 1), ("buffer", buffer, 0), ("leaving", leaving, 1)):
            if value < least:
                raise ValueError(f"{name} is {value}; it must be at least {least}")
        self.lanes, self._buffer, self._leaving = lanes, buffer, leaving
        self._jobs: dict[str, Entry] = {}
        self._order: dict[str, int] = {}
        self._turns = 0

    def room(self) -> int:
        """How many more jobs to claim: the free lanes and the decode buffer; none while a suspect has the house alone.

        Also none while too many results wait to be written: a slow disk slows the claims, never the memory.
        """
        if any(entry.alone for entry in self._jobs.values()) or self._count(Place.LEAVING) >= self._leaving:
            return 0
        inside = sum(max(1, entry.walking) for entry in self._jobs.values() if entry.place is not Place.LEAVING)
        return max(0, self.lanes + self._buffer - inside)

    def claimed(self, job: str, *, alone: bool = False) -> None:
        """A job came in; `alone`: nothing else may run beside it, because it is suspected of killing its worker."""
        if job in self._jobs:
            raise ValueError(f"job {job} is already here, {self._jobs[job].place.name.lower()}")
        if alone and self._jobs:
            raise ValueError(f"job {job} must run alone, but {len(self._jobs)} jobs are here: let them leave first")
        self._jobs[job] = Entry(Place.PREPARING, alone)

    def prepared(self, job: str, group: str, tiles: int = 1) -> None:
        """A job's image is decoded; each of its tiles may take a lane of this group."""
        entry = self._jobs[job]
        if entry.place is not Place.PREPARING:
            raise ValueError(f"job {job} is {entry.place.name.lower()}, not preparing")
        self._jobs[job] = replace(entry, place=Place.READY, group=group, waiting=tiles)

    def admit(self) -> tuple[str, ...]:
        """The jobs that take a lane now, once for each lane that they take; they count as walking from here on.

        A free lane goes to the job with the fewest, of those the longest waiting: an image of many tiles never holds up
        an image of one, and never stands still for it.
        """
        entering = []
        for _ in range(self.lanes - self.walking):
            waiting = [job for job, entry in self._jobs.items() if entry.waiting]
            if not waiting:
                break
            job = min(waiting, key=lambda name: self._jobs[name].walking)
            entry = self._jobs[job]
            self._jobs[job] = replace(entry, place=Place.WALKING, waiting=entry.waiting - 1, walking=entry.walking + 1)
            entering.append(job)
        return tuple(entering)

    def freed(self, job: str) -> None:
        """One of a job's tiles has given back its lane; others are still to come."""
        entry = self._jobs[job]
        if entry.walking < 1:
            raise ValueError(f"job {job} holds no lane to give back")
        self._jobs[job] = replace(entry, walking=entry.walking - 1)

    @property
    def walking(self) -> int:
        """Lanes that are taken."""
        return sum(entry.walking for entry in self._jobs.values())

    def turn(self) -> Turn | None:
        """The next step: every walking job of the group that has waited longest; None when nobody walks."""
        groups: dict[str, list[str]] = {}
        for job, entry in self._jobs.items():
            if entry.walking and entry.group is not None:
                groups.setdefault(entry.group, []).append(job)
        if not groups:
            return None
        group = min(groups, key=lambda name: self._order.get(name, 0))
        self._turns += 1
        self._order = {name: turn for name, turn in self._order.items() if name in groups} | {group: self._turns}
        return Turn(group, tuple(groups[group]))

    def left(self, job: str) -> None:
        """A job has given back its lanes (or never needed one): its result is being written."""
        self._jobs[job] = Entry(Place.LEAVING, self._jobs[job].alone, self._jobs[job].group)

    def gone(self, job: str) -> None:
        """A job is finished, handed back or lost: it is no longer here."""
        self._jobs.pop(job, None)

    def place(self, job: str) -> Place | None:
        """Where a job stands; None: not here."""
        entry = self._jobs.get(job)
        return entry.place if entry else None

    def jobs(self, places: Iterable[Place] = Place) -> tuple[str, ...]:
        """The jobs in these places, in the order they came in."""
        wanted = frozenset(places)
        return tuple(job for job, entry in self._jobs.items() if entry.place in wanted)

    @property
    def empty(self) -> bool:
        """Nobody is here."""
        return not self._jobs

    def _count(self, place: Place) -> int:
        return sum(entry.place is place for entry in self._jobs.values())
