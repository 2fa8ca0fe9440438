"""The quality gate: which images are fit for inspection, by limits that good images set. Plain data, as stored.

An image that is too dark, too bright, blurred or without the part is left to people: its score would mean nothing.
docs/quality-gate.md says how the limits are found and what they catch.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from pydantic import ConfigDict, Field, field_validator

from glad.settings import Frozen

VIEW_SIDE = 48
"""Side of a view, in pixels: so small that neither noise nor a defect is seen in it, large enough for a part's outline.
"""
MOSTLY = 0.5
"""From this share of black or of white on the light alone is reported: nothing else can be seen."""


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


@dataclass(frozen=True)
class GateMeasures:
    """The numbers of an image that limits are about."""

    brightness: float
    """Mean grey, 0 ... 255: `darkest` and `brightest` limit it."""
    black_share: float
    white_share: float
    sharpness: float
    likeness: float
    """Correlation with the gate's view, -1 ... 1."""


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


def check_limits(gate: QualityGate, measures: GateMeasures) -> tuple[Unfit, ...]:
    """Return why an image with these measures is unfit, what to put right first; () if it is fit.

    Sharpness is checked only where the part is there and lit, and its presence only where enough can be seen: so one
    fault is reported once.
    """
    light = tuple(_check_light(gate, measures))
    if light and max(measures.black_share, measures.white_share) >= MOSTLY:
        return light
    return (*_check_part(gate, measures.likeness), *light) or tuple(_check_focus(gate, measures.sharpness))


def _check_light(gate: QualityGate, light: GateMeasures) -> Iterator[Unfit]:
    dark, bright = "check lamp, exposure and lens cap", "check lamp, exposure and reflections"
    if light.brightness < gate.darkest:
        detail = f"too dark: brightness {light.brightness:.0f} of 255, at least {gate.darkest:.0f}: {dark}"
        yield Unfit(QualityCheck.TOO_DARK, "darkest", light.brightness, gate.darkest, detail)
    elif light.black_share > gate.black_share:
        detail = f"too dark: {light.black_share:.0%} of it is black, at most {gate.black_share:.0%}: {dark}"
        yield Unfit(QualityCheck.TOO_DARK, "black_share", light.black_share, gate.black_share, detail)
    if light.brightness > gate.brightest:
        detail = f"too bright: brightness {light.brightness:.0f} of 255, at most {gate.brightest:.0f}: {bright}"
        yield Unfit(QualityCheck.TOO_BRIGHT, "brightest", light.brightness, gate.brightest, detail)
    elif light.white_share > gate.white_share:
        detail = f"too bright: {light.white_share:.0%} of it is white, at most {gate.white_share:.0%}: {bright}"
        yield Unfit(QualityCheck.TOO_BRIGHT, "white_share", light.white_share, gate.white_share, detail)


def _check_part(gate: QualityGate, correlation: float) -> Iterator[Unfit]:
    if gate.likeness is not None and correlation < gate.likeness:
        detail = (
            f"no part, or another one: likeness to good images {correlation:.2f}, at least {gate.likeness:.2f}: "
            "check the part, its place and the product that is chosen"
        )
        yield Unfit(QualityCheck.NO_PART, "likeness", correlation, gate.likeness, detail)


def _check_focus(gate: QualityGate, sharpness: float) -> Iterator[Unfit]:
    if sharpness < gate.sharpness:
        detail = f"blurred: sharpness {sharpness:.3f}, at least {gate.sharpness:.3f}: check focus, lens and motion"
        yield Unfit(QualityCheck.BLURRED, "sharpness", sharpness, gate.sharpness, detail)
