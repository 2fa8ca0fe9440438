"""The plan of a rolling run, and its figures."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass

from service.contract import State

NO_WORKER_ALERT = "GladNoWorker"
ROLLED = ("worker-cpu-1", "worker-cpu-2", "api-1", "api-2", "redis-1", "prometheus-1")
OURS = ("worker-cpu-1", "worker-cpu-2", "api-1", "api-2")
"""Those that have a version, in the order of an upgrade: who reads a job is changed before who writes it."""
PRODUCT, SLOW_PRODUCT = "quick", "bracket"
"""A toy, for many inspections in a short time, and the shipped one: who waits for that is under way for a while."""
HOWS = ("restart", "recreate")
OLDER, NEWER = "older", "newer"
ACTIVATE, ROLL_BACK = "activate", "rollback"
"""What is done to the product's bundles meanwhile: a new version, and the way back."""


@dataclass(frozen=True)
class RollingTrial:
    """The load, and what is restarted."""

    inspections: int = 2000
    """At least; cameras post until the last restart is over."""
    cameras: int = 8
    rounds: int = 3
    """How often each process is restarted."""
    rolled: tuple[str, ...] = ROLLED
    between: int = 10
    """Inspections that end between two restarts."""
    scrape_every: str | None = None
    """Prometheus's interval; None: as shipped."""
    older: str | None = None
    """The version that all begin on: each round is an upgrade from it, and the way back. None: one version only."""
    newer: str | None = None
    """The version of this checkout, with `older`."""

    @property
    def moves(self) -> Iterator[tuple[str, str]]:
        """The restarts in their order, and how each goes.

        Between two versions: the one on which a process starts again, and what happens to a product's bundles.
        """
        for number in range(self.rounds):
            if self.older is None:
                restarts = [(name, HOWS[(number + place) % 2]) for place, name in enumerate(self.rolled)]
            else:
                restarts = [*((name, NEWER) for name in OURS), *((name, OLDER) for name in reversed(OURS))]
            half = len(restarts) // 2
            yield from (*restarts[:half], (PRODUCT, ACTIVATE), *restarts[half:], (PRODUCT, ROLL_BACK))


@dataclass(frozen=True)
class Roll:
    """One stop and start of a container."""

    container: str
    how: str
    """`recreate`: what is in no volume is gone; `newer`, `older`: as recreated, on that version."""
    status: int
    """Exit status; negative: killed by that signal."""
    stop_s: float
    grace_s: float
    back_s: float
    """From the start until its health check succeeds."""

    @property
    def proper(self) -> bool:
        """Whether it ended by itself, in time. An older version (one that a newer one follows) may end by SIGTERM."""
        status = 0 if self.how == NEWER and self.status == -signal.SIGTERM else self.status
        return status == 0 and self.stop_s < self.grace_s


@dataclass(frozen=True)
class RollingReport:
    """The figures of a trial."""

    accepted: int
    ended: int
    lost: int
    double: int
    states: dict[str, int]
    without_verdict: int
    left_in_queue: int
    taken_up_again: int
    """Inspections whose first claim was handed back, or whose reply was lost."""
    suspects: int
    """Inspections whose worker was taken for dead."""
    bundles: dict[str, int]
    """Product and version -> inspections by it."""
    repinned: int
    """Inspected by another bundle than was told at acceptance."""
    widest_score_spread: float
    unreadable: int
    """Results that the first API does not give at the end, with `older` one of that version."""
    events_read: int
    """By a client that follows /v1/events over all restarts."""
    events_missed: int
    events_twice: int
    answers: dict[str, int]
    unexpected: tuple[str, ...]
    """Answers that no absence explains."""
    waited: tuple[int, ...]
    """The answers to requests that waited for a result when their API was asked to stop."""
    rolls: tuple[Roll, ...]
    down: dict[str, int]
    """Exit statuses at the end."""
    alerts: dict[str, int]
    """Alert and state -> evaluations in which it was so."""
    fewest_workers_seen: int
    targets_up: int
    targets: int
    seconds: float

    @property
    def sound(self) -> bool:
        """Whether nothing is lost, double, left behind or refused without need, and no alert fired."""
        counts = (self.lost, self.double, self.left_in_queue, self.without_verdict, self.suspects, self.repinned)
        read = (self.events_missed, self.events_twice, self.unreadable, len(self.unexpected))
        return (
            not any(counts + read)
            and self.accepted == self.ended == self.states.get(State.DONE.value)
            and {200, 202} >= set(self.waited)
            and all(roll.proper for roll in self.rolls)
            and not any(self.down[name] for name in self.down if not self._older(name))
            and not any(alert.startswith(NO_WORKER_ALERT) for alert in self.alerts)
            and self.targets_up == self.targets
        )

    def _older(self, name: str) -> bool:
        """At the end this one runs on the older version."""
        return [roll.how for roll in self.rolls if roll.container == name][-1:] == [OLDER]
