"""The plant: lines with cameras, what they make, and when each takes its pictures. A seeded scenario."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

from service.contract import Priority

TAKTS_S = ((0.5, 2), (1.0, 6), (2.0, 12), (5.0, 30), (10.0, 30), (30.0, 20))
"""Seconds per part, and how many of a hundred lines have it."""


@dataclass(frozen=True)
class Product:
    """What a line makes."""

    name: str
    group: str
    """Whose lanes its images may share: the model's. Products of one multi-class model have one group."""
    outcomes: str
    """Whose measured denoising steps its images take: see `Outcomes`."""


@dataclass(frozen=True)
class Line:
    """One camera over one line."""

    station: str
    product: Product
    takt_s: float
    priority: Priority
    deadline_ms: int | None


@dataclass(frozen=True)
class Picture:
    """One picture that a camera takes."""

    at_s: float
    denoising_step: int
    """At which its image will trigger."""


@dataclass(frozen=True)
class Habits:
    """How lines run."""

    jitter: float = 0.1
    """Standard deviation of the time between two parts, in takts."""
    stop_every_s: float = 1200.0
    """Mean running time between two stops of a line; exponential."""
    stop_s: float = 60.0
    """Mean length of a stop; exponential."""
    catch_up: float = 1.5
    """After a stop a line runs so many times as fast, until it has made up for the stop."""
    defect_share: float = 0.02
    """Of all parts."""


@dataclass(frozen=True)
class Plant:
    """Everything that takes pictures."""

    lines: tuple[Line, ...]
    habits: Habits = field(default_factory=Habits)

    @property
    def products(self) -> tuple[Product, ...]:
        """Each once, by name."""
        return tuple(sorted({line.product for line in self.lines}, key=lambda product: product.name))

    @property
    def images_per_s(self) -> float:
        """All lines at their takt."""
        return sum(1 / line.takt_s for line in self.lines)


def mixed_plant(
    cameras: int,
    products: int,
    outcomes: Sequence[str],
    *,
    sharing: int,
    deadline_s: float,
    habits: Habits | None = None,
    seed: int = 0,
) -> Plant:
    """Lines of mixed takt over the products. Every tenth line is of high priority, every fourth has a deadline.

    sharing: so many of the products are classes of one model, all others have a model of their own. ValueError.
    """
    if not 1 <= products <= cameras or not 0 <= sharing <= products:
        raise ValueError(
            f"{cameras} cameras, {products} products, {sharing} of them in one model: there must be a camera for each "
            "product, and no more can share than there are"
        )
    rng = random.Random(f"plant {seed}")
    made = [
        Product(f"product-{number:02}", "shared" if number < sharing else f"own-{number:02}", kind)
        for number, kind in enumerate(islice(cycle(outcomes), products))
    ]
    hundred = [takt for takt, share in TAKTS_S for _ in range(share)]
    takts = [hundred[number * len(hundred) // cameras] for number in range(cameras)]
    rng.shuffle(takts)
    lines = [
        Line(
            station=f"line-{number:03}",
            product=made[number % products],
            takt_s=takt,
            priority=Priority.HIGH if number % 10 == 9 else Priority.NORMAL,
            deadline_ms=round(deadline_s * 1000) if number % 4 == 3 else None,
        )
        for number, takt in enumerate(takts)
    ]
    return Plant(tuple(lines), habits or Habits())


def shots(line: Line, habits: Habits, seed: int, until_s: float) -> Iterator[float]:
    """When the line's camera takes its pictures, s from the start of the shift; all lines begin within a takt of it."""
    rng = random.Random(f"shots {seed} {line.station}")
    at = rng.uniform(0, line.takt_s)
    stops_at, owed = rng.expovariate(1 / habits.stop_every_s), 0.0
    while at < until_s:
        yield at
        gap = line.takt_s * max(0.1, rng.gauss(1, habits.jitter))
        if owed > 0:
            owed -= gap * (1 - 1 / habits.catch_up)
            gap /= habits.catch_up
        at += gap
        if at > stops_at:
            stop = rng.expovariate(1 / habits.stop_s)
            at, owed = at + stop, owed + stop
            stops_at = at + rng.expovariate(1 / habits.stop_every_s)


@dataclass(frozen=True)
class Outcomes:
    """At which denoising steps the images of a measured product triggered."""

    source: str
    good: tuple[int, ...]
    defect: tuple[int, ...]

    def draw(self, rng: random.Random, defect_share: float) -> int:
        """The denoising step of one part's image."""
        return rng.choice(self.defect if rng.random() < defect_share else self.good)


def read_outcomes(path: Path) -> Outcomes:
    """Of the JSON that `glad evaluate --json` wrote. ValueError for another file, OSError."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        steps = {
            kind: tuple(row["denoising_step"] for row in rows if (row["defect"] == "good") is kind)
            for kind in (True, False)
        }
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no evaluation ({error!r}): give what `glad evaluate --json` wrote") from error
    if not steps[True] or not steps[False]:
        raise ValueError(
            f"{path} has {len(steps[True])} good and {len(steps[False])} defective images: both are needed"
        )
    return Outcomes(path.name, steps[True], steps[False])


def pictures(line: Line, habits: Habits, outcomes: Outcomes, seed: int, until_s: float) -> Iterator[Picture]:
    """Of one shift of the line."""
    rng = random.Random(f"parts {seed} {line.station}")
    for at in shots(line, habits, seed, until_s):
        yield Picture(at, outcomes.draw(rng, habits.defect_share))
