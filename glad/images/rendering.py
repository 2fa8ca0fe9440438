"""Heatmap, overlay, mask and contact sheet as arrays. NumPy and Pillow; no torch.

One fixed scale for every picture of a product: the same map value always has the same colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from glad.images.placement import Box, Placement

Pixels = NDArray[np.uint8]
Map = NDArray[np.float32]

COLOURS = ((0, 0, 8), (50, 10, 98), (128, 24, 112), (200, 46, 74), (238, 108, 28), (250, 178, 44), (252, 250, 196))
"""From nothing to the worst: black, indigo, plum, rose, orange, amber, cream. Lightness always rises, so that the scale
also reads in grey and for colour-blind eyes."""
CONTOUR = (0, 230, 255)
"""Cyan: the one colour that neither the scale nor metal has."""
HALO = (0, 0, 0)
PAPER = (245, 245, 245)
INK = (40, 40, 40)


@lru_cache(maxsize=1)
def colour_scale() -> Pixels:
    """(256, 3) uint8: `COLOURS` joined by straight lines in sRGB and spaced so that CIE lightness rises evenly."""
    fine = np.linspace(0, len(COLOURS) - 1, 4096)
    points = np.array(COLOURS, dtype=np.float64)
    line = np.stack([np.interp(fine, np.arange(len(COLOURS)), points[:, channel]) for channel in range(3)], axis=1)
    light = lightness(line)
    even = np.linspace(light[0], light[-1], 256)
    scale = np.stack([np.interp(even, light, line[:, channel]) for channel in range(3)], axis=1)
    colours: Pixels = np.rint(scale).astype(np.uint8)
    colours.setflags(write=False)
    return colours


def lightness(colours: NDArray[np.float64]) -> NDArray[np.float64]:
    """sRGB (..., 3) in 0 ... 255 -> CIE L*, 0 ... 100."""
    share = colours / 255.0
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
    light: NDArray[np.float64] = np.where(
        luminance > 216 / 24389, 116 * np.cbrt(luminance) - 16, luminance * 24389 / 27
    )
    return light


def heatmap(found: Map, top: float) -> Pixels:
    """A map (H, W) -> its colours (H, W, 3); 0 is the coldest, `top` and all above the hottest, and so is NaN."""
    coloured: Pixels = colour_scale()[np.rint(_heat(found, top) * 255).astype(np.intp)]
    return coloured


def mask(found: Map, threshold: float) -> Pixels:
    """A map (H, W) -> (H, W) uint8: 255 at or above the threshold, else 0. NaN counts as above."""
    above: Pixels = np.where(found < threshold, 0, 255).astype(np.uint8)
    return above


def overlay(pixels: Pixels, found: Map, top: float, alpha: float = 0.6, *, threshold: float | None = None) -> Pixels:
    """The picture of a part with what is wrong on it, to be grasped in a second.

    pixels: (H, W, 3) uint8; found: a map of the same scene, resized bilinearly where its size differs -> (H, W, 3). The
    part turns grey and stays readable, heat lies on it the more opaque the hotter (`alpha` at the hottest), and a
    contour runs around every region at or above the threshold, outside of it, so that it never hides the defect.
    Default threshold: half of `top`, as calibration puts it.
    """
    height, width = pixels.shape[:2]
    fitted = _resized(found, width, height)
    heat = _heat(fitted, top)[:, :, None]
    opacity = alpha * heat
    mixed = _muted(pixels) * (1 - opacity) + heatmap(fitted, top) * opacity
    drawn: Pixels = np.rint(mixed).astype(np.uint8)
    return _outlined(drawn, mask(fitted, top / 2 if threshold is None else threshold))


def contact_sheet(
    rows: Sequence[Sequence[Pixels]], *, cell: int = 192, gap: int = 8, titles: Sequence[str] = ()
) -> Pixels:
    """Pictures in rows -> one picture. Each (H, W, 3) or (H, W) uint8 fits its square cell and keeps its aspect.

    titles: one per column, written above. ValueError without any picture.
    """
    columns = max((len(row) for row in rows), default=0)
    if columns == 0:
        raise ValueError("a contact sheet without pictures: give at least one row with one picture")
    head = 20 if titles else 0
    sheet = Image.new("RGB", (gap + columns * (cell + gap), head + gap + len(rows) * (cell + gap)), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(12)
    for column, title in enumerate(titles):
        draw.text((gap + column * (cell + gap), gap), title, INK, font)
    for line, row in enumerate(rows):
        for column, picture in enumerate(row):
            fitted = _fitted(picture, cell)
            left = gap + column * (cell + gap) + (cell - fitted.width) // 2
            top = head + gap + line * (cell + gap) + (cell - fitted.height) // 2
            sheet.paste(fitted, (left, top))
    return np.array(sheet)


def _heat(found: Map, top: float) -> NDArray[np.float32]:
    """A map -> 0 ... 1; ValueError unless top is positive."""
    if not top > 0:
        raise ValueError(f"top is {top}; it must be positive: twice the pixel threshold")
    heat: NDArray[np.float32] = np.clip(np.nan_to_num(found.astype(np.float32), nan=top, posinf=top) / top, 0, 1)
    return heat


def _resized(found: Map, width: int, height: int) -> Map:
    if found.shape == (height, width):
        return found
    return np.array(Image.fromarray(found.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR))


def _muted(pixels: Pixels) -> NDArray[np.float32]:
    """The picture a little darker and with most of its colour taken out, so that heat stands out from bright metal."""
    levels = pixels.astype(np.float32)
    grey = levels @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    return np.asarray(0.82 * (0.35 * levels + 0.65 * grey[:, :, None]), dtype=np.float32)


def _outlined(pixels: Pixels, above: Pixels) -> Pixels:
    """A cyan line with a dark halo around the white areas of `above`; its width follows the picture's size."""
    width = max(1, round(max(above.shape) / 256))
    line = _grown(above, width)
    halo = _grown(line, width)
    outlined = pixels.copy()
    outlined[(halo > 0) & (line == 0)] = HALO
    outlined[(line > 0) & (above == 0)] = CONTOUR
    return outlined


def _grown(area: Pixels, by: int) -> Pixels:
    """White areas of (H, W) grown by so many pixels on all sides.

    One axis after the other: Pillow's MaxFilter does the same a hundred times slower.
    """
    for _ in ("rows", "columns"):
        rows, padded = len(area), np.pad(area, ((by, by), (0, 0)))
        area = reduce(np.maximum, [padded[at : at + rows] for at in range(2 * by + 1)]).T
    return area


def _fitted(picture: Pixels, cell: int) -> Image.Image:
    image = Image.fromarray(picture).convert("RGB")
    scale = cell / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)


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
    from scipy import ndimage  # here: the API draws heatmaps too, and its installation has no SciPy

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
