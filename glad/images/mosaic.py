"""The pictures of an image's tiles put together as one picture of bounded size. NumPy and Pillow; no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glad.image_codec import Pixels
from glad.images.tiling import Tile, TileLayout

LONGEST_PX = 2048
"""No picture of an image's plane is longer."""


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
