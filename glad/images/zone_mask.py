"""Zones drawn at the size of an image: which of its pixels count. NumPy and Pillow; no torch."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from glad.image_codec import decode_image
from glad.settings.zones import Polygon, Zones


def zone_mask(zones: Zones, width: int, height: int) -> NDArray[np.bool_]:
    """(height, width): true where an original drawn at this size counts.

    A pixel belongs to a polygon that covers its centre or touches it with its outline; it is ignored by the mask when
    more than half of it is.
    """
    shown = _filled(zones.include, width, height) if zones.include else np.ones((height, width), dtype=np.bool_)
    shown &= ~_filled(zones.ignore, width, height)
    if zones.ignore_png is not None:
        white = decode_image(zones.ignore_png).pixels[:, :, 0] > 127
        shown &= np.asarray(Image.fromarray(white).convert("L").resize((width, height), Image.Resampling.BOX)) < 128
    return shown


def _filled(polygons: Iterable[Polygon], width: int, height: int) -> NDArray[np.bool_]:
    """(height, width): true inside any of the polygons."""
    image = Image.new("1", (width, height))
    draw = ImageDraw.Draw(image)
    for polygon in polygons:  # Pillow's whole numbers are the middles of pixels
        draw.polygon([(x * width - 0.5, y * height - 0.5) for x, y in polygon.points], fill=1, outline=1)
    return np.array(image)
