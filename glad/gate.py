"""The quality gate: which images are fit for inspection, by limits that good images set. No torch.

An image that is too dark, too bright, blurred or without the part is for people to look at: its score would mean
nothing. docs/quality-gate.md tells how the limits are found and what they catch.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, field_validator

from glad.frozen import Frozen
from glad.light import Light
from glad.quality import VIEW_SIDE, Measured, likeness

NOTHING_TO_SEE = 0.95
"""From this share of black or of white on it is the light that fails, whatever may lie in front of the camera."""


class Check(StrEnum):
    """Why an image is not inspected."""

    NO_PART = "no_part"
    TOO_DARK = "too_dark"
    TOO_BRIGHT = "too_bright"
    BLURRED = "blurred"


@dataclass(frozen=True)
class Unfit:
    """One reason why an image is not inspected."""

    check: Check
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

    @cached_property
    def expected(self) -> NDArray[np.float32]:
        """`view` as (VIEW_SIDE, VIEW_SIDE), 0 ... 255."""
        levels = np.frombuffer(base64.b64decode(self.view), dtype=np.uint8)
        return levels.reshape(VIEW_SIDE, VIEW_SIDE).astype(np.float32)

    def judge(self, measured: Measured) -> tuple[Unfit, ...]:
        """Why this image is unfit, what to put right first; () for one that is fit.

        Whether a part is sharp is asked only where it is there and lit, and whether it is there only where anything can
        be seen at all: one fault is told as one.
        """
        light = tuple(self._light(measured.light))
        unseen = max(measured.light.black_share, measured.light.white_share) >= NOTHING_TO_SEE
        if light and unseen:
            return light
        return (*self._part(measured), *light) or tuple(self._focus(measured.sharpness))

    def _light(self, light: Light) -> Iterator[Unfit]:
        dark, bright = "check lamp, exposure and lens cap", "check lamp, exposure and reflections"
        if light.brightness < self.darkest:
            detail = f"too dark: brightness {light.brightness:.0f} of 255, at least {self.darkest:.0f}: {dark}"
            yield Unfit(Check.TOO_DARK, "darkest", light.brightness, self.darkest, detail)
        elif light.black_share > self.black_share:
            detail = f"too dark: {light.black_share:.0%} of it is black, at most {self.black_share:.0%}: {dark}"
            yield Unfit(Check.TOO_DARK, "black_share", light.black_share, self.black_share, detail)
        if light.brightness > self.brightest:
            detail = f"too bright: brightness {light.brightness:.0f} of 255, at most {self.brightest:.0f}: {bright}"
            yield Unfit(Check.TOO_BRIGHT, "brightest", light.brightness, self.brightest, detail)
        elif light.white_share > self.white_share:
            detail = f"too bright: {light.white_share:.0%} of it is white, at most {self.white_share:.0%}: {bright}"
            yield Unfit(Check.TOO_BRIGHT, "white_share", light.white_share, self.white_share, detail)

    def _part(self, measured: Measured) -> Iterator[Unfit]:
        found = likeness(measured.view, self.expected)
        if self.likeness is not None and found < self.likeness:
            detail = (
                f"no part, or another one: likeness to good images {found:.2f}, at least {self.likeness:.2f}: "
                "check the part, its place and the product that is chosen"
            )
            yield Unfit(Check.NO_PART, "likeness", found, self.likeness, detail)

    def _focus(self, sharpness: float) -> Iterator[Unfit]:
        if sharpness < self.sharpness:
            detail = f"blurred: sharpness {sharpness:.3f}, at least {self.sharpness:.3f}: check focus, lens and motion"
            yield Unfit(Check.BLURRED, "sharpness", sharpness, self.sharpness, detail)
