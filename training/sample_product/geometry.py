"""The layout of the part in part coordinates, signed distances and the pose.

Part coordinates are pixels at nominal scale, the origin at the plate's centre, x to the right and y down. A signed
distance is negative inside a shape. All arrays are float32.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE = 512

Field = NDArray[np.floating[Any]]  # float32 at run time: NumPy's stubs widen it beside a Python number


@dataclass(frozen=True)
class Box:
    """A rounded rectangle: centre, half sizes and corner radius in pixels."""

    x: float
    y: float
    half_width: float
    half_height: float
    radius: float = 0.0


@dataclass(frozen=True)
class Disc:
    """A circle: centre and radius in pixels."""

    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Pose:
    """The position of a part under the camera: shift in pixels, rotation in radians, scale as a factor."""

    shift_x: float = 0.0
    shift_y: float = 0.0
    angle: float = 0.0
    scale: float = 1.0

    def to_part(self, x: Field, y: Field) -> tuple[Field, Field]:
        """Return part coordinates for image coordinates (pixels from the image's centre)."""
        cos, sin = np.cos(self.angle) / self.scale, np.sin(self.angle) / self.scale
        moved_x, moved_y = x - np.float32(self.shift_x), y - np.float32(self.shift_y)
        part_x: Field = np.float32(cos) * moved_x + np.float32(sin) * moved_y
        part_y: Field = np.float32(cos) * moved_y - np.float32(sin) * moved_x
        return part_x, part_y


@dataclass(frozen=True)
class Grid:
    """Part coordinates of every pixel, or of those in a window of the image. x, y: (h, w)."""

    x: Field
    y: Field
    rows: slice
    columns: slice

    def around(self, box: Box, margin: float) -> "Grid":
        """Return the window that holds the box and a margin (pixels), whatever the pose within the camera's limits."""
        centre_x, centre_y = box.x + SIDE / 2, box.y + SIDE / 2
        reach_x, reach_y = box.half_width + margin + POSE_REACH, box.half_height + margin + POSE_REACH
        columns = slice(max(0, int(centre_x - reach_x)), min(SIDE, int(centre_x + reach_x) + 1))
        rows = slice(max(0, int(centre_y - reach_y)), min(SIDE, int(centre_y + reach_y) + 1))
        return Grid(self.x[rows, columns], self.y[rows, columns], rows, columns)


POSE_REACH = 10.0  # no point of the plate moves farther than this within ±4 px, ±1° and ±0.5 %

PLATE = Box(0, 0, 218, 200, 30)
LABEL = Box(-30, -84, 104, 56, 5)
POCKET = Box(40, 99, 108, 60, 10)
HOUSING = Box(40, 70, 102, 27, 5)
BORE = Disc(-128, 66, 30)
COUNTERBORE = Disc(-128, 66, 39)
SLOT = Box(144, -70, 13, 46, 13)
DOWELS = (Disc(-190, -6, 7), Disc(192, 18, 7))
SCREWS = ((-178.0, -160.0), (178.0, -160.0), (-178.0, 160.0), (178.0, 160.0))
WASHER_RADIUS = 28.0
HEAD_RADIUS = 20.0
THREAD_RADIUS = 11.0
PIN_X = tuple(40.0 + 24.0 * (index - 3.5) for index in range(8))
PIN_TOP = 95.0
PIN_LENGTH = 50.0
PIN_HALF_WIDTH = 4.6


@cache
def image_axes() -> tuple[Field, Field]:
    """Return coordinates of pixel centres from the image's centre, x: (1, SIDE) and y: (SIDE, 1)."""
    axis = np.arange(SIDE, dtype=np.float32) - np.float32((SIDE - 1) / 2)
    return axis[None, :], axis[:, None]


def grid_of(pose: Pose) -> Grid:
    """Return part coordinates of the whole image under a pose."""
    x, y = pose.to_part(*image_axes())
    return Grid(x, y, slice(0, SIDE), slice(0, SIDE))


def length(x: Field, y: Field) -> Field:
    """Return the length of vectors (x, y): np.hypot, four times faster, for lengths that cannot overflow."""
    long: Field = np.sqrt(x * x + y * y)
    return long


def box_distance(x: Field, y: Field, box: Box) -> Field:
    """Return signed distance to a rounded rectangle."""
    across = np.abs(x - np.float32(box.x)) - np.float32(box.half_width - box.radius)
    along = np.abs(y - np.float32(box.y)) - np.float32(box.half_height - box.radius)
    outside = length(np.maximum(across, 0), np.maximum(along, 0))
    distance: Field = outside + np.minimum(np.maximum(across, along), 0) - np.float32(box.radius)
    return distance


def disc_distance(x: Field, y: Field, disc: Disc) -> Field:
    """Return signed distance to a circle."""
    distance: Field = length(x - np.float32(disc.x), y - np.float32(disc.y)) - np.float32(disc.radius)
    return distance


def hexagon_distance(x: Field, y: Field, apothem: float, angle: float) -> Field:
    """Return distance to the nearest side line of a regular hexagon at the origin, rotated by angle (radians)."""
    sides = [
        np.abs(np.float32(np.cos(angle + step)) * x + np.float32(np.sin(angle + step)) * y)
        for step in (0.0, np.pi / 3, 2 * np.pi / 3)
    ]
    distance: Field = np.maximum(np.maximum(sides[0], sides[1]), sides[2]) - np.float32(apothem)
    return distance


def coverage(distance: Field, softness: float = 1.0) -> Field:
    """Return how much of each pixel a shape covers, in [0, 1]; softness is the width of the edge in pixels."""
    covered: Field = np.clip(np.float32(0.5) - distance / np.float32(softness), 0, 1)
    return covered


def smooth_step(value: Field) -> Field:
    """Return 0 below 0, 1 above 1, a cubic between."""
    clipped = np.clip(value, 0, 1)
    step: Field = clipped * clipped * (3 - 2 * clipped)
    return step


def plate_distance(x: Field, y: Field) -> Field:
    """Return signed distance to the plate's metal, its through holes taken out."""
    distance = box_distance(x, y, PLATE)
    for hole in (BORE, *DOWELS):
        distance = np.maximum(distance, -disc_distance(x, y, hole))
    return np.maximum(distance, -box_distance(x, y, SLOT))


def bare_metal_distance(x: Field, y: Field) -> Field:
    """Return signed distance to the plate's face that is seen bare: no hole, label, connector or washer there."""
    distance = np.maximum(plate_distance(x, y), -disc_distance(x, y, COUNTERBORE))
    for box in (LABEL, POCKET):
        distance = np.maximum(distance, -box_distance(x, y, box))
    for screw_x, screw_y in SCREWS:
        distance = np.maximum(distance, -disc_distance(x, y, Disc(screw_x, screw_y, WASHER_RADIUS)))
    return distance


def pin_distance(x: Field, y: Field, pin: int, bend: float) -> Field:
    """Return signed distance (across the pin) to one pin whose tip stands bend pixels beside its place."""
    along = (y - np.float32(PIN_TOP)) / np.float32(PIN_LENGTH)
    centre = np.float32(PIN_X[pin]) + np.float32(bend) * np.clip(along, 0, 1.1) ** np.float32(1.5)
    taper = np.float32(2.4) * smooth_step((along - np.float32(0.82)) / np.float32(0.18))
    across = np.abs(x - centre) - (np.float32(PIN_HALF_WIDTH) - taper)
    ends = np.abs(y - np.float32(PIN_TOP + PIN_LENGTH / 2)) - np.float32(PIN_LENGTH / 2)
    distance: Field = np.maximum(across, ends)
    return distance


def pin_window(pin: int) -> Box:
    """Return a box that holds the pin with its largest bend and its shadow."""
    return Box(PIN_X[pin], PIN_TOP + PIN_LENGTH / 2, 26, PIN_LENGTH / 2 + 6)


def screw_window(screw: int) -> Box:
    """Return a box that holds the washer and its shadow."""
    x, y = SCREWS[screw]
    return Box(x, y, WASHER_RADIUS + 10, WASHER_RADIUS + 10)
