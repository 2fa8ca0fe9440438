"""Which images the quality gate stops, and what it says of them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from glad.quality_gate.limits import QualityCheck, Unfit
from glad.quality_gate.measure import find_unfit, measure_quality
from glad.settings.method import MethodSettings
from tests.support.gates import SIDE, a_gate, a_part

SETTINGS = MethodSettings.model_validate({"resolution": SIDE, "trigger": {"delta": 0.3}})


def unfit(pixels: NDArray[np.uint8], **limits: object) -> list[Unfit]:
    return list(find_unfit(a_gate(**limits), measure_quality(pixels, SETTINGS)))


def checks(pixels: NDArray[np.uint8], **limits: object) -> list[QualityCheck]:
    return [one.check for one in unfit(pixels, **limits)]


def blurred(radius: float) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(a_part()).filter(ImageFilter.GaussianBlur(radius)))


def flat(level: int) -> NDArray[np.uint8]:
    return np.full((SIDE, SIDE, 3), level, dtype=np.uint8)


def test_a_good_image_is_fit() -> None:
    assert checks(a_part()) == []
    assert checks(a_part(level=80)) == []
    assert checks(a_part(level=120)) == []


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (a_part(level=40), [QualityCheck.TOO_DARK]),
        (a_part(level=190), [QualityCheck.TOO_BRIGHT]),
        (flat(0), [QualityCheck.TOO_DARK]),
        (flat(255), [QualityCheck.TOO_BRIGHT]),
        (flat(100), [QualityCheck.NO_PART]),
        (np.ascontiguousarray(a_part()[::-1]), [QualityCheck.NO_PART]),
        (blurred(6), [QualityCheck.BLURRED]),
        (
            flat(40),
            [QualityCheck.NO_PART, QualityCheck.TOO_DARK],
        ),  # an empty bench, darker than the part: the lamp may be well
    ],
)
def test_each_fault_is_told_as_one(pixels: NDArray[np.uint8], expected: list[QualityCheck]) -> None:
    assert checks(pixels) == expected


def test_half_an_image_in_white_is_a_matter_of_light_whatever_else() -> None:
    pixels = flat(255)
    pixels[: SIDE // 2 - 4] = 30
    assert checks(pixels, brightest=200.0) == [QualityCheck.TOO_BRIGHT]


def test_a_glare_is_too_bright_though_the_image_as_a_whole_is_not() -> None:
    pixels = a_part(level=80)
    pixels[:30, :60] = 255
    (found,) = unfit(pixels, likeness=None)
    assert (found.check, found.measure) == (QualityCheck.TOO_BRIGHT, "white_share")
    assert found.value == pytest.approx(30 * 60 / SIDE**2, abs=0.01)
    assert found.limit == 0.1


def test_without_a_common_view_nobody_asks_for_the_part() -> None:
    assert checks(np.ascontiguousarray(a_part()[::-1]), likeness=None) == []


def test_the_words_give_value_limit_and_what_to_check() -> None:
    (dark,) = unfit(flat(2))
    assert dark.detail == "too dark: brightness 2 of 255, at least 60: check lamp, exposure and lens cap"
    assert (dark.measure, dark.limit) == ("darkest", 60)
    assert dark.value == pytest.approx(2)
    (absent,) = unfit(flat(100))
    assert absent.detail.startswith("no part, or another one: likeness to good images 0.00, at least 0.80: check the")
    (soft,) = unfit(blurred(6))
    assert "at least 0.050: check focus, lens and motion" in soft.detail
