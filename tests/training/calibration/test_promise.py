"""What thresholds can promise: the numbers, the sentences, and the memory that lacks each image's own part."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from model_store.manifest import CalibrationKind
from model_store.promise import promise
from training.calibration.promise import GoodScores, promise_in_words, thresholds_from_scores
from training.calibration.thresholds import conformal_quantile
from training.recipe import CalibrationRecipe

AVERAGE = CalibrationRecipe()
CONFIDENT = CalibrationRecipe(confidence=0.95)


@pytest.mark.parametrize(
    ("groups", "confidence", "rate", "needed"),
    [
        (49, None, 0.02, 49),  # 1 / 50
        (19, None, 0.05, 49),
        (50, 0.95, 0.0582, 149),  # (1 - 0.0582)^50 = e^(50 * -0.05996) = e^-2.998 = 0.05; 0.98^149 = 0.0493 < 0.05
        (50, 0.99, 0.0880, 228),  # (1 - 0.0880)^50 = e^(50 * -0.09212) = 0.01; 0.98^228 = 0.00999
        (1, 0.95, 0.95, 149),
    ],
)
def test_what_so_many_parts_can_promise(groups: int, confidence: float | None, rate: float, needed: int) -> None:
    found = promise(groups, 0.98, confidence)
    assert found.rate == pytest.approx(rate, abs=5e-5)
    assert found.needed == needed


@pytest.mark.parametrize("confidence", [None, 0.95])
def test_the_promise_is_kept_from_the_first_number_of_parts_whose_rate_is_small_enough(
    confidence: float | None,
) -> None:
    needed = promise(1, 0.98, confidence).needed
    enough, too_few = promise(needed, 0.98, confidence), promise(needed - 1, 0.98, confidence)
    assert enough.kept
    assert enough.rate <= 0.02 + 1e-12
    assert not too_few.kept
    assert too_few.rate > 0.02


def test_no_part_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="0 groups promise nothing"):
        promise(0, 0.98)


def parts(count: int, images: int) -> tuple[str, ...]:
    return tuple(str(number % count) for number in range(images))


def test_the_sentences_say_what_is_promised_and_what_would_be_needed() -> None:
    assert promise_in_words(120, parts(50, 120), CONFIDENT) == (
        "50 parts (120 good images): 2 % false rejects cannot be promised; expect up to 5.82 % (with 95 % confidence). "
        "149 parts would be needed."
    )
    assert promise_in_words(5, None, AVERAGE) == (
        "5 good images, each counted as a part: 2 % false rejects cannot be promised; expect up to 16.7 % (on average "
        "over draws). 49 parts would be needed."
    )
    assert promise_in_words(300, (), CONFIDENT) == (
        "300 good images, each counted as a part: at most 2 % false rejects are promised, with 95 % confidence."
    )
    assert promise_in_words(300, parts(60, 300), AVERAGE) == (
        "60 parts (300 good images): at most 2 % false rejects are promised, on average over draws; one draw can "
        "exceed it, and with 95 % confidence 4.87 % is the least."  # 1 - 0.05^(1/60) = 1 - e^-0.04993
    )
    assert promise_in_words(2, parts(1, 2), AVERAGE).startswith("1 part (2 good images): 2 % false rejects cannot")


def test_an_estimate_is_called_one() -> None:
    estimate, left_out = CalibrationKind.ESTIMATE, CalibrationKind.LEAVE_GROUP_OUT
    assert promise_in_words(300, None, AVERAGE, left_out).endswith("are promised, on average over draws.")
    assert promise_in_words(300, None, CONFIDENT, left_out).endswith(
        "expect at most 2 % false rejects, with 95 % confidence; this is an estimate, because the scores share one "
        "memory, and no promise."
    )
    assert "this is an estimate, because the scores are of other models than the bundle's" in promise_in_words(
        300, None, AVERAGE, estimate
    )
    assert "cannot be promised; expect up to 5.82 % (with 95 % confidence); this is an estimate" in promise_in_words(
        50, None, CONFIDENT, estimate
    )


def test_thresholds_come_with_what_they_promise() -> None:
    scores = tuple(float(number) for number in range(1, 121))
    few = GoodScores(scores, scores, parts(40, 120), CalibrationKind.LEAVE_GROUP_OUT)
    calibration, report = thresholds_from_scores(few, AVERAGE)
    assert calibration.fail == pytest.approx(120)
    assert (calibration.groups, calibration.good_images) == (40, 120)
    assert calibration.kind is CalibrationKind.LEAVE_GROUP_OUT
    assert (report["conformal"], report["groups"], report["kind"]) == (False, 40, "leave_group_out")
    assert report["warning"] == f"{report['promise']} Until then, fail is the largest good score seen."
    _, report = thresholds_from_scores(GoodScores(scores, scores), AVERAGE)
    assert (report["conformal"], report["groups"], "warning" in report) == (True, 120, False)


# A memory of good patches, and parts with one to four photographs: a photograph's score is the distance of its one
# patch to the nearest patch of the memory. Photographs of one part lie close together.


class Line:
    """A line of parts, seeded."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.Generator(np.random.Philox(seed))

    def draw(self, count: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return photographs of fresh parts, (n, 4), and the part of each."""
        part_of = np.repeat(np.arange(count), self.rng.integers(1, 5, count))
        centres = self.rng.standard_t(4, size=(count, 4))
        return centres[part_of] + 0.1 * self.rng.normal(size=(len(part_of), 4)), part_of


def left_out_scores(patches: NDArray[np.float64], part_of: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return each photograph's distance to the nearest patch of another part."""
    distances = cdist(patches, patches)
    distances[part_of[:, None] == part_of] = np.inf
    return np.asarray(distances.min(1))


def test_with_a_fresh_part_in_the_memory_the_others_scores_fall_and_its_own_stay() -> None:
    # Step 3 of the argument in training/calibration/promise.py.
    line = Line(1)
    patches, part_of = line.draw(30)
    fresh, _ = line.draw(1)
    without = left_out_scores(patches, part_of)
    both = left_out_scores(np.concatenate([patches, fresh]), np.append(part_of, [30] * len(fresh)))
    assert np.all(both[: len(patches)] <= without)
    assert np.array_equal(both[len(patches) :], cdist(fresh, patches).min(1))


def test_thresholds_of_a_memory_without_the_own_part_keep_the_promise_for_the_whole_memory() -> None:
    promised, naive = [], []
    line = Line(2)
    for _ in range(300):
        patches, part_of = line.draw(30)
        fresh, fresh_part = line.draw(60)
        scores = cdist(fresh, patches).min(1)
        weights = 1 / np.bincount(fresh_part)[fresh_part]  # each part alike
        names = [str(part) for part in part_of]
        limit = conformal_quantile(left_out_scores(patches, part_of).tolist(), 0.9, names)
        promised.append(np.average(scores > limit, weights=weights))
        alone = left_out_scores(patches, np.arange(len(patches)))  # only the image itself is left out, not its part
        naive.append(np.average(scores > conformal_quantile(alone.tolist(), 0.9, names), weights=weights))
    error = np.std(promised) / math.sqrt(len(promised))
    assert np.mean(promised) <= 0.1 + 3 * error
    assert np.mean(naive) > 0.3  # an image beside other photographs of its part scores next to nothing
