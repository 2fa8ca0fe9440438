"""The EXIF orientation of an image file: how its stored rows become an upright image, row by row.

| orientation | what turns the image upright | stored sideways |
|---|---|---|
| 1, missing or damaged | nothing | no |
| 2, 4 | mirrored from left to right; from top to bottom | no |
| 3 | a half turn | no |
| 5, 7 | mirrored along one diagonal; along the other | yes |
| 6, 8 | a quarter turn clockwise; against the clock | yes |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ExifTags import Base

Levels = NDArray[Any]

SIDEWAYS = frozenset({5, 6, 7, 8})
"""Orientations that swap width and height."""

TURNED_BACK: dict[int, Callable[[Levels], Levels]] = {
    2: np.fliplr,
    3: lambda upright: np.rot90(upright, 2),
    4: np.flipud,
    5: lambda upright: upright.swapaxes(0, 1),
    6: np.rot90,
    7: lambda upright: np.rot90(upright, 2).swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}
"""Orientation -> what shows an upright image as it is stored, without a copy."""


def read_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; 1, which is "as stored", where there is none or it cannot be read."""
    try:
        return int(image.getexif().get(Base.Orientation, 1))
    except Exception:  # a damaged EXIF block does not spoil the pixels
        return 1


def allocate_upright(size: tuple[int, int], orientation: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return an upright image (H, W, 3) uint8 without content, and a view of it (h, w, 3) as the image is stored.

    To write the stored rows into the view turns them upright: a large image is not copied for it.

    Args:
        size: width and height as they are stored, in pixels.
        orientation: as `read_orientation` returns it.
    """
    width, height = size
    shape = (width, height, 3) if orientation in SIDEWAYS else (height, width, 3)
    upright = np.empty(shape, np.uint8)
    turn_back = TURNED_BACK.get(orientation)
    return upright, upright if turn_back is None else turn_back(upright)
