"""One shift run and summed up; and the search for the smallest number of nodes that keeps every takt."""

from __future__ import annotations

from collections.abc import Callable

from bench.plant.figures import PlantFigures, figures
from bench.plant.lines import Plant
from bench.plant.simulation import Fleet, Measured, Shift, Story, simulate
from training.progress import Progress


def run_plant(
    plant: Plant, fleet: Fleet, shift: Shift, measured: Measured, *, gate_s: float, progress: Progress
) -> tuple[Story, PlantFigures]:
    """One shift, and what it came to."""

    def show(done: int, total: int) -> None:
        progress(f"{fleet.nodes} nodes", done, total)

    story = simulate(plant, fleet, shift, measured, show)
    return story, figures(plant, fleet, shift, measured, story, gate_s=gate_s)


def smallest(fits: Callable[[int], bool], first: int, least: int, most: int) -> int | None:
    """The smallest number that fits, if all above a fitting one fit too: up by a quarter at a time, then halving."""
    low, high = least - 1, first
    while not fits(high):
        if high >= most:
            return None
        low, high = high, min(most, high + max(1, high // 4))
    while high - low > 1:
        middle = (low + high) // 2
        if middle >= least and fits(middle):
            high = middle
        else:
            low = middle
    return high
