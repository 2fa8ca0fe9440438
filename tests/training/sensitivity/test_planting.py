"""A planted anomaly is as large and as strong in the original as is said, and lies where a defect would count."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from glad.image_codec import Pixels
from glad.settings.framing import Framing, Letterbox, Polygon, Stretch, Tiles, Zones
from glad.settings.method import MethodSettings
from training.sensitivity.planting import AnomalyDraw, Planting, draw_anomaly
from training.synthesis.anomalies import KINDS, VISIBLE
from training.synthesis.patterns import spectral_noise

SIDE = 64


def settings(framing: Framing | None = None, zones: Zones | None = None) -> MethodSettings:
    """Model images of 64 pixels."""
    given = {"framing": framing or Letterbox(), "zones": zones or Zones()}
    return MethodSettings.model_validate({"resolution": SIDE, "trigger": {"delta": 0.5}, **given})


@cache
def photograph(width: int = 96, height: int = 72) -> Pixels:
    """A grey surface with structure everywhere: levels from 60 to 200."""
    field = spectral_noise(np.random.Generator(np.random.Philox(2)), width, 1.5)[:height]
    return np.repeat((60 + 140 * field)[..., None], 3, axis=-1).astype(np.uint8)


def changed(pixels: Pixels, planted: Pixels) -> np.ndarray:
    """How much of the range each pixel changed: (H, W)."""
    return np.asarray(np.abs(planted.astype(float) - pixels).mean(-1) / 255)


@pytest.mark.parametrize("kind", KINDS)
def test_an_anomaly_of_every_kind_is_as_large_and_as_strong_in_the_original_as_it_is_said_to_be(kind: str) -> None:
    # 96 pixels become 64: with two pixels for each of the model's, the original's own are all there.
    pixels, seen = photograph(), 0
    for seed in range(6):
        drawn = draw_anomaly(pixels, settings(), AnomalyDraw(kind, (seed,), 1.0))
        if drawn is None or (measures := drawn.measures(25.0)) is None:
            continue
        seen += 1
        amount = changed(pixels, drawn.applied(pixels, 25.0))
        visible = amount > VISIBLE
        assert 255 * amount[visible].mean() == pytest.approx(measures.contrast, rel=0.05)
        if kind in ("crack", "stroke", "fray"):
            rows, columns = np.nonzero(visible)
            box = np.hypot(np.ptp(rows) + 1, np.ptp(columns) + 1)
            assert max(np.ptp(rows), np.ptp(columns)) - 2 <= measures.size_px <= box + 2
        else:
            assert np.sqrt(visible.sum()) == pytest.approx(measures.size_px, rel=0.08)  # rounded to whole levels
    assert seen >= 4


def test_the_same_anomaly_is_fainter_and_not_elsewhere_at_a_lower_contrast() -> None:
    pixels = photograph()
    drawn = draw_anomaly(pixels, settings(), AnomalyDraw("paste", (1,), 1.0))
    assert drawn is not None
    strong, faint = (changed(pixels, drawn.applied(pixels, contrast)) for contrast in (40.0, 10.0))
    assert faint.max() < 0.5 * strong.max()
    assert not (faint[strong == 0] > 1 / 255).any()
    assert np.array_equal(
        Planting(AnomalyDraw("paste", (1,), 1.0), 40.0, settings())(pixels), drawn.applied(pixels, 40.0)
    )


def test_no_anomaly_is_made_stronger_than_it_was_drawn() -> None:
    drawn = draw_anomaly(photograph(), settings(), AnomalyDraw("spot", (3,), 1.0))
    assert drawn is not None
    most = drawn.measures(1000.0)
    assert most is not None
    assert most.contrast == pytest.approx(drawn.contrast)


@pytest.mark.parametrize("framing", [Letterbox(), Stretch(), Tiles(side=48, overlap=8)])
@pytest.mark.parametrize("kind", ["crack", "spot"])
def test_an_anomaly_lies_where_a_defect_would_count_under_every_framing(framing: Framing, kind: str) -> None:
    left_half = Zones(ignore=(Polygon(points=((0.5, 0), (1, 0), (1, 1), (0.5, 1))),))
    pixels, seen = photograph(), 0
    for seed in range(8):
        drawn = draw_anomaly(pixels, settings(framing, left_half), AnomalyDraw(kind, (seed,), 1.0))
        if drawn is None:
            continue
        amount = changed(pixels, drawn.applied(pixels, 60.0))
        assert amount.any()
        assert not (amount[:, 51:] > VISIBLE).any()  # half of 96, and what resampling to whole pixels may add
        seen += 1
    assert seen >= 4


def test_sizes_are_told_in_pixels_of_a_large_original() -> None:
    # 1024 pixels become 64; anomalies are drawn at 128, and one of its pixels is 8 x 8 of the original.
    pixels = photograph(1024, 640)
    drawn = draw_anomaly(pixels, settings(), AnomalyDraw("paste", (5,), 1.0))
    assert drawn is not None
    measures = drawn.measures(60.0)
    assert measures is not None
    visible = changed(pixels, drawn.applied(pixels, 60.0)) > VISIBLE
    assert np.sqrt(visible.sum()) == pytest.approx(measures.size_px, rel=0.15)


def test_a_larger_magnification_is_a_larger_anomaly() -> None:
    sizes = []
    for magnification in (0.5, 1.0, 3.0):
        drawn = [draw_anomaly(photograph(), settings(), AnomalyDraw("missing", (s,), magnification)) for s in range(10)]
        measured = [one.measures(255.0) for one in drawn if one is not None]
        sizes.append(np.median([one.size_px for one in measured if one is not None]))
    assert sizes[0] < sizes[1] < sizes[2]
