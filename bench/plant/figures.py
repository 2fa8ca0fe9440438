"""What a shift came to: time to verdict against takt, late parts, lanes, loads, recovery, fairness."""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from statistics import fmean, median

from bench.plant.arithmetic import mean_nodes
from bench.plant.device import Spent
from bench.plant.lines import Plant
from bench.plant.simulation import End, Fleet, Measured, Shift, Story
from service.contract import State


@dataclass(frozen=True)
class Times:
    """Seconds from the picture to the end, of so many parts."""

    parts: int
    p50_s: float
    p95_s: float
    p99_s: float

    @classmethod
    def of(cls, ends: Sequence[End]) -> Times:
        """Of these parts."""
        return cls.of_seconds([end.took_s for end in ends])

    @classmethod
    def of_seconds(cls, seconds: Sequence[float]) -> Times:
        """By the nearest rank; nan for no parts."""
        took = sorted(seconds)
        return cls(len(took), *(_rank(took, share) for share in (0.50, 0.95, 0.99)))


@dataclass(frozen=True)
class TaktFigures:
    """All lines of one takt together."""

    takt_s: float
    lines: int
    times: Times
    allowed_s: float
    """The takt, or the way to the gate where that takes longer."""
    late: float
    """Share of the pictures taken that had no verdict by then: late, expired, or refused."""
    over_takt: float
    """Share of the parts whose verdict took longer than a takt."""

    @property
    def in_time(self) -> bool:
        """p99 is within what is allowed."""
        return self.times.p99_s <= self.allowed_s


@dataclass(frozen=True)
class PlantFigures:
    """A whole shift."""

    nodes: int
    images_per_s: float
    """That were taken."""
    accepted: int
    refused: dict[str, int]
    done: int
    expired: int
    unended: int
    """Accepted without an end. It must be 0."""
    double: int
    """Ends of one part beyond the first. It must be 0."""
    takts: tuple[TaktFigures, ...]
    priorities: dict[str, Times]
    product_mean_s: dict[str, float]
    """Mean time to verdict by product."""
    line_p99_s: dict[str, float]
    lane_use: float
    """Occupied lanes over all lanes, while pictures were taken."""
    device_use: float
    """Time in model calls over all time of all nodes."""
    load_share: float
    """Time in loading bundles, likewise."""
    loads: int
    claims: int
    """Calls for jobs that gave some."""
    choices: int
    """Of these, the ones that left others to wait; those of a lost node count as waiting."""
    lanes_per_step: float
    held_at_loss: int
    recovery_s: float | None
    """From the loss until all that the lost node held had ended; None where nothing was lost."""
    mean_nodes: int
    """As many as the mean device time asks for: see `bench.plant.arithmetic`."""

    @property
    def in_time(self) -> bool:
        """Every takt is."""
        return all(takt.in_time for takt in self.takts)


def figures(
    plant: Plant, fleet: Fleet, shift: Shift, measured: Measured, story: Story, *, gate_s: float = 0.0
) -> PlantFigures:
    """Sums the story up. `gate_s`: how long a part is on its way from the camera to where its verdict is needed."""
    spent: Spent = reduce(operator.add, story.spent.values(), Spent())
    node_s = fleet.nodes * story.seconds
    counted = Counter(end.part.id for end in story.ends)
    done = [end for end in story.ends if end.state is State.DONE]
    return PlantFigures(
        nodes=fleet.nodes,
        images_per_s=(len(story.accepted) + len(story.refused)) / shift.seconds,
        accepted=len(story.accepted),
        refused=dict(Counter(outcome.value for _, outcome in story.refused)),
        done=len(done),
        expired=sum(end.state is State.EXPIRED for end in story.ends),
        unended=sum(part.id not in counted for part in story.accepted),
        double=sum(count - 1 for count in counted.values()),
        takts=tuple(_takt(plant, story, takt, gate_s) for takt in sorted({line.takt_s for line in plant.lines})),
        priorities=_by(done, lambda end: end.part.line.priority.value),
        product_mean_s=_means(done),
        line_p99_s={name: own.p99_s for name, own in _by(done, lambda end: end.part.line.station).items()},
        lane_use=spent.lane_s / (node_s * fleet.settings.lanes),
        device_use=spent.device_s / node_s,
        load_share=spent.load_s / node_s,
        loads=spent.loads,
        claims=spent.claims,
        choices=spent.choices,
        lanes_per_step=spent.stepped_lanes / spent.steps if spent.steps else math.nan,
        held_at_loss=len(story.held_at_loss),
        recovery_s=_recovery(story, shift),
        mean_nodes=mean_nodes(plant, measured),
    )


def fairness(found: PlantFigures) -> float:
    """The slowest product's mean time to verdict over the middle one's."""
    means = list(found.product_mean_s.values())
    return max(means) / median(means)


def _takt(plant: Plant, story: Story, takt_s: float, gate_s: float) -> TaktFigures:
    own = [end for end in story.ends if end.part.line.takt_s == takt_s]
    done = [end for end in own if end.state is State.DONE]
    refused = sum(part.line.takt_s == takt_s for part, _ in story.refused)
    allowed_s = max(takt_s, gate_s)
    taken = len(own) + refused
    return TaktFigures(
        takt_s=takt_s,
        lines=sum(line.takt_s == takt_s for line in plant.lines),
        times=Times.of(done),
        allowed_s=allowed_s,
        late=(taken - sum(end.took_s <= allowed_s for end in done)) / taken if taken else math.nan,
        over_takt=sum(end.took_s > takt_s for end in done) / len(done) if done else math.nan,
    )


def _by(ends: Sequence[End], name: Callable[[End], str]) -> dict[str, Times]:
    return {one: Times.of(own) for one, own in _sorted_by(ends, name).items()}


def _means(ends: Sequence[End]) -> dict[str, float]:
    own = _sorted_by(ends, lambda end: end.part.line.product.name)
    return {product: fmean(end.took_s for end in its) for product, its in own.items()}


def _sorted_by(ends: Sequence[End], name: Callable[[End], str]) -> dict[str, list[End]]:
    found: dict[str, list[End]] = {}
    for end in ends:
        found.setdefault(name(end), []).append(end)
    return dict(sorted(found.items()))


def _recovery(story: Story, shift: Shift) -> float | None:
    if shift.loss is None or not story.held_at_loss:
        return None
    return max(end.at_s for end in story.ends if end.part.id in story.held_at_loss) - shift.loss.at_s


def _rank(values: Sequence[float], share: float) -> float:
    """The nearest rank of sorted values."""
    return values[max(0, math.ceil(share * len(values)) - 1)] if values else math.nan
