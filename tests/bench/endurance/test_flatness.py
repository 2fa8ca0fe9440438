"""Growth is told from noise, steps and saw teeth."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.endurance.flatness import TrendVerdict, trend

AT_S = np.arange(0, 3600, 5.0)
RNG = np.random.default_rng(0)
NOISE = RNG.normal(0, 0.3, AT_S.size)


def judged(levels: NDArray[np.float64], bound: float = 4.0) -> TrendVerdict:
    return trend(AT_S, levels, warm_up_s=900, bound=bound).verdict


def test_noise_around_a_level_is_flat() -> None:
    assert judged(100 + NOISE) is TrendVerdict.FLAT


def test_a_leak_is_found_with_its_slope() -> None:
    found = trend(AT_S, 100 + 12 * AT_S / 3600 + NOISE, warm_up_s=900, bound=4)
    assert found.verdict is TrendVerdict.GROWS
    assert found.low < found.slope < found.high
    assert found.slope == pytest.approx(12, abs=0.5)


def test_a_warm_up_that_ends_in_time_does_not_count() -> None:
    warming = 100 * (1 - np.exp(-AT_S / 120))
    assert judged(warming + NOISE) is TrendVerdict.FLAT
    assert trend(AT_S, warming, warm_up_s=0, bound=4).slope > 0


def test_saw_teeth_and_one_step_are_flat() -> None:
    assert judged(100 + (AT_S % 300) / 60 + NOISE) is TrendVerdict.FLAT
    assert judged(np.where((AT_S > 2000) & (AT_S < 2100), 130.0, 100.0) + NOISE) is TrendVerdict.FLAT


def test_files_that_leak_one_in_ten_minutes_are_found() -> None:
    assert judged(20 + AT_S // 600, bound=1.0) is TrendVerdict.GROWS
    assert judged(np.full_like(AT_S, 20.0), bound=1.0) is TrendVerdict.FLAT


def test_too_much_noise_for_the_bound_is_called_not_shown() -> None:
    short = AT_S[:100]
    found = trend(short, 100 + RNG.normal(0, 20, short.size), warm_up_s=0, bound=4.0)
    assert found.verdict is TrendVerdict.OPEN


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match=r"2 samples lie after the warm-up of 3590 s; at least 8"):
        trend(AT_S, AT_S, warm_up_s=3590, bound=1)
