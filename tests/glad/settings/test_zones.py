"""Where on an image defects count."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from glad.images.tiling import NothingCounts, frame, zone_mask
from glad.settings.framing import Polygon, Zones
from glad.settings.method import MethodSettings

LEFT_HALF = Polygon(points=((0, 0), (0.5, 0), (0.5, 1), (0, 1)))
MIDDLE = Polygon(points=((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75)))


def png(levels: list[list[int]]) -> str:
    target = io.BytesIO()
    Image.fromarray(np.array(levels, dtype=np.uint8)).save(target, "PNG")
    return base64.b64encode(target.getvalue()).decode()


@pytest.mark.parametrize(("width", "height"), [(40, 20), (400, 200), (52, 36)])
def test_polygons_are_fractions_of_the_image_whatever_its_size(width: int, height: int) -> None:
    inspected_mask = zone_mask(Zones(include=(LEFT_HALF,), ignore=(MIDDLE,)), width, height)
    y, x = np.mgrid[:height, :width] + 0.5
    away = np.minimum.reduce([abs(x / width - f) * width for f in (0.25, 0.5, 0.75)])
    away = np.minimum(away, np.minimum.reduce([abs(y / height - f) * height for f in (0.25, 0.75)]))
    expected = (x < width / 2) & ~((x > width / 4) & (y > height / 4) & (y < 3 * height / 4))
    assert (inspected_mask == expected)[away > 1].all()  # but for the pixels that an outline touches


def test_all_regions_of_interest_count_and_no_other_place() -> None:
    corner = Polygon(points=((0.9, 0.9), (1, 0.9), (1, 1), (0.9, 1)))
    inspected_mask = zone_mask(Zones(include=(LEFT_HALF, corner)), 100, 100)
    assert inspected_mask[50, 20]
    assert inspected_mask[95, 95]
    assert not inspected_mask[50, 80]


def test_a_mask_ignores_what_is_white() -> None:
    inspected_mask = zone_mask(Zones(ignore_mask=png([[255, 127], [128, 0]])), 4, 4)
    assert inspected_mask.tolist() == [[False, False, True, True]] * 2 + [[False, False, True, True]] * 2


def test_a_mask_that_does_not_decode_is_refused() -> None:
    broken = base64.b64encode(base64.b64decode(png([[0]]))[:30]).decode()
    with pytest.raises(ValidationError, match="cannot be read"):
        Zones(ignore_mask=broken)


def test_an_image_of_which_nothing_counts_is_refused() -> None:
    everything = Polygon(points=((0, 0), (1, 0), (1, 1), (0, 1)))
    settings = MethodSettings.model_validate(
        {"resolution": 32, "trigger": {"delta": 0.3}, "zones": Zones(ignore=(everything,))}
    )
    with pytest.raises(NothingCounts, match=r"nothing of an image of 60×40 pixels"):
        frame(np.zeros((40, 60, 3), dtype=np.uint8), settings, (4, 4, 4))


def test_a_patch_counts_when_any_of_it_does_and_zones_follow_the_letterbox() -> None:
    settings = MethodSettings.model_validate(
        {"resolution": 32, "trigger": {"delta": 0.3}, "zones": Zones(include=(LEFT_HALF,))}
    )
    framed = frame(np.zeros((20, 40, 3), dtype=np.uint8), settings, (4, 4, 4))  # content 32 × 16, rows 8 to 24
    square = framed.model_input(framed.tiles[0])
    assert square.inspected_pixels.sum() == 16 * 16
    assert square.inspected_patches.tolist() == [[False] * 4, *[[True, True, False, False]] * 2, [False] * 4]
