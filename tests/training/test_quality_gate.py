"""The quality gate's limits: how wide, from what, and what they promise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from glad.quality_gate.measure import QualityMeasures, find_unfit, measure_quality
from glad.settings.method import MethodSettings
from tests.support.gates import SIDE, a_part
from tests.support.tiny_recipe import draw_parts
from training.data.dataset import DataError, Split, good_split
from training.quality_gate import (
    LIKE_ENOUGH,
    beyond,
    expected_view,
    factor_above,
    factor_below,
    first_checks,
    learn_gate,
    limits_from_good_images,
    share_above,
)

SETTINGS = MethodSettings.model_validate({"resolution": SIDE, "trigger": {"delta": 0.3}})


def noisy(pixels: NDArray[np.uint8], seed: int, sigma: float = 3.0) -> NDArray[np.uint8]:
    rng = np.random.Generator(np.random.Philox(seed))
    return np.clip(pixels + rng.normal(rng.normal(0, 4), sigma, pixels.shape), 0, 255).astype(np.uint8)


def parts(first: int, count: int) -> list[QualityMeasures]:
    """Good parts under a light that varies."""
    return [measure_quality(noisy(a_part(), seed), SETTINGS) for seed in range(first, first + count)]


def test_a_limit_lies_as_far_beyond_the_extreme_as_that_from_the_median() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0, 9.0])  # median 3, largest 9
    assert beyond(values, 1.0) == 15
    assert beyond(values, 8.0) == 17  # the margin, where that is more
    assert factor_above([1, 2, 4], 1.1) == pytest.approx(8)
    assert factor_below([1, 2, 4], 1.1) == pytest.approx(0.5)
    assert factor_above([2, 2, 2], 1.25) == pytest.approx(2.5)
    assert factor_below([2, 2, 2], 1.25) == pytest.approx(1.6)
    assert share_above([0.0, 0.0]) == 0.05
    assert share_above([0.1, 0.9]) == 1.0  # nothing can pass it


def test_fresh_good_parts_pass_and_those_that_set_the_limits_too() -> None:
    known = parts(0, 40)
    gate = limits_from_good_images(known, expected_view(known[:20])).gate
    assert [one for one in (*known, *parts(1000, 60)) if find_unfit(gate, one)] == []


def test_the_report_says_how_many_good_parts_are_stopped_at_most() -> None:
    known = parts(0, 11)
    report = limits_from_good_images(known, expected_view(known)).report
    assert report == {"good_images": 11, "good_parts_gated_at_most": 0.5}  # 6 one-sided limits / (11 + 1)


def test_images_with_no_view_in_common_are_not_asked_for_the_part() -> None:
    rng = np.random.Generator(np.random.Philox(3))
    pictures = [np.kron(rng.integers(0, 256, (6, 6, 3)), np.ones((16, 16, 1))).astype(np.uint8) for _ in range(12)]
    known = [measure_quality(picture, SETTINGS) for picture in pictures]
    learned = limits_from_good_images(known, expected_view(known))
    assert learned.gate.likeness is None
    assert "no view in common" in learned.report["warning"]


def test_no_fixture_is_so_exact_that_a_little_unlikeness_stops_a_part() -> None:
    same = parts(0, 1) * 10
    assert limits_from_good_images(same, expected_view(same)).gate.likeness == LIKE_ENOUGH


def test_without_good_images_there_is_no_gate() -> None:
    with pytest.raises(ValueError, match="at least one"):
        limits_from_good_images([], np.zeros((48, 48), dtype=np.uint8))


def test_a_gate_is_learned_from_training_and_calibration_images_alike(tmp_path: Path) -> None:
    split = good_split(draw_parts(tmp_path), 0.2, 0)
    heard: list[tuple[int, int]] = []
    learned = learn_gate(split, SETTINGS, progress=lambda done, total: heard.append((done, total)), workers=1)
    assert learned.gate.good_images == len(split.train) + len(split.calibration) == 15
    assert heard[-1] == (15, 15)
    good = sorted((tmp_path / "test/good").glob("*"))
    assert first_checks(learned.gate, SETTINGS, good, workers=1) == [""] * len(good)
    Image.fromarray(np.zeros((24, 32, 3), dtype=np.uint8)).save(tmp_path / "black.png")
    assert first_checks(learned.gate, SETTINGS, [tmp_path / "black.png"], workers=1) == ["too_dark"]


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    with pytest.raises(DataError, match=r"a\.png"):
        learn_gate(Split((tmp_path / "a.png",), (), ""), SETTINGS, workers=1)
