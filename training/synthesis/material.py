"""Flaws of the material itself: cracks, pores, chipped and frayed edges.

They are sized in pixels of the original image, drawn as fine as a camera would show them, and colourless: they darken
or brighten what lies there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.synthesis.patterns import Floats, Mask, Unit
from training.synthesis.surface import (
    Surface,
    beyond,
    blob,
    coverage,
    edge_of,
    from_centre,
    grain,
    grey,
    log_uniform,
    part_of,
)

SPACING = 0.35  # of the points that a line is drawn with, in pixels: close enough that none shows
DARK = 0.12  # grey level below which nothing darker can be seen
ROUGH = 0.07  # of a bite's outline, as a share of its radius
LARGEST_BUMP = 1.6  # of a blob's outline, in radii: see `blob`
MOST_GRAIN = 9.0  # standard deviations that grain never reaches


@dataclass(frozen=True, eq=False)
class Trace:
    """A line as points at `SPACING`."""

    points: NDArray[np.float64]
    """(N, 2): row, column."""
    half_widths: NDArray[np.float64]
    """(N,) in model pixels."""
    strength: NDArray[np.float64]
    """(N,) in [0, 1]."""


@dataclass(frozen=True)
class Gait:
    """The way in which a crack or a fibre proceeds."""

    step: float
    """Between two turns, in model pixels."""
    jag: float
    """Standard deviation of a turn, in radians."""


@dataclass(frozen=True)
class PitLook:
    """What the pits of one image have in common."""

    light: float
    """Direction that it comes from, in radians."""
    depth: float
    """Share of the light that a pit swallows."""
    glint: float
    """Brightness added at the lit rim."""


def crack(rng: np.random.Generator, image: Unit, surface: Surface) -> Unit:
    """Return the image with a jagged, branching line, darker or seldom brighter than what lies there."""
    part = part_of(image, surface)
    cover = drawn(_branching(rng, part, surface), surface.side) * part
    rim = rng.uniform(0.1, 0.5) if rng.random() < 0.35 else 0.0
    lit = ndimage.shift(cover, _light(rng, max(1.0, surface.scale)), order=0)
    brightened = image + (rim * 0.25 * np.clip(lit - cover, 0, 1) * part)[..., None]
    return _toned(rng, brightened, cover, bright_share=0.15)


def _branching(rng: np.random.Generator, part: Mask, surface: Surface) -> list[Trace]:
    """Return a crack's traces: the main one, which some of the time starts at an edge, and up to four branches."""
    length, width = surface.length(rng, 20, 220), surface.length(rng, 0.6, 2.5)
    gait = Gait(max(0.5, rng.uniform(2.0, 6.0) * surface.scale), rng.uniform(0.25, 0.75))
    start, heading = surface.place(rng, part).astype(float), rng.uniform(0, 2 * np.pi)
    if rng.random() < 0.3:
        start = _at_edge(rng, part, surface).astype(float)
        heading = np.arctan2(*(np.argwhere(part).mean(0) - start)) + rng.normal(0, 0.5)
    path = _walk(rng, start, heading, length, gait)
    traces = [_trace(rng, path, width)]
    for _ in range(int(rng.integers(0, 5))):
        at = int(rng.integers(len(path) // 8, max(len(path) // 8 + 1, len(path) * 7 // 8)))
        away = heading + rng.choice([-1, 1]) * rng.uniform(0.4, 1.2)
        twig = _walk(rng, path[at], away, length * rng.uniform(0.1, 0.45), gait)
        traces.append(_trace(rng, twig, width * rng.uniform(0.4, 0.8)))
    return traces


def _walk(
    rng: np.random.Generator, start: NDArray[np.float64], heading: float, length: float, gait: Gait
) -> NDArray[np.float64]:
    """Return a random walk (N, 2): each step turns at random about a slowly drifting direction."""
    steps = max(3, int(np.ceil(length / gait.step)))
    direction = heading + np.cumsum(rng.normal(0, 0.12, steps)) + rng.normal(0, gait.jag, steps)
    path = start + np.cumsum(gait.step * np.stack([np.sin(direction), np.cos(direction)], axis=1), axis=0)
    return np.concatenate([start[None], path])


def _trace(rng: np.random.Generator, path: NDArray[np.float64], width: float) -> Trace:
    """Return a path as a line whose width and strength vary along it, thin at its end."""
    travelled = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    along = np.arange(0, travelled[-1] + SPACING, SPACING)
    points = np.stack([np.interp(along, travelled, path[:, axis]) for axis in (0, 1)], axis=1)
    share = along / along[-1]
    knots = np.linspace(0, 1, 9)
    swelling = np.interp(share, knots, rng.uniform(0.5, 1.5, len(knots)))
    strength = np.interp(share, knots, rng.uniform(0.5, 1.0, len(knots)))
    taper = np.clip(4 * (1 - share), 0.25, 1)
    return Trace(points, width / 2 * swelling * taper, strength)


def drawn(traces: Sequence[Trace], side: int) -> Floats:
    """Return how much of each pixel the lines cover, times their strength: (side, side) in [0, 1]."""
    points, half_widths, strength = (
        np.concatenate([getattr(trace, name) for trace in traces]) for name in ("points", "half_widths", "strength")
    )
    reach = int(np.ceil(max(0.5, half_widths.max()) + 0.5))
    dy, dx = (offset.ravel() for offset in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    rows, columns = (np.round(points[:, axis, None]).astype(int) + offset for axis, offset in ((0, dy), (1, dx)))
    distance = np.hypot(rows - points[:, :1], columns - points[:, 1:])
    cover = coverage(distance, half_widths[:, None]) * strength[:, None]
    inside = (rows >= 0) & (rows < side) & (columns >= 0) & (columns < side)
    canvas = np.zeros((side, side), dtype=np.float32)
    np.maximum.at(canvas, (rows[inside], columns[inside]), cover[inside].astype(np.float32))
    return canvas


def _light(rng: np.random.Generator, distance: float) -> tuple[int, int]:
    """Return a random step (rows, columns) of about this many pixels."""
    angle = rng.uniform(0, 2 * np.pi)
    return round(distance * np.sin(angle)), round(distance * np.cos(angle))


def _toned(rng: np.random.Generator, image: Unit, cover: Unit, bright_share: float) -> Unit:
    """Return the image darkened where it is covered, or brightened: some of the time, and always where it is black."""
    level = float(np.average(grey(image), weights=cover + 1e-6))
    depth, gain = rng.uniform(0.3, 0.95), rng.uniform(0.08, 0.35)
    if rng.random() < bright_share or level < DARK:
        return np.asarray(image + (gain * cover)[..., None])
    return np.asarray(image * (1 - depth * cover)[..., None])


def pores(rng: np.random.Generator, image: Unit, surface: Surface) -> Unit:
    """Return the image with one to three dozen pits, close together or spread: dark, with one side of the rim lit."""
    most = int(rng.choice([1, 8, 36], p=[0.4, 0.35, 0.25]))
    count = int(rng.integers(1, most + 1))
    typical = log_uniform(rng, 1.2, 8.0 if count < 9 else 3.5)
    spread = np.inf if rng.random() < 0.3 else surface.length(rng, 10, 80, most=0.3)
    look = PitLook(rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 0.9), rng.uniform(0, 0.25))
    part = part_of(image, surface)
    middle, damaged = surface.place(rng, part).astype(float), image.copy()
    for number in range(count):
        place = surface.place(rng, part).astype(float) if np.isinf(spread) else middle + rng.normal(0, spread / 2, 2)
        radius = float(np.clip(typical * rng.uniform(0.5, 1.5), 1, 8)) * surface.scale
        damaged = _pitted(rng, damaged, middle if number == 0 else place, radius, look)
    return np.where(part[..., None], damaged, image)


def _pitted(rng: np.random.Generator, image: Unit, centre: NDArray[np.float64], radius: float, look: PitLook) -> Unit:
    """Return the image with one pit, whose outline is a little irregular."""
    room = int(np.ceil(2.5 * radius + 2))
    top, left = (max(0, int(at) - room) for at in centre)
    window = slice(top, max(0, int(centre[0]) + room)), slice(left, max(0, int(centre[1]) + room))
    rows, columns = image[window].shape[:2]
    y, x = np.mgrid[:rows, :columns] + np.array([top - centre[0], left - centre[1]])[:, None, None]
    outside = blob(rng, y, x, radius, roughness=0.3, waves=5)
    core = coverage(outside + radius, radius, dimensions=2)
    towards = (y * np.sin(look.light) + x * np.cos(look.light)) / (np.hypot(y, x) + 1e-6)
    deep = core * (1 - 0.35 * np.clip(towards, 0, 1)) * look.depth  # the wall that faces the light is less dark
    rim = np.exp(-((outside / max(0.7, 0.25 * radius)) ** 2)) * np.clip(towards, 0, 1) * min(1.0, 2 * radius)
    pitted = image.copy()
    pitted[window] = image[window] * (1 - deep)[..., None] + (look.glint * rim * (1 - core))[..., None]
    return pitted


def chip(rng: np.random.Generator, image: Unit, surface: Surface) -> Unit:
    """Return the image with a bite out of the part's edge, or of the picture's where no background is seen.

    What is gone shows the background; around it, or in its place, lies a rough broken face.
    """
    part = part_of(image, surface)
    centre = _at_edge(rng, part, surface)
    radius = surface.length(rng, 4, 45, most=0.18)
    outside = _bite(rng, surface.side, centre, radius)
    outside = outside + ROUGH * radius * grain(rng, surface.side, 0.12 * radius)
    background = surface.valid & ~part
    face = np.clip(0.5 - outside, 0, 1) * part
    damaged = _broken(rng, image, face, centre, radius)
    if background.any() and rng.random() < 0.7:
        gone = np.clip(0.5 - outside - rng.uniform(0, 0.4) * radius, 0, 1)[..., None] * part[..., None]
        damaged = gone * beyond(image, background) + (1 - gone) * damaged
    return np.asarray(damaged)


def _bite(rng: np.random.Generator, side: int, centre: NDArray[np.int_], radius: float) -> Floats:
    """Return the distance outside a jagged outline (side, side), computed only where roughness could reach it."""
    reach = int(np.ceil((LARGEST_BUMP + MOST_GRAIN * ROUGH) * radius + 1))
    rows, columns = (slice(max(0, int(at) - reach), int(at) + reach + 1) for at in centre)
    y, x = (np.ascontiguousarray(offset[rows, columns]) for offset in from_centre(side, centre))
    outside = np.full((side, side), reach, dtype=np.float32)
    outside[rows, columns] = blob(rng, y, x, radius, roughness=0.3, waves=16)
    return outside


def _at_edge(rng: np.random.Generator, part: Mask, surface: Surface) -> NDArray[np.int_]:
    """Return a random pixel of the part's edge that may be damaged; anywhere, if none may."""
    edge = np.argwhere(edge_of(part) & surface.reach)
    return np.asarray(edge[rng.integers(len(edge))]) if len(edge) else surface.place(rng)


def _broken(rng: np.random.Generator, image: Unit, face: Unit, centre: NDArray[np.int_], radius: float) -> Unit:
    """Return the image with a broken face where `face` (S, S) is 1: facets, grain and a lit or shaded outline."""
    side = image.shape[0]
    level = np.average(image.reshape(-1, 3), axis=0, weights=face.ravel() + 1e-6)
    facets = grain(rng, side, max(0.8, radius * rng.uniform(0.1, 0.35)))
    relief = 0.25 * np.sign(facets) * np.minimum(abs(facets), 1) + 0.12 * grain(rng, side, 0.6)
    slope = np.stack(from_centre(side, centre)) / max(radius, 1.0)
    angle = rng.uniform(0, 2 * np.pi)
    tilt = 0.25 * np.clip(np.sin(angle) * slope[0] + np.cos(angle) * slope[1], -1, 1)
    broken = level * (rng.uniform(0.25, 1.35) * (1 + rng.uniform(0.4, 1.2) * relief + tilt))[..., None]
    outline = (ndimage.gaussian_filter(face, 0.7) * (1 - ndimage.gaussian_filter(face, 0.7)) * 4)[..., None]
    shade = 1 - rng.uniform(-0.2, 0.6) * outline * (face > 0)[..., None]
    return np.asarray((face[..., None] * broken + (1 - face[..., None]) * image) * shade)


def fray(rng: np.random.Generator, image: Unit, surface: Surface) -> Unit:
    """Return the image with a stretch of the part's edge, or of the picture's, roughened into short fibres."""
    part = part_of(image, surface)
    roots = _stretch(rng, part, surface)
    inward = np.stack(np.gradient(ndimage.gaussian_filter(part.astype(np.float32), 2, mode="constant")))
    gait, longest = Gait(max(0.5, 1.5 * surface.scale), 0.2), surface.length(rng, 6, 24)
    fibres: tuple[list[Trace], list[Trace]] = ([], [])
    for _ in range(int(np.clip(len(roots) / max(surface.scale, 0.3) * rng.uniform(0.5, 1.2), 10, 240))):
        root = roots[rng.integers(len(roots))]
        heading = np.arctan2(*inward[:, root[0], root[1]]) + rng.normal(0, 0.45)
        path = _walk(rng, root.astype(float), heading, longest * rng.uniform(0.2, 1.0), gait)
        fibres[int(rng.integers(2))].append(_trace(rng, path, surface.length(rng, 0.6, 1.6)))
    dark, bright = (drawn(kind, surface.side) if kind else np.zeros(part.shape, dtype=np.float32) for kind in fibres)
    depth, gain = rng.uniform(0.3, 0.85), rng.uniform(0.05, 0.35)
    return np.asarray(image * (1 - depth * dark)[..., None] + (gain * bright * (1 - dark))[..., None])


def _stretch(rng: np.random.Generator, part: Mask, surface: Surface) -> NDArray[np.int_]:
    """Return the pixels (N, 2) of a random stretch of the part's edge."""
    centre, length = _at_edge(rng, part, surface), surface.length(rng, 15, 140, most=0.4)
    edge = np.argwhere(edge_of(part) & surface.reach)
    near = edge[np.hypot(*(edge - centre).T) < length / 2]
    return near if len(near) else centre[None]
