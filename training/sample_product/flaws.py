"""The possible defects of a part: six kinds, how a seed draws one, and exactly which pixels it touches."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.sample_product.geometry import (
    LABEL,
    PIN_LENGTH,
    PIN_TOP,
    PIN_X,
    PLATE,
    POCKET,
    SCREWS,
    WASHER_RADIUS,
    Disc,
    Field,
    Grid,
    bare_metal_distance,
    box_distance,
    coverage,
    disc_distance,
    length,
    pin_distance,
    pin_window,
    plate_distance,
    screw_window,
    smooth_step,
)
from training.sample_product.label import GOOD_PRINT, INK_SCALE, WRONG_BANDS, WRONG_TYPES, Print, label_ink, other_label

DEFECTS: tuple[str, ...] = ("missing_screw", "scratch", "stain", "dent", "bent_pin", "wrong_label")
SEVERITIES = (1, 2, 3)

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Scratch:
    """A shallow arc through (x, y), pixels; bow is how far its ends leave the straight line."""

    x: float
    y: float
    angle: float
    half_length: float
    bow: float
    width: float


@dataclass(frozen=True)
class Dent:
    """A round depression, slightly oval: squash in [0.85, 1]; depth in pixels."""

    x: float
    y: float
    radius: float
    depth: float
    squash: float
    angle: float


@dataclass(frozen=True)
class Stain:
    """A translucent blob.

    waves: amplitude (of the radius) and phase (radians) of the outline's harmonics 2, 3, …; tint: what it lets through.
    """

    x: float
    y: float
    radius: float
    opacity: float
    tint: tuple[float, float, float]
    waves: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Flaws:
    """Everything in which a part departs from a good one. pin_bend: the sideways shift of each tip, pixels."""

    missing_screws: tuple[int, ...] = ()
    pin_bend: tuple[float, ...] = (0.0,) * len(PIN_X)
    scratch: Scratch | None = None
    dent: Dent | None = None
    stain: Stain | None = None
    label: Print = GOOD_PRINT


NO_FLAWS = Flaws()


def scratch_profile(x: Field, y: Field, scratch: Scratch) -> tuple[Field, Field]:
    """Return the signed distance across the scratch in half widths, and its strength in [0, 1].

    It fades at both ends and skips what lies lower or is covered: holes, counterbore, pocket, label, washers.
    """
    cos, sin = np.float32(np.cos(scratch.angle)), np.float32(np.sin(scratch.angle))
    from_x, from_y = x - np.float32(scratch.x), y - np.float32(scratch.y)
    along = (cos * from_x + sin * from_y) / np.float32(scratch.half_length)
    across = cos * from_y - sin * from_x - np.float32(scratch.bow) * (along * along - np.float32(0.5))
    slope = np.float32(2 * scratch.bow / scratch.half_length) * along
    distance: Field = across / np.sqrt(1 + slope * slope) / np.float32(scratch.width / 2)
    fading = smooth_step((1 - np.abs(along)) * np.float32(scratch.half_length / 8))
    return distance, fading * coverage(bare_metal_distance(x, y) + np.float32(0.5))


def dent_reach(x: Field, y: Field, dent: Dent) -> Field:
    """Return distance from the dent's centre as a fraction of its radius."""
    cos, sin = np.float32(np.cos(dent.angle)), np.float32(np.sin(dent.angle))
    from_x, from_y = x - np.float32(dent.x), y - np.float32(dent.y)
    reach: Field = length(cos * from_x + sin * from_y, (cos * from_y - sin * from_x) / np.float32(dent.squash))
    return reach / np.float32(dent.radius)


def dent_relief(x: Field, y: Field, dent: Dent) -> Field:
    """Return height change in pixels, at most 0 but for a thin raised lip; 0 outside the dent."""
    reach = dent_reach(x, y, dent)
    inside = np.clip(1 - reach * reach, 0, 1)
    relief: Field = np.float32(-dent.depth) * inside * inside * (1 - np.float32(1.15) * reach**6)
    return relief


def stain_opacity(x: Field, y: Field, stain: Stain) -> Field:
    """Return how much of the light the stain takes, in [0, opacity]; a darker rim, as drying oil leaves it."""
    from_x, from_y = x - np.float32(stain.x), y - np.float32(stain.y)
    angle = np.arctan2(from_y, from_x)
    edge = np.full_like(angle, stain.radius)
    for harmonic, (amplitude, phase) in enumerate(stain.waves, start=2):
        edge += np.float32(stain.radius * amplitude) * np.cos(np.float32(harmonic) * angle + np.float32(phase))
    depth = edge - length(from_x, from_y)
    covered = smooth_step(depth / np.float32(2.5 + 0.12 * stain.radius) + np.float32(0.5))
    rim = np.exp(-((depth - 2) ** 2) / np.float32(0.02 * stain.radius**2 + 2))
    opacity: Field = np.float32(stain.opacity) * covered * (np.float32(0.74) + np.float32(0.26) * rim)
    return opacity


def draw_flaws(defect: str, severity: int, rng: np.random.Generator) -> Flaws:
    """Draw one defect of a severity from its own random stream."""
    return _DRAWS[defect](severity, rng)


def _place(rng: np.random.Generator, fits: Callable[[float, float], bool]) -> tuple[float, float]:
    """Return a uniformly drawn place on the plate that fits, in part coordinates."""
    for _ in range(10_000):
        x = float(rng.uniform(-PLATE.half_width, PLATE.half_width))
        y = float(rng.uniform(-PLATE.half_height, PLATE.half_height))
        if fits(x, y):
            return x, y
    raise RuntimeError("no place on the plate fits this defect: its size and the layout contradict each other")


def _at(x: float, y: float) -> tuple[Field, Field]:
    return np.array([x], dtype=np.float32), np.array([y], dtype=np.float32)


def _missing_screw(severity: int, rng: np.random.Generator) -> Flaws:
    return Flaws(missing_screws=tuple(sorted(int(screw) for screw in rng.permutation(len(SCREWS))[:severity])))


def _scratch(severity: int, rng: np.random.Generator) -> Flaws:
    width = float(rng.uniform(*((2.5, 3.0), (3.0, 4.0), (4.0, 5.5))[severity - 1]))
    half_length = float(rng.uniform(*((50, 90), (90, 150), (140, 230))[severity - 1])) / 2
    while True:
        angle = float(rng.uniform(-np.pi, np.pi))
        bow = half_length * float(rng.uniform(-0.16, 0.16))
        x, y = (float(rng.uniform(-half, half)) for half in (PLATE.half_width, PLATE.half_height))
        scratch = Scratch(x, y, angle, half_length, bow, width)
        path = np.linspace(-half_length, half_length, 41, dtype=np.float32)
        path_x = np.float32(x) + np.float32(np.cos(angle)) * path
        path_y = np.float32(y) + np.float32(np.sin(angle)) * path
        bare = bare_metal_distance(path_x, path_y) < -5
        if bare.mean() > (0.97, 0.9, 0.75)[severity - 1] and box_distance(path_x, path_y, PLATE).max() < -6:
            return Flaws(scratch=scratch)


def _stain(severity: int, rng: np.random.Generator) -> Flaws:
    radius = float(rng.uniform(*((14, 18), (20, 28), (30, 42))[severity - 1]))
    waves = tuple(
        (float(rng.normal(0, 0.13 / (harmonic - 1) ** 0.7)), float(rng.uniform(-np.pi, np.pi)))
        for harmonic in range(2, 8)
    )
    tint = ((0.42, 0.22, 0.07), (0.06, 0.06, 0.055), (0.34, 0.22, 0.09))[int(rng.integers(3))]
    opacity = float(rng.uniform(*((0.46, 0.56), (0.58, 0.70), (0.72, 0.86))[severity - 1]))

    def fits(x: float, y: float) -> bool:
        bare = float(bare_metal_distance(*_at(x, y))[0]) < -0.45 * radius
        return bare and float(plate_distance(*_at(x, y))[0]) < -0.8 * radius

    x, y = _place(rng, fits)
    return Flaws(stain=Stain(x, y, radius, opacity, tint, waves))


def _dent(severity: int, rng: np.random.Generator) -> Flaws:
    radius = float(rng.uniform(*((12, 15), (17, 22), (24, 32))[severity - 1]))
    depth = radius * float(rng.uniform(*((0.16, 0.20), (0.20, 0.26), (0.26, 0.34))[severity - 1]))
    x, y = _place(rng, lambda x, y: float(bare_metal_distance(*_at(x, y))[0]) < -(radius + 1.5))
    squash, angle = float(rng.uniform(0.86, 1.0)), float(rng.uniform(-np.pi, np.pi))
    return Flaws(dent=Dent(x, y, radius, depth, squash, angle))


def _bent_pin(severity: int, rng: np.random.Generator) -> Flaws:
    low, high = ((6, 8), (9, 12), (10, 16))[severity - 1]
    bend = [0.0] * len(PIN_X)
    for pin in rng.permutation(len(PIN_X))[: 2 if severity == 3 else 1]:
        bend[int(pin)] = float(rng.uniform(low, high)) * float(rng.choice((-1.0, 1.0)))
    return Flaws(pin_bend=tuple(bend))


def _wrong_label(severity: int, rng: np.random.Generator) -> Flaws:
    wrong = WRONG_TYPES[int(rng.integers(len(WRONG_TYPES)))]
    if severity == 2:
        wrong = replace(wrong, band=WRONG_BANDS[int(rng.integers(len(WRONG_BANDS)))])
    if severity == 3:
        choice = int(rng.integers(2 * len(WRONG_TYPES)))  # upside down about as often as another layout
        wrong = other_label(choice + 1 if choice < len(WRONG_TYPES) else 0)
    return Flaws(label=wrong)


_DRAWS: dict[str, Callable[[int, np.random.Generator], Flaws]] = {
    "missing_screw": _missing_screw,
    "scratch": _scratch,
    "stain": _stain,
    "dent": _dent,
    "bent_pin": _bent_pin,
    "wrong_label": _wrong_label,
}


def flaw_mask(flaws: Flaws, grid: Grid, label_grid: Grid) -> Mask:
    """Return which pixels the flaws change: (SIDE, SIDE).

    Args:
        grid: part coordinates.
        label_grid: the label's own, as it was stuck on.
    """
    mask = np.zeros(grid.x.shape, dtype=np.bool_)
    for screw in flaws.missing_screws:
        window = grid.around(screw_window(screw), 0)
        mask[window.rows, window.columns] |= disc_distance(window.x, window.y, Disc(*SCREWS[screw], WASHER_RADIUS)) < 0
    for pin, bend in enumerate(flaws.pin_bend):
        if bend:
            window = grid.around(pin_window(pin), 0)
            mask[window.rows, window.columns] |= _pin_change(window, pin, bend)
    if flaws.label != GOOD_PRINT:
        mask |= _label_change(flaws.label, label_grid)
    if flaws.scratch is not None:
        across, strength = scratch_profile(grid.x, grid.y, flaws.scratch)
        mask |= (np.abs(across) < 1.15) & (strength > 0.3)
    if flaws.dent is not None:
        mask |= dent_reach(grid.x, grid.y, flaws.dent) < 0.97
    if flaws.stain is not None:
        mask |= (stain_opacity(grid.x, grid.y, flaws.stain) > 0.45 * flaws.stain.opacity) & _stainable(grid)
    return mask


def _pin_change(window: Grid, pin: int, bend: float) -> Mask:
    straight, bent = pin_distance(window.x, window.y, pin, 0.0) < 0, pin_distance(window.x, window.y, pin, bend) < 0
    shift = np.abs(bend) * np.clip((window.y - np.float32(PIN_TOP)) / np.float32(PIN_LENGTH), 0, 1) ** 1.5
    changed: Mask = (straight | bent) & (shift > 0.5)
    return changed


def _label_change(printed: Print, label_grid: Grid) -> Mask:
    inside: Mask = box_distance(label_grid.x, label_grid.y, LABEL) < 0
    if printed.upside_down or printed.band_below:
        return inside
    differs = np.abs(label_ink(printed) - label_ink(GOOD_PRINT)).max(axis=2) > 0.15
    rows = (label_grid.y - LABEL.y + LABEL.half_height) * INK_SCALE - 0.5
    columns = (label_grid.x - LABEL.x + LABEL.half_width) * INK_SCALE - 0.5
    differing = ndimage.map_coordinates(differs.astype(np.float32), [rows, columns], order=1, cval=0.0) > 0.4
    closed: Mask = ndimage.binary_closing(differing, iterations=3)
    return closed & inside


def _stainable(grid: Grid) -> Mask:
    """Return the plate and its label, outside the milled pocket, where no screw covers them."""
    clear = (plate_distance(grid.x, grid.y) < 0) & (box_distance(grid.x, grid.y, POCKET) > 0)
    for screw_x, screw_y in SCREWS:
        clear &= disc_distance(grid.x, grid.y, Disc(screw_x, screw_y, WASHER_RADIUS)) > 0
    stainable: Mask = clear
    return stainable
