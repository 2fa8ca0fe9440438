"""Endings that are worked out from one untriggered walk are those of a real inspection under the same settings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glad.lane import TriggerReason
from glad.settings.method import MethodSettings
from model_store.bundle import open_bundle
from model_store.engines.torch import load_models
from model_store.inspection import inspect
from tests.support.tiny_bundle import make_tiny_bundle
from training.calibration.outcomes import (
    NEVER,
    SettingsCandidate,
    WalkEnding,
    ending_of,
    peaks_until,
    walk_endings,
    walk_untriggered,
)
from training.data.dataset import read_pixels
from training.progress import silent
from training.synthesis.probes import Probe

TRACE = ((401, 0.1), (301, 0.4), (201, 0.3), (101, 0.2), (1, 0.0))


def settings(**fusion: object) -> MethodSettings:
    return MethodSettings.model_validate({"trigger": {"delta": 0.5}, "start": 500, "steps": 5, "fusion": fusion})


@pytest.mark.parametrize(
    ("candidate", "ending", "comparisons"),
    [
        (SettingsCandidate(500, 250, 0.35), WalkEnding(301, TriggerReason.SCORE), 2),
        (
            SettingsCandidate(500, 250, 0.4),
            WalkEnding(201, TriggerReason.T_MIN),
            3,
        ),  # a score that equals delta does not trigger
        (SettingsCandidate(500, 450, 0.05), WalkEnding(401, TriggerReason.SCORE), 1),  # the score is asked before t_min
        (SettingsCandidate(500, 201, 0.35), WalkEnding(301, TriggerReason.SCORE), 2),
        (SettingsCandidate(500, 201, NEVER), WalkEnding(101, TriggerReason.T_MIN), 4),  # strictly below t_min
        (SettingsCandidate(500, 0, NEVER), WalkEnding(None, None), 5),
        (SettingsCandidate(500, 250, 0.0), WalkEnding(None, None), 0),
    ],
)
def test_where_a_walk_ends_follows_from_its_trace(
    candidate: SettingsCandidate, ending: WalkEnding, comparisons: int
) -> None:
    assert ending_of(TRACE, candidate, settings()) == (ending, comparisons)


def test_endings_under_a_centred_mask_are_told_apart_by_delta() -> None:
    near, far = (
        ending_of(TRACE, SettingsCandidate(500, 250, delta), settings(mask="centred"))[0] for delta in (0.35, 0.36)
    )
    assert near != far


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def probes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Probe, ...]:
    """Four random images of different grain, one of them letterboxed."""
    folder = tmp_path_factory.mktemp("probes")
    rng = np.random.Generator(np.random.Philox(3))
    found = []
    for index, (height, width, grain) in enumerate([(64, 64, 4), (64, 64, 16), (48, 64, 8), (64, 64, 64)]):
        small = Image.fromarray(rng.integers(0, 255, (grain, grain, 3), dtype=np.uint8))
        path = folder / f"{index}.png"
        small.resize((width, height)).save(path)
        found.append(Probe(path, np.zeros((height, width), dtype=np.bool_)))
    return tuple(found)


def test_results_are_those_of_an_inspection_under_the_same_settings(bundle: Path, probes: tuple[Probe, ...]) -> None:
    base = open_bundle(bundle).manifest.settings
    models = load_models(open_bundle(bundle)).assemble()
    walks = walk_untriggered(bundle, base, 500, probes, progress=silent, workers=1)
    peaks = peaks_until(walks, range(len(probes)), 250)
    assert len(set(peaks)) == len(peaks), "the images are told apart"
    deltas = (0.0, *sorted(peaks)[:2], float(np.mean(peaks)), NEVER)
    candidates = [SettingsCandidate(500, t_min, delta) for t_min in (150, 250, 350) for delta in deltas]
    walks = walk_endings(bundle, walks, candidates, progress=silent, workers=1)
    reasons = set()
    for candidate in candidates:
        for index, probe in enumerate(probes):
            ours = walks.result(index, candidate)
            (found,) = inspect([read_pixels(probe.path)], models, candidate.settings(base))
            reasons.add(found.lane.trigger.reason if found.lane.trigger else None)
            assert ours.score == pytest.approx(found.score, rel=1e-5)
            assert ours.comparisons == found.lane.comparisons
            assert ours.step == found.lane.denoising_step
            assert ours.map.shape == probe.truth.shape
    assert reasons == {None, *TriggerReason}, "every kind of ending was seen"


def test_an_ending_that_two_candidates_share_is_walked_once(bundle: Path, probes: tuple[Probe, ...]) -> None:
    base = open_bundle(bundle).manifest.settings
    walked: list[int] = []
    walks = walk_untriggered(bundle, base, 500, probes, progress=silent, workers=1)
    both = [SettingsCandidate(500, 250, NEVER), SettingsCandidate(500, 250, NEVER + 1)]
    walks = walk_endings(bundle, walks, both, progress=lambda _, done, total: walked.append(total), workers=1)
    assert len(walks.ended) == len(probes)
    assert walked[-1] == len(probes)
    again: list[int] = []
    walk_endings(bundle, walks, both, progress=lambda _, done, total: again.append(done), workers=1)
    assert again == []


def test_a_t_that_does_not_fit_is_refused_before_anything_is_walked(bundle: Path, probes: tuple[Probe, ...]) -> None:
    base = open_bundle(bundle).manifest.settings
    with pytest.raises(ValueError, match=r"start \(T\) is 1200"):
        walk_untriggered(bundle, base, 1200, probes, progress=silent, workers=1)
