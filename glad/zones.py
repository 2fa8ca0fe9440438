"""Where on an image defects count: regions of interest and what is ignored. No torch."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydantic import Field, field_validator

from glad.frozen import Frozen
from glad.imaging import ImageError, decode_image

Fraction = Annotated[float, Field(ge=0, le=1)]


class Polygon(Frozen):
    """An area of the upright original, whatever its size in pixels."""

    points: tuple[tuple[Fraction, Fraction], ...] = Field(
        min_length=3, description="x, y as fractions of the image's width and height"
    )


class Zones(Frozen):
    """Where defects count. What lies outside takes no part in trigger, score and regions, and is 0 in the map."""

    include: tuple[Polygon, ...] = Field((), description="regions of interest; none: the whole image")
    ignore: tuple[Polygon, ...] = Field((), description="never inspected: a date code, a fixture")
    ignore_mask: str | None = Field(None, description="base64 of a PNG of any size: white (above 127) is ignored")

    @field_validator("ignore_mask")
    @classmethod
    def _is_png(cls, value: str | None) -> str | None:
        if value is None:
            return None
        content = _decoded(value)
        if not content.startswith(b"\x89PNG\r\n\x1a\n"):
            raise ValueError("ignore_mask is not the base64 of a PNG file: encode the file's bytes")
        try:
            decode_image(content)
        except ImageError as error:
            raise ValueError(f"ignore_mask is a PNG that cannot be read ({error}): store it again") from error
        return value

    def counted(self, width: int, height: int) -> NDArray[np.bool_]:
        """(height, width): true where an original drawn at this size counts.

        A pixel belongs to a polygon that covers its centre or touches it with its outline; it is ignored by the mask
        when more than half of it is.
        """
        shown = _filled(self.include, width, height) if self.include else np.ones((height, width), dtype=np.bool_)
        shown &= ~_filled(self.ignore, width, height)
        if self.ignore_png is not None:
            white = decode_image(self.ignore_png).pixels[:, :, 0] > 127
            shown &= np.asarray(Image.fromarray(white).convert("L").resize((width, height), Image.Resampling.BOX)) < 128
        return shown

    @property
    def ignore_png(self) -> bytes | None:
        """The bytes of the PNG, if there is one."""
        return None if self.ignore_mask is None else _decoded(self.ignore_mask)

    @property
    def everywhere(self) -> bool:
        """The whole image counts."""
        return not self.include and not self.ignore and self.ignore_mask is None


def _filled(polygons: Iterable[Polygon], width: int, height: int) -> NDArray[np.bool_]:
    """(height, width): true inside any of the polygons."""
    image = Image.new("1", (width, height))
    draw = ImageDraw.Draw(image)
    for polygon in polygons:  # Pillow's whole numbers are the middles of pixels
        draw.polygon([(x * width - 0.5, y * height - 0.5) for x, y in polygon.points], fill=1, outline=1)
    return np.array(image)


def _decoded(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError(f"ignore_mask is not base64 ({error}): encode the PNG file's bytes") from error
