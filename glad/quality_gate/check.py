"""The check of the quality gate: an image's measures beside its product's limits. NumPy; no torch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from glad.quality_gate.limits import VIEW_SIDE, QualityCheck, QualityGate, Unfit
from glad.quality_gate.measure import LightMeasures, QualityMeasures, likeness

MOSTLY = 0.5
"""From this share of black or of white on the light alone is reported: nothing else can be seen."""


def find_unfit(gate: QualityGate, measured: QualityMeasures) -> tuple[Unfit, ...]:
    """Return why this image is unfit, what to put right first; () if it is fit.

    Sharpness is checked only where the part is there and lit, and its presence only where enough can be seen: so one
    fault is reported once.
    """
    light = tuple(_light(gate, measured.light))
    if light and max(measured.light.black_share, measured.light.white_share) >= MOSTLY:
        return light
    return (*_part(gate, measured), *light) or tuple(_focus(gate, measured.sharpness))


def _light(gate: QualityGate, light: LightMeasures) -> Iterator[Unfit]:
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


def _part(gate: QualityGate, measured: QualityMeasures) -> Iterator[Unfit]:
    correlation = likeness(measured.view, _expected(gate))
    if gate.likeness is not None and correlation < gate.likeness:
        detail = (
            f"no part, or another one: likeness to good images {correlation:.2f}, at least {gate.likeness:.2f}: "
            "check the part, its place and the product that is chosen"
        )
        yield Unfit(QualityCheck.NO_PART, "likeness", correlation, gate.likeness, detail)


def _focus(gate: QualityGate, sharpness: float) -> Iterator[Unfit]:
    if sharpness < gate.sharpness:
        detail = f"blurred: sharpness {sharpness:.3f}, at least {gate.sharpness:.3f}: check focus, lens and motion"
        yield Unfit(QualityCheck.BLURRED, "sharpness", sharpness, gate.sharpness, detail)


def _expected(gate: QualityGate) -> NDArray[np.float32]:
    """Return the view of good images: (VIEW_SIDE, VIEW_SIDE), 0 ... 255."""
    return np.frombuffer(gate.view_levels, dtype=np.uint8).reshape(VIEW_SIDE, VIEW_SIDE).astype(np.float32)
