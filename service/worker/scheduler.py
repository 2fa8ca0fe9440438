"""Who may come in, who takes a lane, whose turn it is: plain decisions over names. No tensor, no Redis, no clock.

A job moves through four places, always forwards::

    PREPARING  its image is being fetched and decoded
    READY      waits for a free lane
    WALKING    holds a lane and is denoised step by step
    LEAVING    its pictures and result are being written

A *group* is a set of lanes that share one denoiser, and so share its calls. All groups together have `lanes` lanes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
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
        inside = self._count(Place.PREPARING) + self._count(Place.READY) + self._count(Place.WALKING)
        return max(0, self.lanes + self._buffer - inside)

    def claimed(self, job: str, *, alone: bool = False) -> None:
        """A job came in; `alone`: nothing else may run beside it, because it is suspected of killing its worker."""
        if job in self._jobs:
            raise ValueError(f"job {job} is already here, {self._jobs[job].place.name.lower()}")
        if alone and self._jobs:
            raise ValueError(f"job {job} must run alone, but {len(self._jobs)} jobs are here: let them leave first")
        self._jobs[job] = Entry(Place.PREPARING, alone)

    def prepared(self, job: str, group: str) -> None:
        """A job's image is decoded; it may take a lane of this group."""
        self._move(job, Place.PREPARING, Place.READY, group)

    def admit(self) -> tuple[str, ...]:
        """The jobs that take a lane now, the longest waiting first; they count as walking from here on."""
        free = self.lanes - self._count(Place.WALKING)
        entering = tuple(job for job, entry in self._jobs.items() if entry.place is Place.READY)[: max(0, free)]
        for job in entering:
            self._move(job, Place.READY, Place.WALKING, self._jobs[job].group)
        return entering

    def turn(self) -> Turn | None:
        """The next step: every walking job of the group that has waited longest; None when nobody walks."""
        groups: dict[str, list[str]] = {}
        for job, entry in self._jobs.items():
            if entry.place is Place.WALKING and entry.group is not None:
                groups.setdefault(entry.group, []).append(job)
        if not groups:
            return None
        group = min(groups, key=lambda name: self._order.get(name, 0))
        self._turns += 1
        self._order = {name: turn for name, turn in self._order.items() if name in groups} | {group: self._turns}
        return Turn(group, tuple(groups[group]))

    def left(self, job: str) -> None:
        """A job has given back its lane (or never needed one): its result is being written."""
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

    def _move(self, job: str, origin: Place, target: Place, group: str | None) -> None:
        entry = self._jobs[job]
        if entry.place is not origin:
            raise ValueError(f"job {job} is {entry.place.name.lower()}, not {origin.name.lower()}")
        self._jobs[job] = Entry(target, entry.alone, group)
