"""Pictures as arrays: an anomaly map's heatmap, overlay and mask, contact sheets, mosaics of tiles; defect regions.

One fixed scale for every picture of a product: the same map value always has the same colour. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from glad.images.placement import Box, Placement
from glad.images.tiling import Tile, TileLayout

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
LONGEST_PX = 2048
"""No picture of an image's plane is longer."""


@lru_cache(maxsize=1)
def colour_scale() -> Pixels:
    """Return the scale (256, 3) uint8: `COLOURS` joined by lines in sRGB, spaced so that CIE lightness rises evenly."""
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
    """Return the CIE lightness L*, 0 ... 100, of sRGB colours (..., 3) in 0 ... 255."""
    share = colours / 255.0
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
    light: NDArray[np.float64] = np.where(
        luminance > 216 / 24389, 116 * np.cbrt(luminance) - 16, luminance * 24389 / 27
    )
    return light


def heatmap(anomaly_map: Map, top: float) -> Pixels:
    """Return the colours (H, W, 3) of a map (H, W): 0 is the coldest; `top`, all above it and NaN are the hottest."""
    return colour_scale()[_levels(anomaly_map, top)]


def mask(anomaly_map: Map, threshold: float) -> Pixels:
    """Return the mask (H, W) uint8 of a map (H, W): 255 at or above the threshold, else 0. NaN counts as above."""
    above: Pixels = np.where(anomaly_map < threshold, 0, 255).astype(np.uint8)
    return above


def heat_layer(colours: Pixels, above: Pixels) -> Pixels:
    """Return a heatmap (H, W, 3) as a layer (H, W, 4) to lay over the part: opaque where its mask is white, else clear.

    Args:
        colours: as `heatmap` gives them.
        above: as `mask` gives it, (H, W), of the same map.
    """
    layer = np.dstack([colours, above])
    layer[above == 0] = 0  # what is clear has one colour: the file is small
    return layer


def overlay(
    pixels: Pixels, anomaly_map: Map, top: float, alpha: float = 0.6, *, threshold: float | None = None
) -> Pixels:
    """Return the picture of a part with its anomalies drawn on it, (H, W, 3) uint8.

    The part turns grey and stays readable; heat lies on it, the more opaque the hotter; a contour runs around every
    region at or above the threshold, outside of it, so that it never hides the defect.

    Args:
        pixels: of the part, (H, W, 3) uint8.
        anomaly_map: of the same scene, (H, W); resized bilinearly if its size differs.
        top: the map value of the hottest colour.
        alpha: opacity at the hottest, 0 ... 1.
        threshold: map value from which a contour is drawn; None: half of `top`, as calibration puts it.
    """
    height, width = pixels.shape[:2]
    fitted = _resized(anomaly_map, width, height)
    levels = _levels(fitted, top)
    opacity = np.rint(np.arange(256) * alpha).astype(np.uint8)[levels]
    # By Pillow, in bytes: ten times as fast as the same in floating point, and within two levels of it.
    hot, cold = Image.fromarray(colour_scale()[levels]), _muted(pixels)
    drawn = np.asarray(Image.composite(hot, cold, Image.fromarray(opacity)))
    return _outlined(drawn, mask(fitted, top / 2 if threshold is None else threshold))


def contact_sheet(
    rows: Sequence[Sequence[Pixels]],
    *,
    cell: int = 192,
    gap: int = 8,
    titles: Sequence[str] = (),
    captions: Sequence[Sequence[str]] = (),
) -> Pixels:
    """Return pictures in rows as one picture. Each fits its square cell and keeps its aspect.

    Args:
        rows: pictures (H, W, 3) or (H, W) uint8.
        cell: side of a cell, in pixels.
        gap: between cells, in pixels.
        titles: one per column, written above.
        captions: for each row one per picture, written above it; an empty one leaves room to the one before.

    Raises:
        ValueError: if there is no picture.
    """
    columns = max((len(row) for row in rows), default=0)
    if columns == 0:
        raise ValueError("a contact sheet without pictures: give at least one row with one picture")
    head = 20 if titles else 0
    line_head = 18 if captions else 0
    pitch = line_head + cell + gap
    sheet = Image.new("RGB", (gap + columns * (cell + gap), head + gap + len(rows) * pitch), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(12)
    for column, title in enumerate(titles):
        draw.text((gap + column * (cell + gap), gap), title, INK, font)
    for line, row in enumerate(rows):
        for column, picture in enumerate(row):
            fitted = _fitted(picture, cell)
            left = gap + column * (cell + gap) + (cell - fitted.width) // 2
            top = head + gap + line * pitch + line_head + (cell - fitted.height) // 2
            sheet.paste(fitted, (left, top))
    for line, row_captions in enumerate(captions):
        for column, caption in enumerate(row_captions):
            draw.text((gap + column * (cell + gap), head + gap + line * pitch), caption, INK, font)
    return np.array(sheet)


def _heat(anomaly_map: Map, top: float) -> NDArray[np.float32]:
    """Return a map as heat, 0 ... 1; `top` must be positive."""
    if not top > 0:
        raise ValueError(f"top is {top}; it must be positive: twice the pixel threshold")
    heat: NDArray[np.float32] = np.clip(np.nan_to_num(anomaly_map.astype(np.float32), nan=top, posinf=top) / top, 0, 1)
    return heat


def _levels(anomaly_map: Map, top: float) -> Pixels:
    """Return the place of each map value on the colour scale, 0 ... 255."""
    levels: Pixels = np.rint(_heat(anomaly_map, top) * 255).astype(np.uint8)
    return levels


def _resized(anomaly_map: Map, width: int, height: int) -> Map:
    if anomaly_map.shape == (height, width):
        return anomaly_map
    return np.array(Image.fromarray(anomaly_map.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR))


def _muted(pixels: Pixels) -> Image.Image:
    """Return the picture a little darker and with little colour, so that heat stands out from bright metal."""
    picture = Image.fromarray(pixels)
    pale = Image.blend(picture, picture.convert("L").convert("RGB"), 0.65)
    return pale.point([round(0.82 * level) for level in range(256)] * 3)


def _outlined(pixels: Pixels, above: Pixels) -> Pixels:
    """Return the picture with a cyan line and a dark halo around the white areas of `above`."""
    width = max(1, round(max(above.shape) / 256))  # follows the picture's size
    line = _grown(above, width)
    halo = _grown(line, width)
    outlined = pixels.copy()
    outlined[(halo > 0) & (line == 0)] = HALO
    outlined[(line > 0) & (above == 0)] = CONTOUR
    return outlined


def _grown(area: Pixels, by: int) -> Pixels:
    """Return the white areas of (H, W) grown by so many pixels on all sides.

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


@dataclass(frozen=True, eq=False)
class RegionMask:
    """A defect region in pixels of its map, with the pixels that belong to it."""

    region: DefectRegion
    inside: NDArray[np.bool_]
    """Of the region's box: (height, width)."""


def region_masks(anomaly_map: NDArray[np.float32], threshold: float) -> list[RegionMask]:
    """Return the connected areas (diagonals too) of a map (H, W) at or above the threshold, the highest peak first."""
    from scipy import ndimage  # here: the API draws heatmaps too, and its installation has no SciPy

    labels, _ = ndimage.label(anomaly_map >= threshold, structure=np.ones((3, 3), dtype=np.int8))
    found = []
    for index, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        inside = labels[rows, columns] == index
        box = (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
        peak = float(anomaly_map[rows, columns][inside].max())
        found.append(RegionMask(DefectRegion(box, int(inside.sum()), peak), inside))
    return sorted(found, key=lambda one: (-one.region.peak, one.region.box))


def defect_regions(
    anomaly_map: NDArray[np.float32], threshold: float, placement: Placement | None = None
) -> list[DefectRegion]:
    """Return the connected areas (diagonals too) of a map at or above the threshold, the highest peak first.

    Args:
        anomaly_map: (H, W).
        threshold: map value from which a pixel is defective.
        placement: the one whose `restore` made the map; boxes and areas are then in pixels of the upright original.
            None: they are in pixels of the map.
    """
    regions = [one.region for one in region_masks(anomaly_map, threshold)]
    if placement is not None:
        regions = [_in_original(region, placement) for region in regions]
    return sorted(regions, key=lambda region: (-region.peak, region.box))


def hottest_place(anomaly_map: NDArray[np.float32], placement: Placement) -> tuple[int, int, float]:
    """Return where the map (H, W) is highest, x and y in pixels of the upright original, and its value there.

    Args:
        anomaly_map: as the placement's `restore` made it. NaN counts as the highest.
        placement: that one.
    """
    row, column = np.unravel_index(np.argmax(anomaly_map), anomaly_map.shape)
    x, y, width, height = placement.to_original((int(column), int(row), 1, 1))
    return x + width // 2, y + height // 2, float(anomaly_map[row, column])


def _in_original(region: DefectRegion, placement: Placement) -> DefectRegion:
    area = placement.area_in_original(region.area_px)
    return DefectRegion(placement.to_original(region.box), area, region.peak)


def reduction(rows: int, columns: int) -> int:
    """Return the whole factor by which a plane is reduced to make a picture of it."""
    return -(-max(rows, columns) // LONGEST_PX)


def reduced(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a map (H, W) at most `LONGEST_PX` long.

    Each pixel is the largest of the block that it stands for, so that no peak is lost.
    """
    by = reduction(*values.shape)
    if by == 1:
        return values
    lines = np.maximum.reduceat(values, range(0, len(values), by), axis=0)
    return np.asarray(np.maximum.reduceat(lines, range(0, values.shape[1], by), axis=1))


class Mosaic:
    """A picture of the plane that grows tile by tile; each is drawn up to the middle of its overlap with the next."""

    def __init__(self, layout: TileLayout) -> None:
        rows, columns = layout.placement.rows, layout.placement.columns
        self._layout, self._by = layout, reduction(rows, columns)
        self._canvas = np.zeros((-(-rows // self._by), -(-columns // self._by), 3), dtype=np.uint8)

    def add(self, tile: Tile, square: Pixels) -> None:
        """Draw a tile's pixels (side, side, 3) in their place."""
        column, row = tile.index % len(self._layout.xs), tile.index // len(self._layout.xs)
        left, right = self._own(self._layout.xs, column)
        top, bottom = self._own(self._layout.ys, row)
        box = (left * self._by - tile.x, top * self._by - tile.y, right * self._by - tile.x, bottom * self._by - tile.y)
        self._canvas[top:bottom, left:right] = self._shrunk(square, box)

    @property
    def picture(self) -> Pixels:
        """Return the plane reduced to at most `LONGEST_PX`, (h, w, 3); black where no tile was added."""
        return self._canvas

    def _own(self, starts: tuple[int, ...], index: int) -> tuple[int, int]:
        """Return the first and the end pixel, in the picture, of the part of a tile that is drawn along one axis."""
        side = self._layout.side
        first = 0 if index == 0 else (starts[index] + starts[index - 1] + side) // 2 // self._by
        last = index == len(starts) - 1
        end = (starts[index] + side) if last else (starts[index + 1] + starts[index] + side) // 2
        return first, -(-end // self._by) if last else end // self._by

    def _shrunk(self, square: Pixels, box: tuple[int, int, int, int]) -> Pixels:
        left, top, right, bottom = box
        if self._by == 1:
            return square[top:bottom, left:right]
        size = (right - left) // self._by, (bottom - top) // self._by
        side = self._layout.side
        inside = (left, top, min(right, side), min(bottom, side))
        return np.asarray(Image.fromarray(square).resize(size, Image.Resampling.BOX, box=inside))
