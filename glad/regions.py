"""Defect regions: connected areas of a map over the pixel threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from glad.images.placement import Box, Placement


@dataclass(frozen=True)
class DefectRegion:
    """One connected area of a map at or above the pixel threshold."""

    box: Box
    """x, y, width, height in pixels."""
    area_px: int
    peak: float


def defect_regions(
    found: NDArray[np.float32], threshold: float, placement: Placement | None = None
) -> list[DefectRegion]:
    """Connected areas (diagonals too) of a map (H, W) at or above the threshold, the highest peak first.

    With the placement whose `restore` made the map, boxes and areas are in pixels of the upright original; else in the
    map's.
    """
    labels, _ = ndimage.label(found >= threshold, structure=np.ones((3, 3), dtype=np.int8))
    regions = []
    for index, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        inside = labels[rows, columns] == index
        box = (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
        area, peak = int(inside.sum()), float(found[rows, columns][inside].max())
        if placement is not None:
            box, area = placement.to_original(box), placement.area_in_original(area)
        regions.append(DefectRegion(box, area, peak))
    return sorted(regions, key=lambda region: (-region.peak, region.box))
