"""The placement of an original in the plane of its map, and the way back; letterbox and resampling. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glad.image_codec import Pixels

Scalar = TypeVar("Scalar", bound=np.generic)
Box = tuple[int, int, int, int]
"""x, y, width, height in pixels."""

ALIGNMENT = 8
"""The content's left and top are multiples of this, so that it starts on the patch grid of all supported models."""


@dataclass(frozen=True)
class Size:
    """A width and a height in pixels."""

    width: int
    height: int


@dataclass(frozen=True)
class Placement:
    """The place of an original in a plane: a square model image, or the many of a tiled image side by side."""

    rows: int
    """Of the plane, in pixels at the model's scale."""
    columns: int
    left: int
    """Of the content inside the plane."""
    top: int
    content_width: int
    """Of the content as the plane shows it, stretched or not."""
    content_height: int
    width: int
    """Of `restore`'s result: the content in the original's aspect."""
    height: int
    original_width: int
    original_height: int

    @property
    def scale(self) -> float:
        """Return the model pixels per pixel of the original, along its longer side."""
        return max(self.width, self.height) / max(self.original_width, self.original_height)

    def valid_pixels(self) -> NDArray[np.bool_]:
        """Return the mask (rows, columns): true on content, false on padding."""
        valid = np.zeros((self.rows, self.columns), dtype=np.bool_)
        valid[self.content] = True
        return valid

    @property
    def content(self) -> tuple[slice, slice]:
        """Return the rows and columns of the content in the plane."""
        return slice(self.top, self.top + self.content_height), slice(self.left, self.left + self.content_width)

    def restore(self, values: NDArray[Scalar]) -> NDArray[Scalar]:
        """Return the content (height, width, ...), in the original's aspect, of a plane's values (rows, columns, ...).

        A picture of the plane that was reduced to fewer pixels gives its content reduced likewise. What was stretched
        is resampled: bilinearly, booleans by the nearest.
        """
        down, across = len(values) / self.rows, values.shape[1] / self.columns
        rows = slice(round(self.top * down), round((self.top + self.content_height) * down))
        columns = slice(round(self.left * across), round((self.left + self.content_width) * across))
        content = values[rows, columns]
        if (self.content_width, self.content_height) == (self.width, self.height):
            return content
        return _resized(content, self.width, self.height)

    def to_original(self, box: Box) -> Box:
        """Return the smallest box of the original's pixels that holds a box in pixels of `restore`'s result."""
        x, y, width, height = box
        left, right = _touched(x, x + width, self.original_width, self.width)
        top, bottom = _touched(y, y + height, self.original_height, self.height)
        return left, top, right - left, bottom - top

    def area_in_original(self, area: int) -> int:
        """Return an area in pixels of `restore`'s result as pixels of the original, at least 1."""
        return max(1, round(area * self.original_width * self.original_height / (self.width * self.height)))


@dataclass(frozen=True, eq=False)
class Fitted:
    """An image letterboxed into the square model image."""

    pixels: Pixels
    """(side, side, 3) uint8."""
    placement: Placement


def letterbox(width: int, height: int, side: int) -> Placement:
    """Return the placement of an original scaled by one factor into a square, centred on the patch grid."""
    scale = side / max(height, width)
    content_width, content_height = max(1, round(width * scale)), max(1, round(height * scale))
    return centred(Size(side, side), Size(content_width, content_height), Size(width, height))


def centred(plane: Size, content: Size, original: Size) -> Placement:
    """Return the placement of content that keeps its aspect in the middle of a plane, on the patch grid."""
    left, top = (
        (room - shown) // 2 // ALIGNMENT * ALIGNMENT
        for room, shown in ((plane.width, content.width), (plane.height, content.height))
    )
    shown = content.width, content.height
    return Placement(plane.height, plane.width, left, top, *shown, *shown, original.width, original.height)


def stretched(width: int, height: int, side: int) -> Placement:
    """Return the placement of an original stretched to a square, both axes scaled separately."""
    scale = side / max(height, width)
    restored = max(1, round(width * scale)), max(1, round(height * scale))
    return Placement(side, side, 0, 0, side, side, *restored, width, height)


def fit(pixels: Pixels, side: int) -> Fitted:
    """Return an image (H, W, 3) letterboxed into (side, side, 3); see `resample` and `padded`."""
    height, width = pixels.shape[:2]
    placement = letterbox(width, height, side)
    content = resample(pixels, (0, 0, width, height), placement.content_width, placement.content_height)
    return Fitted(padded(content, side, placement.content), placement)


def padded(content: Pixels, side: int, place: tuple[slice, slice]) -> Pixels:
    """Return a square (side, side, 3) with content (h, w, 3) at its place.

    Padding is one colour, the median of the content's border: the least edge for a convolution, and not moved by a few
    odd pixels.
    """
    if content.shape[:2] == (side, side):
        return content
    canvas = np.empty((side, side, 3), dtype=np.uint8)
    canvas[:] = _border_median(content)
    canvas[place] = content
    return canvas


def resample(
    pixels: Pixels,
    box: tuple[float, float, float, float],
    width: int,
    height: int,
    how: Image.Resampling = Image.Resampling.LANCZOS,
) -> Pixels:
    """Return the part of an image (H, W, 3) inside a box, resampled to (height, width, 3).

    The filter is widened for shrinking: antialiased, and with Lanczos thin scratches keep their contrast better than
    under a box filter. What already has the size is not resampled. The filter sees beyond the box, so that a part is
    what the whole image, resampled and then cut, would show there.

    Args:
        pixels: (H, W, 3) uint8.
        box: left, top, right, bottom in pixels of the image, whole or not.
        width: of the result.
        height: of the result.
        how: the filter.
    """
    left, top, right, bottom = box
    if (right - left, bottom - top) == (width, height) and left == int(left) and top == int(top):
        return pixels[int(top) : int(bottom), int(left) : int(right)]
    # Only the surroundings that the filter can see are handed to Pillow: a copy of the whole image is not needed.
    reach = math.ceil(8 * max(1.0, (right - left) / width, (bottom - top) / height))
    x, y = max(0, int(left) - reach), max(0, int(top) - reach)
    surroundings = pixels[y : math.ceil(bottom) + reach, x : math.ceil(right) + reach]
    inside = (left - x, top - y, right - x, bottom - y)
    image = Image.fromarray(np.ascontiguousarray(surroundings))
    return np.array(image.resize((width, height), how, box=inside, reducing_gap=3.0))


def in_patches(pixels: NDArray[np.bool_], patch: int) -> NDArray[np.bool_]:
    """Return pixels (H, W) as (H / patch, W / patch): true where a patch holds any true pixel.

    Raises:
        ValueError: if patches do not divide the image.
    """
    rows, columns = pixels.shape
    if rows % patch or columns % patch:
        raise ValueError(f"patches of {patch} pixels do not divide an image of {columns}×{rows}")
    return np.asarray(pixels.reshape(rows // patch, patch, columns // patch, patch).any(axis=(1, 3)))


def _resized(values: NDArray[Scalar], width: int, height: int) -> NDArray[Scalar]:
    how = Image.Resampling.NEAREST if values.dtype == np.bool_ else Image.Resampling.BILINEAR
    ready = values.astype(np.float32) if values.dtype == np.float16 else values
    resized = np.asarray(Image.fromarray(np.ascontiguousarray(ready)).resize((width, height), how))
    return cast("NDArray[Scalar]", resized.astype(values.dtype))


def _touched(start: int, stop: int, original: int, content: int) -> tuple[int, int]:
    """Return the whole pixels of the original that an interval of content pixels touches."""
    return start * original // content, min(original, -(-stop * original // content))


def _border_median(pixels: Pixels) -> Pixels:
    """Return the median colour (3,) of the outermost pixels of an image (H, W, 3)."""
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return np.asarray(np.median(border, axis=0).round(), dtype=np.uint8)
