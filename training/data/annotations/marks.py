"""Marks on images: polygons, boxes, ellipses and run lengths as masks of their image's size. Needs the extra [formats].

Masks are kept as COCO's run lengths, so thousands of large images fit the memory. pycocotools fills polygons, so that
a mask is the one that COCO's own tools make of them. What it does not check is checked before: run lengths of another
sum give it masks of uninitialised memory, and a polygon far outside the image takes all memory there is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_masks

from training.data.image_files import DataError

Rle: TypeAlias = dict[str, Any]
"""COCO's compressed run lengths: `size` and `counts`."""
Point: TypeAlias = tuple[float, float]
OUTSIDE_PX = 2.0
"""Tools let a point lie a little outside of the image; further out, coordinates are of another image."""
ELLIPSE_CORNERS = 180


@dataclass(frozen=True)
class Mark:
    """A marked area of an image."""

    category: str
    mask: Rle
    is_box: bool
    """Whether it says only where the defect is, not which pixels it has."""


@dataclass(frozen=True)
class AnnotatedImage:
    """An image with its marks, as a file of annotations has it; without marks it is good."""

    names: tuple[str, ...]
    """By which its file may be found, the best first; paths with slashes."""
    where: str
    """Of it in the file of annotations, for errors."""
    size: tuple[int, int] | None
    """Width and height of the upright image on which it was marked; None: the file of annotations does not say."""
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Annotations:
    """The images of a file of annotations, and what of it takes no part."""

    images: tuple[AnnotatedImage, ...]
    notes: tuple[str, ...] = ()


def rings_mask(rings: Sequence[Sequence[Point]], width: int, height: int) -> Rle:
    """Return the mask of polygons together.

    Raises:
        DataError: for a ring of less than three points, one outside of the image, or one inside another: that would be
            filled, and was probably meant as a hole.
    """
    masks = [_ring_mask(ring, width, height) for ring in rings]
    for outer in masks:
        for inner in masks:
            both = coco_masks.area(coco_masks.merge([outer, inner], intersect=True))
            if inner is not outer and both == coco_masks.area(inner) < coco_masks.area(outer):
                raise DataError(
                    "one of its polygons lies inside another; polygons are joined, so a hole would be filled: mark it "
                    "with a brush, or export masks (RLE) in place of polygons"
                )
    return joined(masks)


def _ring_mask(ring: Sequence[Point], width: int, height: int) -> Rle:
    if len(ring) < 3:
        raise DataError(f"a polygon has {len(ring)} point(s), and needs 3: mark it again, or remove it")
    points = np.asarray(ring, dtype=np.float64)
    if not np.isfinite(points).all():
        raise DataError("a polygon has a coordinate that is no number: export it again")
    limit = np.asarray([width, height], dtype=np.float64)
    if (points < -OUTSIDE_PX).any() or (points > limit + OUTSIDE_PX).any():
        x, y = points[np.argmax(np.maximum(-points, points - limit).max(axis=1))]
        raise DataError(
            f"the point {x:.1f}, {y:.1f} lies outside of the image, which is {width}×{height}: was it marked on "
            "another image, or in another size?"
        )
    flat = np.clip(points, 0, limit).ravel().tolist()
    (mask,) = coco_masks.frPyObjects([flat], height, width)
    return dict(mask)


def box_ring(x: float, y: float, width: float, height: float, degrees: float = 0) -> list[Point]:
    """Return the corners of a box that is turned clockwise around its first corner, the upper left one."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners = ((0.0, 0.0), (width, 0.0), (width, height), (0.0, height))
    return [(x + across * cos - down * sin, y + across * sin + down * cos) for across, down in corners]


def ellipse_ring(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0) -> list[Point]:
    """Return points of an ellipse that is turned clockwise around its middle, x and y."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turns = np.linspace(0, 2 * math.pi, ELLIPSE_CORNERS, endpoint=False)
    across, down = radius_x * np.cos(turns), radius_y * np.sin(turns)
    return list(zip((x + across * cos - down * sin).tolist(), (y + across * sin + down * cos).tolist(), strict=True))


def counts_mask(counts: str | Sequence[int], width: int, height: int) -> Rle:
    """Return the mask of COCO's run lengths, compressed (a text) or not: columns first, beginning with what is good.

    Raises:
        DataError: if they are no run lengths of an image of this size.
    """
    try:
        lengths = _uncompressed(counts) if isinstance(counts, str) else [int(count) for count in counts]
    except IndexError:
        lengths = [-1]
    if min(lengths, default=-1) < 0 or sum(lengths) != width * height:
        raise DataError(
            f"its run lengths are not those of an image of {width}×{height}, which has {width * height} pixels: is its "
            "`size` height first, as COCO has it, and the image's?"
        )
    return pixels_mask(_filled(lengths, width, height))


def _uncompressed(text: str) -> list[int]:
    """Return the run lengths of COCO's text: five bits a letter, from the third on less the one before the last.

    Raises:
        IndexError: if it ends within a number.
    """
    lengths: list[int] = []
    at = 0
    while at < len(text):
        number, shift, more = 0, 0, True
        while more:
            bits = ord(text[at]) - 48
            number |= (bits & 0x1F) << shift
            more, at, shift = bool(bits & 0x20), at + 1, shift + 5
            if not more and bits & 0x10:
                number -= 1 << shift
        lengths.append(number + (lengths[-2] if len(lengths) > 2 else 0))
    return lengths


def pixels_mask(pixels: NDArray[np.bool_]) -> Rle:
    """Return the mask of pixels (H, W)."""
    return dict(coco_masks.encode(np.asfortranarray(pixels, dtype=np.uint8)))


def joined(masks: Sequence[Rle]) -> Rle:
    """Return the mask of all areas together."""
    return dict(coco_masks.merge(list(masks)))


def area(mask: Rle) -> int:
    """Return the number of marked pixels."""
    return int(coco_masks.area(mask))


def as_pixels(mask: Rle) -> NDArray[np.bool_]:
    """Return a mask as (H, W)."""
    height, width = mask["size"]
    return _filled(_uncompressed(mask["counts"].decode("ascii")), width, height)


def _filled(lengths: Sequence[int], width: int, height: int) -> NDArray[np.bool_]:
    """Return run lengths as pixels (H, W): they run down the columns, and begin with what is not marked."""
    values = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return np.ascontiguousarray(values.reshape(width, height).T)
