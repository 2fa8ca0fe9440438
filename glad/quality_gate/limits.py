"""The quality gate: which images are fit for inspection, by limits that good images set. Plain data, as stored.

An image that is too dark, too bright, blurred or without the part is left to people: its score would mean nothing.
docs/quality-gate.md says how the limits are found and what they catch.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from enum import StrEnum

from pydantic import ConfigDict, Field, field_validator

from glad.settings import Frozen

VIEW_SIDE = 48
"""Side of a view, in pixels: so small that neither noise nor a defect is seen in it, large enough for a part's outline.
"""


class QualityCheck(StrEnum):
    """The reasons for which an image is not inspected."""

    NO_PART = "no_part"
    TOO_DARK = "too_dark"
    TOO_BRIGHT = "too_bright"
    BLURRED = "blurred"


@dataclass(frozen=True)
class Unfit:
    """One reason why an image is not inspected."""

    check: QualityCheck
    measure: str
    """What was measured: a field of `QualityGate`."""
    value: float
    limit: float
    detail: str
    """In words, with what to do."""


class QualityGate(Frozen):
    """The limits of one product. A share above, or anything else below or above, is unfit."""

    model_config = ConfigDict(allow_inf_nan=False)

    darkest: float = Field(ge=0, description="least brightness: the mean grey, 0 ... 255")
    brightest: float = Field(ge=0, description="largest brightness")
    black_share: float = Field(ge=0, description="largest share of the image in black, 0 ... 1")
    white_share: float = Field(ge=0, description="largest share of the image in white, 0 ... 1")
    sharpness: float = Field(ge=0, description="least sharpness: cycles per pixel of the model image")
    likeness: float | None = Field(
        gt=0, le=1, description="least correlation with `view`; None: the good images have no view in common"
    )
    view: str = Field(description=f"base64 of {VIEW_SIDE}×{VIEW_SIDE} grey levels: the mean of good images")
    good_images: int = Field(ge=1, description="that set the limits")

    @field_validator("view")
    @classmethod
    def _is_a_view(cls, value: str) -> str:
        try:
            size = len(base64.b64decode(value, validate=True))
        except binascii.Error as error:
            raise ValueError(f"view is not base64 ({error}): learn the gate again with `glad gate`") from error
        if size != VIEW_SIDE**2:
            raise ValueError(f"view holds {size} grey levels; {VIEW_SIDE**2} are needed: learn it with `glad gate`")
        return value
