"""Settings are chosen by what they do to good images and synthetic anomalies, and every choice's cost is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from glad.settings.framing import Polygon, Zones
from model_store.bundle import open_bundle
from model_store.promise import least_count
from tests.support.tiny_bundle import make_tiny_bundle
from tests.support.tiny_recipe import TINY_RECIPE, draw_parts
from training.calibration.outcomes import SettingsCandidate, Walks
from training.calibration.search import CandidateOutcome, SearchRanges, SettingsChoice, best_of, choice_as_markdown
from training.calibration.thresholds import confident_rank, threshold
from training.data.dataset import images_in, read_pixels
from training.recalibrate import RecalibrationPlan, recalibrate
from training.synthesis.probes import make_probes

pytestmark = pytest.mark.timeout(600)  # real processes or trainings: slow where other work shares the machine


def outcome(image_auroc: float, comparisons: float, candidate: SettingsCandidate) -> CandidateOutcome:
    return CandidateOutcome(candidate, image_auroc, 0.9, 0.8, 0.1, 0.2, comparisons)


def test_the_best_merit_wins() -> None:
    better = outcome(0.95, 9, SettingsCandidate(500, 250, 0.3))
    assert best_of([outcome(0.9, 1, SettingsCandidate(500, 250, 0.4)), better]) is better


def test_of_nearly_equal_merits_the_one_with_fewer_comparisons_wins() -> None:
    # merits (0.95 + 0.8) / 2 = 0.875 and 0.8745: half a thousandth apart
    cheaper = outcome(0.949, 3, SettingsCandidate(500, 350, 0.3))
    assert best_of([outcome(0.95, 9, SettingsCandidate(500, 250, 0.3)), cheaper]) is cheaper


def test_what_each_other_choice_costs_is_told_around_the_chosen_one() -> None:
    tried = [
        outcome(0.95 - abs(t - 400) / 1e4 - abs(m - 200) / 1e4 - d / 10, 5, SettingsCandidate(t, m, d))
        for t in (300, 400, 500)
        for m in (100, 200, 300)
        for d in (0.1, 0.2)
    ] + [outcome(0.7, 0, SettingsCandidate(400, 0, 0.0))]
    choice = SettingsChoice(best_of(tried), tuple(tried))
    assert choice.chosen.candidate == SettingsCandidate(400, 200, 0.1)
    around = choice.around()
    assert [o.candidate.start for o in around["T"]] == [300, 400, 500]
    assert {o.candidate for o in around["t_min"]} == {SettingsCandidate(400, m, 0.1) for m in (100, 200, 300)}
    assert [o.candidate.delta for o in around["delta"]] == [0.0, 0.1, 0.2]
    assert choice_as_markdown(choice).count("**chosen**") == 3
    assert "T 400, no adaptation" in choice_as_markdown(choice)


def test_probes_differ_from_their_good_image_only_inside_their_truth(tmp_path: Path) -> None:
    paths = images_in(draw_parts(tmp_path / "data") / "train/good")
    folder = tmp_path / "probes"
    folder.mkdir()
    probes = make_probes(paths[:3], TINY_RECIPE.settings, TINY_RECIPE.synthesis, folder, seed=1)
    assert [probe.defective for probe in probes] == [False, True] * 3
    for good, bad in zip(probes[::2], probes[1::2], strict=True):
        change = np.abs(read_pixels(good.path).astype(int) - read_pixels(bad.path).astype(int)).mean(-1)
        assert change.shape == bad.truth.shape == (24, 32)
        assert change[bad.truth].min() > 5  # 0.025 of 255 is 6.4, less the rounding of both
        assert change[~bad.truth].max() < 7.5
    again = make_probes(paths[:3], TINY_RECIPE.settings, TINY_RECIPE.synthesis, folder, seed=1)
    assert all(np.array_equal(a.truth, b.truth) for a, b in zip(probes, again, strict=True))


def test_probes_are_damaged_only_where_a_defect_would_count(tmp_path: Path) -> None:
    paths = images_in(draw_parts(tmp_path / "data") / "train/good")
    upper = Zones(ignore=(Polygon(points=((0, 0), (1, 0), (1, 0.5), (0, 0.5))),))
    probes = make_probes(paths[:6], TINY_RECIPE.settings.changed(zones=upper), TINY_RECIPE.synthesis, tmp_path, seed=1)
    assert all(probe.truth[13:].any() for probe in probes if probe.defective)
    assert not any(probe.truth[:12].any() for probe in probes)  # 12 of 24 rows are ignored


def test_only_the_deltas_that_were_asked_for_are_tried() -> None:
    walks = Walks(TINY_RECIPE.settings, (), {})
    assert [c.delta for c in SearchRanges(deltas=(0.3, 0.4), t_mins=(100,)).candidates(walks, [], 500)] == [0.3, 0.4]
    assert [c.delta for c in SearchRanges(deltas=(0.0, 0.4), t_mins=(100,)).candidates(walks, [], 500)] == [0.0, 0.4]


def test_a_t_min_above_a_t_is_refused() -> None:
    with pytest.raises(ValueError, match=r"t_min is 450, start \(T\) is 300"):
        SearchRanges(starts=(300, 500), t_mins=(450,)).start_values(TINY_RECIPE.settings)


@pytest.mark.parametrize(("count", "quantile", "confidence"), [(300, 0.98, 0.9), (300, 0.98, 0.95), (60, 0.9, 0.8)])
def test_the_confident_rank_is_the_least_that_the_binomial_law_allows(
    count: int, quantile: float, confidence: float
) -> None:
    # The k-th smallest lies above the quantile when at most k - 1 of n draws fall below it.
    rank = confident_rank(count, quantile, confidence)
    assert rank is not None
    assert binom.cdf(rank - 1, count, quantile) >= confidence > binom.cdf(rank - 2, count, quantile)


def test_confidence_raises_the_threshold_and_too_few_images_give_the_largest_score() -> None:
    scores = [float(i) for i in range(1, 301)]
    assert threshold(scores, 0.98, None) == 295
    assert threshold(scores, 0.98, 0.9) == 298  # 1 - P(Binom(300, 0.02) <= 2) = 0.94; with 297 it is 0.85
    assert threshold(scores[:100], 0.98, 0.9) == 100
    assert confident_rank(100, 0.98, 0.9) is None


@pytest.mark.parametrize("quantile", [0.9, 0.98])
def test_the_least_count_with_a_confidence_is_the_first_with_a_rank(quantile: float) -> None:
    count = least_count(quantile, 0.9)
    assert confident_rank(count, quantile, 0.9) == count
    assert confident_rank(count - 1, quantile, 0.9) is None


def test_a_new_version_has_the_chosen_settings_and_the_same_weights(tmp_path: Path) -> None:
    folder = make_tiny_bundle(tmp_path / "store")
    data = draw_parts(tmp_path / "data")
    seen: set[str] = set()
    made = recalibrate(
        folder,
        data,
        tmp_path / "store/toy/2",
        RecalibrationPlan(SearchRanges(starts=(300, 500)), images=4, confidence=0.5),
        command="glad calibrate",
        progress=lambda name, done, total: seen.add(name),
        workers=1,
    )
    old, new = open_bundle(folder).manifest, open_bundle(made.bundle.path).manifest
    assert made.choice is not None
    assert new.version == "2"
    assert (new.settings.start, new.settings.t_min) == (
        made.choice.chosen.candidate.start,
        made.choice.chosen.candidate.t_min,
    )
    assert new.settings.trigger.calibrated_for == new.settings.delta_basis
    assert {name: part.content_hash for name, part in new.components.items()} == {
        name: part.content_hash for name, part in old.components.items()
    }
    assert new.provenance.data["weights_of"] == open_bundle(folder).hash
    # 2 T, each: no adaptation once, and 3 t_min with at most 5 quantiles and never
    assert 2 * (1 + 3 * 2) <= len(made.choice.tried) <= 2 * (1 + 3 * 6)
    assert seen == {"T 300: walks", "T 300: endings", "T 500: walks", "T 500: endings", "thresholds", "quality gate"}
