"""Framing, how an image of any size becomes square model images; zones, where on it defects count. No torch."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from glad.settings import Frozen


class Letterbox(Frozen):
    """The whole image, scaled by one factor into the square model image; the rest is padding."""

    kind: Literal["letterbox"] = "letterbox"


class Stretch(Frozen):
    """The whole image, stretched to the square model image bilinearly, as the authors' code does it."""

    kind: Literal["stretch"] = "stretch"
    via: int | None = Field(None, ge=16, description="resized to this side first, then to the model's (multi-class)")


class Tiles(Frozen):
    """Overlapping square tiles, each a lane: a large image keeps its small defects."""

    kind: Literal["tiles"] = "tiles"
    side: int = Field(ge=16, description="of a tile, in pixels of the upright original")
    overlap: int = Field(ge=0, description="of neighbouring tiles at least, in pixels of the upright original")

    @model_validator(mode="after")
    def _tiles_advance(self) -> Self:
        if self.overlap > self.side // 2:
            raise ValueError(
                f"overlap is {self.overlap}, a tile's side {self.side}: at most half a tile may overlap; "
                f"use at most {self.side // 2}"
            )
        return self


Framing = Annotated[Letterbox | Stretch | Tiles, Field(discriminator="kind")]
"""How an image of any size becomes square model images."""


Fraction = Annotated[float, Field(ge=0, le=1)]


class Polygon(Frozen):
    """An area of the upright original, whatever its size in pixels."""

    points: tuple[tuple[Fraction, Fraction], ...] = Field(
        min_length=3, description="x, y as fractions of the image's width and height"
    )


class Zones(Frozen):
    """The areas that are inspected. All else takes no part in trigger, score and regions, and is 0 in the map."""

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
        from glad.image_codec import ImageError, decode_image  # here: settings alone need neither NumPy nor Pillow

        try:
            decode_image(content)
        except ImageError as error:
            raise ValueError(f"ignore_mask is a PNG that cannot be read ({error}): store it again") from error
        return value

    @property
    def ignore_png(self) -> bytes | None:
        """Return the bytes of the PNG, if there is one."""
        return None if self.ignore_mask is None else _decoded(self.ignore_mask)

    @property
    def everywhere(self) -> bool:
        """Return whether the whole image is inspected."""
        return not self.include and not self.ignore and self.ignore_mask is None


def _decoded(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError(f"ignore_mask is not base64 ({error}): encode the PNG file's bytes") from error
