"""The quality gate: measures of an image (light, sharpness, a small view of what it shows), and their check. No torch.

Light and view are those of the whole image at a small fixed size, sharpness that of the tiles that the models see: so
the camera's resolution matters as little as it does to the score. What zones ignore is not measured.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glad.image_codec import Pixels
from glad.images.placement import fit, letterbox, resample
from glad.images.tiling import lay_out, zone_mask
from glad.quality_gate.limits import VIEW_SIDE, GateMeasures, QualityGate, Unfit, check_limits
from glad.settings.framing import Zones
from glad.settings.method import MethodSettings

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of red, green and blue in grey (ITU-R BT.601)."""
BLACK, WHITE = 8, 247
"""Grey levels up to which, and from which, nothing can be told apart: noise and JPEG leave no pure 0 or 255."""
LIGHT_SIDE = 128
"""Longer side at which light is measured, in pixels."""
MOST_SHIFT = 3
"""Pixels of a view that a part may lie aside, along each axis: 6 % of the longer side."""
LEAST_CONTRAST = 0.5
"""Standard deviation, in grey levels, below which there is only rounding."""
MOST_TILES = 16
"""Of an image of many tiles so many, evenly spread, are measured for sharpness."""
SIGMA = 0.7
"""Of the Gaussian that precedes sharpness, in pixels."""
REACH = 2
"""Taps of that Gaussian on either side of the middle."""

_SHIFTS = range(2 * MOST_SHIFT + 1)
_TAPS = np.exp(-0.5 * (np.arange(-REACH, REACH + 1) / SIGMA) ** 2)
_KERNEL = (_TAPS / _TAPS.sum()).astype(np.float32)
_WHOLE = 1 - 1e-4
"""Above this smoothed share every pixel under the kernel is inspected."""


@dataclass(frozen=True)
class LightMeasures:
    """The light of the pixels that are inspected."""

    brightness: float
    """Mean grey, 0 ... 255."""
    black_share: float
    """0 ... 1: at most `BLACK`."""
    white_share: float
    """0 ... 1: at least `WHITE`."""


@dataclass(frozen=True, eq=False)
class View:
    """An image so small that it only shows which part it is of."""

    grey: NDArray[np.float32]
    """(VIEW_SIDE, VIEW_SIDE), 0 ... 255, letterboxed."""
    inspected_mask: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class QualityMeasures:
    """The measures of one image."""

    light: LightMeasures
    sharpness: float
    """Cycles per pixel of the model image: see `sharpness`."""
    view: View


def measure_quality(pixels: Pixels, settings: MethodSettings) -> QualityMeasures:
    """Return the measures of upright RGB (H, W, 3) under its bundle's framing and zones.

    Raises:
        PlaneTooLarge: as `glad.images.tiling.lay_out`.
    """
    zones = settings.zones
    return QualityMeasures(_light(pixels, zones), sharpness(_grey_tiles(pixels, settings)), _view(pixels, zones))


def grey_of(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the grey levels (H, W), 0 ... 255, of RGB (H, W, 3)."""
    return np.asarray(pixels.astype(np.float32) @ LUMA)


def measure_light(grey: NDArray[np.float32], inspected_mask: NDArray[np.bool_]) -> LightMeasures:
    """Return the mean and both tails of the grey histogram. Both (H, W); at least one pixel must be inspected."""
    levels = grey[inspected_mask]
    return LightMeasures(float(levels.mean()), float((levels <= BLACK).mean()), float((levels >= WHITE).mean()))


def likeness(view: View, expected: NDArray[np.float32]) -> float:
    """Return the correlation, -1 ... 1, of a view with the expected one: the best over small shifts.

    It is 0 where either shows nothing. Normalised cross-correlation (J. P. Lewis, "Fast normalized cross-correlation",
    1995): light and contrast cancel, and so does the play of a fixture. Without shifts a part that lies 2 % aside looks
    as strange as one upside down.

    Args:
        view: only what is inspected of it takes part.
        expected: (VIEW_SIDE, VIEW_SIDE), 0 ... 255.
    """
    size = VIEW_SIDE - 2 * MOST_SHIFT
    inner = expected[MOST_SHIFT:-MOST_SHIFT, MOST_SHIFT:-MOST_SHIFT]
    places = [(slice(y, y + size), slice(x, x + size)) for y in _SHIFTS for x in _SHIFTS]
    return max(_correlation(view.grey[place], inner, view.inspected_mask[place]) for place in places)


def _correlation(grey: NDArray[np.float32], expected: NDArray[np.float32], inspected_mask: NDArray[np.bool_]) -> float:
    if not inspected_mask.any():
        return 0.0
    centred, reference = (values[inspected_mask] - values[inspected_mask].mean() for values in (grey, expected))
    length, both = float(np.linalg.norm(centred)), float(np.linalg.norm(centred) * np.linalg.norm(reference))
    has_contrast = length > LEAST_CONTRAST * len(centred) ** 0.5
    return float(centred @ reference) / both if has_contrast and both > 0 else 0.0


def _light(pixels: Pixels, zones: Zones) -> LightMeasures:
    height, width = pixels.shape[:2]
    place = letterbox(width, height, LIGHT_SIDE)
    size = place.content_width, place.content_height
    small = resample(pixels, (0, 0, width, height), *size, how=Image.Resampling.BOX)
    return measure_light(grey_of(small), _inspected_mask(zones, *size))


def _view(pixels: Pixels, zones: Zones) -> View:
    fitted = fit(pixels, VIEW_SIDE)
    place = fitted.placement
    inspected_mask = place.valid_pixels()
    inspected_mask[place.content] &= _inspected_mask(zones, place.content_width, place.content_height)
    return View(grey_of(fitted.pixels), inspected_mask)


def _inspected_mask(zones: Zones, width: int, height: int) -> NDArray[np.bool_]:
    """Return the mask (height, width) of the zones; all true where they are too narrow to leave any pixel."""
    inspected_mask = zone_mask(zones, width, height)
    return inspected_mask if inspected_mask.any() else np.ones_like(inspected_mask)


def _grey_tiles(pixels: Pixels, settings: MethodSettings) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    """Yield grey and inspected mask of the tiles that the models see; of many, some from all over the image."""
    height, width = pixels.shape[:2]
    layout = lay_out(width, height, settings)
    inspected_mask = layout.inspected_mask(settings.zones)
    tiles = [tile for tile in layout.tiles if inspected_mask[layout.span(tile)].any()]
    for index in np.linspace(0, len(tiles) - 1, min(len(tiles), MOST_TILES)).round().astype(int):
        tile = tiles[index]
        yield grey_of(layout.tile_pixels(pixels, tile)), inspected_mask[layout.span(tile)]


@dataclass(frozen=True)
class Detail:
    """The energy of first and second differences along one axis, and how many each is summed over."""

    first: float = 0.0
    firsts: int = 0
    second: float = 0.0
    seconds: int = 0

    def __add__(self, other: Detail) -> Detail:
        return Detail(
            self.first + other.first,
            self.firsts + other.firsts,
            self.second + other.second,
            self.seconds + other.seconds,
        )

    @property
    def frequency(self) -> float:
        """Return the root mean square frequency, in cycles per pixel; 0 where there is no detail at all."""
        if self.first <= 0 or self.seconds == 0:
            return 0.0
        return float(np.sqrt((self.second / self.seconds) / (self.first / self.firsts)) / (2 * np.pi))


def sharpness(tiles: Iterable[tuple[NDArray[np.float32], NDArray[np.bool_]]]) -> float:
    """Return the mean spatial frequency of all tiles together, in cycles per pixel along the blurrier axis.

    A signal's mean squared frequency is the energy of its second derivative over that of its first (S. O. Rice,
    "Mathematical analysis of random noise", 1945). Blur takes the high frequencies first, so it falls with every kind
    of blur; light and contrast cancel. The variance of the Laplacian (Pech-Pacheco et al., 2000) falls with light as
    well, and gradients over the image's own contrast (Tenengrad, Krotkov 1988) with the contrast of large areas:
    docs/quality-gate.md compares them. A narrow Gaussian goes first, since noise is fine detail too. Of both directions
    the lower one is returned: motion blurs only one.

    Args:
        tiles: per tile its grey levels (H, W) and its inspected mask (H, W).
    """
    down, across = Detail(), Detail()
    for grey, inspected_mask in tiles:
        smooth, inspected = _smoothed(grey), _wholly_inspected(inspected_mask)
        down += _detail(smooth, inspected, 0)
        across += _detail(smooth, inspected, 1)
    return min(down.frequency, across.frequency)


def _smoothed(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (H, W) smoothed to (H - 2 REACH, W - 2 REACH): only where the kernel fits, so that no edge is made up."""
    height, width = (max(0, length - 2 * REACH) for length in values.shape)
    lines = sum(weight * values[k : k + height] for k, weight in enumerate(_KERNEL))
    smoothed: Any = sum(weight * np.asarray(lines)[:, k : k + width] for k, weight in enumerate(_KERNEL))
    return np.asarray(smoothed, dtype=np.float32)


def _wholly_inspected(inspected_mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return where everything under the kernel is inspected: (H - 2 REACH, W - 2 REACH)."""
    if inspected_mask.all():  # most images: there is nothing to smooth
        return inspected_mask[2 * REACH :, 2 * REACH :]
    return _smoothed(inspected_mask.astype(np.float32)) > _WHOLE


def _detail(smooth: NDArray[np.float32], inspected: NDArray[np.bool_], axis: int) -> Detail:
    """Return the detail along an axis, of those differences all of whose pixels are inspected."""
    values, mask = (smooth, inspected) if axis == 0 else (smooth.T, inspected.T)
    two = mask[1:] & mask[:-1]
    three = two[1:] & two[:-1]
    first = np.diff(values, axis=0)
    second = np.diff(first, axis=0)
    return Detail(_energy(first, two), int(two.sum()), _energy(second, three), int(three.sum()))


def _energy(values: NDArray[np.float32], where: NDArray[np.bool_]) -> float:
    # In the order of `values[where]`, so that the sum is the same to the bit.
    inspected = np.ravel(values) if where.all() else values[where]
    return float((inspected.astype(np.float64) ** 2).sum())


def find_unfit(gate: QualityGate, measured: QualityMeasures) -> tuple[Unfit, ...]:
    """Return why this image is unfit, what to put right first; () if it is fit."""
    return check_limits(gate, gate_measures(gate, measured))


def gate_measures(gate: QualityGate, measured: QualityMeasures) -> GateMeasures:
    """Return the numbers of an image that the gate's limits are about."""
    return GateMeasures(
        brightness=measured.light.brightness,
        black_share=measured.light.black_share,
        white_share=measured.light.white_share,
        sharpness=measured.sharpness,
        likeness=likeness(measured.view, _expected(gate)),
    )


def _expected(gate: QualityGate) -> NDArray[np.float32]:
    """Return the view of good images: (VIEW_SIDE, VIEW_SIDE), 0 ... 255."""
    return np.frombuffer(base64.b64decode(gate.view), dtype=np.uint8).reshape(VIEW_SIDE, VIEW_SIDE).astype(np.float32)
