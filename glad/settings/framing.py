"""How an image of any size becomes square model images. No torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from glad.settings.base import Frozen


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
