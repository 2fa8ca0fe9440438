"""What one would plan without a simulation: images a second, times the device time of a mean image alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from bench.plant.lines import Outcomes, Plant
from bench.plant.simulation import Measured


def mean_nodes(plant: Plant, measured: Measured) -> int:
    """Rounded up; at least one."""
    return max(1, math.ceil(plant.images_per_s * mean_device_s(plant, measured)))


def mean_device_s(plant: Plant, measured: Measured, together: int = 1) -> float:
    """Of the mean image of this plant, among so many lanes all the way."""
    grid, share = measured.times.settings.grid, plant.habits.defect_share
    weighted = [
        mean_comparisons(measured.outcomes[line.product.outcomes], grid, share) / line.takt_s for line in plant.lines
    ]
    return measured.times.device_s(sum(weighted) / plant.images_per_s, together)


def mean_comparisons(outcomes: Outcomes, grid: Sequence[int], defect_share: float) -> float:
    """A lane compares at every step of the grid down to the one at which it triggers."""

    def mean(triggers: Sequence[int]) -> float:
        return fmean(sum(step >= trigger for step in grid) for trigger in triggers)

    return (1 - defect_share) * mean(outcomes.good) + defect_share * mean(outcomes.defect)
