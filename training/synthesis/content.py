"""Flaws of what the picture shows: a piece that is missing or has moved, and uneven light, gloss or sharpness.

Sizes of pieces are in pixels of the original image; what is filled in continues the surroundings and their grain.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.distance import cdist

from training.synthesis.patterns import Floats, Mask, Unit
from training.synthesis.surface import Surface, beyond, blob, from_centre, grain_of, grey, part_of

CANDIDATES = 16  # places that a filling is sought at
BORDER_PX = 2  # width of the border around a hole that its filling has to meet


def missing(rng: np.random.Generator, image: Unit, surface: Surface) -> Unit:
    """Return the image with a piece replaced by its surroundings: mostly one with detail, so that it is missed."""
    radius = surface.length(rng, 3, 40, most=0.13)
    hole = _piece(rng, image, surface, radius) & surface.valid
    texture = 1.0 if rng.random() < 0.7 else rng.uniform(0, 0.3)
    return filled(rng, image, hole, surface.valid, radius, texture=texture)


def shifted(rng: np.random.Generator, image: Unit, surface: Surface) -> Unit:
    """Return the image with a compact piece moved by a few to a few dozen pixels, and its old place filled."""
    radius = surface.length(rng, 4, 40, most=0.13)
    piece = _piece(rng, image, surface, radius) & surface.reach
    distance, angle = max(1.0, surface.length(rng, 2, 36, most=0.15)), rng.uniform(0, 2 * np.pi)
    step = round(distance * np.sin(angle)), round(distance * np.cos(angle))
    without = filled(rng, image, piece, surface.valid, radius, texture=1.0)
    alpha = _moved(ndimage.gaussian_filter(piece.astype(np.float32), 0.5), step)[..., None]
    return np.asarray(alpha * _moved(image, step) + (1 - alpha) * without)


def _moved(image: Unit, step: tuple[int, int]) -> Unit:
    """Return an image moved by whole rows and columns; what comes from outside is 0."""
    return np.asarray(ndimage.shift(image, (*step, *(0,) * (image.ndim - 2)), order=0, mode="constant", cval=0.0))


def _piece(rng: np.random.Generator, image: Unit, surface: Surface, radius: float) -> Mask:
    """Return a blob or a turned box (S, S), mostly where the image has detail."""
    detail = ndimage.gaussian_gradient_magnitude(grey(image), 1.0) * part_of(image, surface)
    likelihood = ndimage.gaussian_filter(detail, max(1.0, radius / 2)) ** 2 if rng.random() < 0.75 else None
    y, x = from_centre(surface.side, surface.place(rng, likelihood))
    if rng.random() < 0.6:
        return np.asarray(blob(rng, y, x, radius, roughness=0.3, waves=6) < 0)
    turn, aspect = rng.uniform(0, np.pi), rng.uniform(0.4, 1.0)
    u, v = np.cos(turn) * y + np.sin(turn) * x, np.cos(turn) * x - np.sin(turn) * y
    return np.asarray(np.maximum(abs(u), abs(v) / aspect) < radius)


def filled(
    rng: np.random.Generator, image: Unit, hole: Mask, valid: Mask, radius: float, *, texture: float = 1.0
) -> Unit:
    """Return the image with a hole filled from its surroundings, without a seam.

    The filling is what lies at a place near by, of several tried that one whose border looks most alike; the difference
    of the two borders is spread smoothly over it (Perez et al., 2003, with inverse distances for Poisson's equation).

    Args:
        image: (S, S, 3).
        hole: (S, S).
        valid: (S, S); the filling comes from there.
        radius: of the hole, in pixels.
        texture: 1: with the grain of that place; 0: smooth.
    """
    border = ndimage.binary_dilation(hole, iterations=BORDER_PX) & ~hole & valid
    if not hole.any() or not border.any():
        return image
    inside, around = np.argwhere(hole), np.argwhere(border)
    source = valid & ~hole
    step = _best_step(rng, image, inside, around, source=source, radius=radius)
    # Where no place near by is whole the surroundings are mirrored: they meet the border by themselves.
    lent = beyond(image, source) if step is None else _moved(image, (-int(step[0]), -int(step[1])))
    patch, patch_border = (texture * lent[pixels].astype(np.float64) for pixels in (hole, border))
    damaged = image.copy()
    damaged[hole] = patch + _spread(image[border] - patch_border, around, inside)
    return damaged


def _best_step(
    rng: np.random.Generator,
    image: Unit,
    inside: NDArray[np.int_],
    around: NDArray[np.int_],
    *,
    source: Mask,
    radius: float,
) -> NDArray[np.int_] | None:
    """Return the step (rows, columns) to the place that fits a hole best; None if no place near by is whole."""
    best, least = None, np.inf
    for _ in range(CANDIDATES):
        distance, angle = rng.uniform(2.2, 5.0) * max(radius, 1.5), rng.uniform(0, 2 * np.pi)
        step = np.round(distance * np.array([np.sin(angle), np.cos(angle)])).astype(int)
        places = np.concatenate([inside, around]) + step
        if places.min() < 0 or places.max() >= len(source) or not source[tuple(places.T)].all():
            continue
        difference = image[tuple(around.T)] - image[tuple((around + step).T)]
        if (mismatch := float(difference.std(axis=0).mean())) < least:
            best, least = step, mismatch
    return best


def _spread(values: NDArray[np.float64], places: NDArray[np.int_], targets: NDArray[np.int_]) -> NDArray[np.float64]:
    """Return values (N, 3) known at places, interpolated at targets (M, 3): weights are 1 / distance³ (Shepard)."""
    spread = []
    for some in np.array_split(targets, len(targets) // 2048 + 1):  # a large hole's distances would fill the memory
        weights = cdist(some, places, "sqeuclidean") ** -1.5
        spread.append(weights @ values / weights.sum(1, keepdims=True))
    return np.concatenate(spread)


def uneven(rng: np.random.Generator, image: Unit, surface: Surface) -> Unit:
    """Return the image with other light, gloss or sharpness in a band, a half, a corner or a cloud of it.

    The region covers 5 to 60 % of where it may lie; its border is soft, and the change mild.
    """
    weight = _region(rng, surface)[..., None]
    changes = (_brighter, _veiled, _glossier, _blurred)
    chosen = rng.choice(len(changes), p=[0.45, 0.2, 0.2, 0.15])
    changed = changes[chosen](rng, image, surface)
    return np.asarray(weight * changed + (1 - weight) * image)


def _region(rng: np.random.Generator, surface: Surface) -> Floats:
    """Return the weight (S, S) in [0, 1] of a large region."""
    side, angle = surface.side, rng.uniform(0, 2 * np.pi)
    y, x = from_centre(side, surface.place(rng))
    across = np.sin(angle) * y + np.cos(angle) * x
    # All that is random is drawn, whichever field is chosen; only the chosen one is computed.
    bend, bent_white = rng.uniform(0, 0.06), rng.standard_normal((side, side))
    corner, cloud_white = _corner(rng, surface), rng.standard_normal((side, side))
    match int(rng.integers(4)):
        case 0:  # band
            field = abs(across + side * bend * grain_of(bent_white, side / 6))
        case 1:  # half
            field = across + side * bend * grain_of(bent_white, side / 6)
        case 2:
            field = np.hypot(*from_centre(side, corner))
        case _:  # cloud
            field = np.hypot(y, x) + side * 0.15 * grain_of(cloud_white, side / 10)
    limit = float(np.quantile(field[surface.reach], rng.uniform(0.05, 0.6)))
    softness = side * rng.uniform(0.004, 0.08)
    return np.asarray(1 / (1 + np.exp(np.clip((field - limit) / softness, -30, 30))), dtype=np.float32)


def _corner(rng: np.random.Generator, surface: Surface) -> NDArray[np.int_]:
    """Return one of the corners (row, column) of what the flaw may reach."""
    places = np.argwhere(surface.reach)
    return np.asarray(np.where(rng.random(2) < 0.5, places.min(0), places.max(0)))


def _brighter(rng: np.random.Generator, image: Unit, surface: Surface) -> Unit:
    return np.asarray(image * (1 + rng.choice([-1, 1]) * rng.uniform(0.1, 0.4)))


def _veiled(rng: np.random.Generator, image: Unit, surface: Surface) -> Unit:
    """Return the image under a veil: lighter and with less contrast."""
    veil = rng.uniform(0.06, 0.2)
    return np.asarray(image * (1 - veil) + veil * rng.uniform(0.3, 0.9))


def _glossier(rng: np.random.Generator, image: Unit, surface: Surface) -> Unit:
    """Return the image with its fine detail stronger, or weaker."""
    smooth = _smoothed(image, max(0.8, rng.uniform(3, 12) * surface.scale))
    return np.asarray(smooth + (image - smooth) * rng.choice([rng.uniform(0.0, 0.5), rng.uniform(1.6, 2.8)]))


def _blurred(rng: np.random.Generator, image: Unit, surface: Surface) -> Unit:
    return _smoothed(image, max(0.6, rng.uniform(1.0, 3.5) * surface.scale))


def _smoothed(image: Unit, radius: float) -> Unit:
    return np.asarray(ndimage.gaussian_filter(image, (radius, radius, 0)))
