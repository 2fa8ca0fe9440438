"""The first reading: clear images finish at once, doubtful ones walk, and all scores lie on one scale.

The toy memory (`tests.glad.test_feature_form`) knows mid-grey alone, and weighs red and green alike; so the memory's
distance of a place is the length of its latent.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from glad.batching import BatchSizes
from glad.feature_form import FeatureReader, FeatureScorer, Witnesses, single_call
from glad.first_reading import FirstReading, reading_score
from glad.lane import Lane, LaneBlock, Phase, merge_lanes
from glad.models import Models
from glad.noise_schedule import noise_schedule
from glad.reconstruct import reconstruct_latents
from glad.residual_comparator import ResidualComparator
from glad.scoring import LaneResult
from glad.settings.method import DoubtfulRange, MethodSettings
from glad.step import EncodedImage, start_lane, step
from model_store.inspection import inspect
from tests.glad.test_feature_form import SETTINGS, Silent, models, part, witnesses
from tests.glad.toys import toy_models

EVERYTHING = {"low": 0.0, "high": sys.float_info.max}
"""A range in which every image walks."""


def settings(doubtful: dict[str, float] | None = None, **changes: Any) -> MethodSettings:
    """By the largest place alone: of 64 × 64 pixels and 8 × 8 places, 64 pixels are one place."""
    return MethodSettings.model_validate({**SETTINGS, "doubtful": doubtful, **changes})


def latents(*reds: float) -> Tensor:
    """(B, 2, 8, 8): grey, with one place of so much red each, which is the first reading."""
    made = torch.zeros(len(reds), 2, 8, 8)
    made[:, 0, 3, 4] = torch.tensor(reds)
    return made


def noise(count: int) -> Tensor:
    return torch.randn(count, 2, 8, 8, generator=torch.Generator().manual_seed(1))


def ready(network: Silent | None = None) -> Models:
    return models(denoiser=network or Silent()).assemble()


def asked(patches: Tensor) -> Witnesses:
    """Witnesses whose first readings ask the denoiser too."""
    return replace(witnesses(patches), from_one_call=ResidualComparator(torch.eye(2), 1))


def test_a_reading_is_the_score_of_the_judged_places_on_the_grid() -> None:
    """The two largest judged of 9, 5, 3, 1, where 9 is not judged: (5 + 3) / 2.

    The grid has 2 × 2 places of 32 × 32 pixels: 2048 pixels are as large as two of them.
    """
    distances = torch.tensor([[9.0, 5.0], [3.0, 1.0]])
    judged = torch.tensor([[False, True], [True, True]])
    for top in ({"value": 2048}, {"value": 0.67, "unit": "area"}):  # 0.67 of 3 judged places: 2
        chosen = settings(score={**SETTINGS["score"], "top": top})
        assert reading_score(distances, judged, chosen) == pytest.approx(4.0)
    smallest = settings(score={**SETTINGS["score"], "top": {"value": 1}})  # less than a place: one place counts
    assert reading_score(distances, judged, smallest) == pytest.approx(5.0)


def test_the_memorys_weight_counts_in_a_reading() -> None:
    (latent,) = latents(7.0)
    halved = settings(score={**SETTINGS["score"], "evidence": {"memory": 0.5}})
    found = witnesses(torch.zeros(1, 2)).first_reading(latent, torch.ones(8, 8, dtype=torch.bool), halved)
    assert found.score == pytest.approx(3.5)


def test_a_single_call_is_what_equation_2_makes_of_the_first_steps_prediction() -> None:
    """Without a network and with a variance of 1 the denoiser answers sqrt(alpha_bar) x_t, so that alpha_bar z is left
    of a latent without noise.
    """
    chosen, images = settings(), latents(3.0, 7.0)
    rebuilt = single_call(ready().denoiser, images, torch.zeros_like(images), chosen)
    alpha_bar = float(noise_schedule(chosen.schedule, torch.device("cpu")).alpha_bars[chosen.grid[0]])
    torch.testing.assert_close(rebuilt, alpha_bar * images)


def test_a_reading_that_asks_the_denoiser_weighs_both_and_stands_for_the_walk_of_a_clear_image() -> None:
    """From the memory 3 at one place; from the single call (1 - alpha_bar) 3, at a weight of 0.25."""
    (latent,) = latents(3.0)
    chosen = settings(score={**SETTINGS["score"], "evidence": {"memory": 1.0, "reconstruction": 0.25}})
    left = 1 - float(noise_schedule(chosen.schedule, torch.device("cpu")).alpha_bars[chosen.grid[0]])
    heard = asked(torch.zeros(1, 2))
    reading = FeatureReader(heard, ready().denoiser)(latent, torch.zeros_like(latent), None, chosen)
    assert reading.score == pytest.approx(3 + 0.25 * left * 3, rel=1e-5)
    assert reading.unet_evaluations == 1
    assert reading.rebuilt is not None
    assert float(reading.rebuilt[3, 4]) == pytest.approx(left * 3, rel=1e-5)
    result = LaneResult(torch.zeros(3, 64, 64), latent, reading.counterpart, None, reading=reading, walked=False)
    (found,) = FeatureScorer(heard)([result], chosen.score, (1,))
    assert float(found.layers_map[0, 0]) == 0  # where nothing differs; a typical good reconstruction is not assumed
    assert float(found.layers_map.max()) == pytest.approx((3 + 0.25 * left * 3) * (15 / 16) ** 2, rel=1e-5)
    unasked = settings(score={**SETTINGS["score"], "evidence": {"memory": 1.0, "reconstruction": 0.0}})
    alone = FeatureReader(heard, ready().denoiser)(latent, torch.zeros_like(latent), None, unasked)
    assert (alone.rebuilt, alone.unet_evaluations) == (None, 0)
    assert alone.score == pytest.approx(3)


def test_the_call_of_a_reading_is_counted_whether_the_image_walks_or_not() -> None:
    network = Silent()
    chosen = settings({"low": 2.0, "high": 5.0}, score={**SETTINGS["score"], "evidence": {"reconstruction": 0.25}})
    told = models(denoiser=network, witnesses=asked(torch.zeros(1, 2))).assemble()
    rebuilt = reconstruct_latents(latents(1.0, 3.0), noise(2) * 0, told, chosen)
    assert [lane.walked for lane in rebuilt.lanes] == [False, True]
    assert [lane.unet_evaluations for lane in rebuilt.lanes] == [1, 1 + 3]
    assert rebuilt.lanes[0].denoising_step == 0
    assert len(network.shapes) == 2 + 3
    merged = merge_lanes(rebuilt.lanes)
    assert (merged.walked, merged.unet_evaluations) == (True, 5)
    assert not merge_lanes((rebuilt.lanes[0], rebuilt.lanes[0])).walked


def test_only_doubtful_images_walk() -> None:
    """Read as 1, 3 and 7 where 2 to 5 is doubtful."""
    network = Silent()
    chosen, images = settings({"low": 2.0, "high": 5.0}), latents(1.0, 3.0, 7.0)
    rebuilt = reconstruct_latents(images, noise(3), ready(network), chosen)
    assert [reading.score if reading else None for reading in rebuilt.readings] == pytest.approx([1.0, 3.0, 7.0])
    assert [lane.walked for lane in rebuilt.lanes] == [False, True, False]
    assert [lane.phase for lane in rebuilt.lanes] == [Phase.FINISHED] * 3
    assert [lane.unet_evaluations for lane in rebuilt.lanes] == [0, 3, 0]
    assert network.shapes == [(1, 2, 8, 8)] * 3  # three steps, of one lane
    for clear in (0, 2):
        lane = rebuilt.lanes[clear]
        assert (lane.denoising_step, lane.trigger, lane.comparisons) == (0, None, 0)
        assert torch.equal(rebuilt.latents[clear], torch.zeros(2, 8, 8))  # the memory's only patch, everywhere


@pytest.mark.parametrize(("reading", "walks"), [(1.99, False), (2.0, True), (5.0, True), (5.01, False)])
def test_the_ends_of_the_range_are_doubtful(reading: float, walks: bool) -> None:
    assert DoubtfulRange(low=2.0, high=5.0).contains(reading) is walks


def test_a_reading_that_is_no_number_never_makes_an_image_clear() -> None:
    (lane,) = reconstruct_latents(latents(float("nan")), noise(1), ready(), settings({"low": 2.0, "high": 5.0})).lanes
    assert lane.walked


def test_the_place_that_is_not_judged_is_not_read_and_keeps_its_latent() -> None:
    """Red lies in row 3 of the places, whose pixels are ignored."""
    shown = torch.ones(64, 64, dtype=torch.bool)
    shown[24:32] = False
    (latent,) = latents(7.0)
    reading = FeatureReader(witnesses(torch.zeros(1, 2)), ready().denoiser)(latent, latent, shown, settings())
    assert reading.score == 0
    assert torch.equal(reading.counterpart, latent)


def test_an_image_that_does_not_walk_scores_the_memory_and_a_typical_good_reconstruction() -> None:
    """(7, 0) from the memory at one place, 0 elsewhere; 0.25 × 1 from the reconstruction at every judged place."""
    (latent,) = latents(7.0)
    shown = torch.ones(64, 64, dtype=torch.bool)
    shown[:, 56:] = False
    heard = witnesses(torch.zeros(1, 2))
    chosen = settings(score={**SETTINGS["score"], "evidence": {"memory": 1.0, "reconstruction": 0.25}})
    reading = FeatureReader(heard, ready().denoiser)(latent, latent, shown, chosen)
    result = LaneResult(torch.zeros(3, 64, 64), latent, reading.counterpart, None, shown, reading=reading, walked=False)
    (found,) = FeatureScorer(heard)([result], chosen.score, (1,))
    assert float(found.layers_map[0, 0]) == pytest.approx(0.25)
    assert float(found.layers_map[:, 56:].abs().max()) == 0
    # Interpolated bilinearly, the pixel nearest to the middle of a place of 7.25 beside places of 0.25 has 15/16 of the
    # difference along each axis.
    assert float(found.layers_map[28, 36]) == pytest.approx(0.25 + 7 * (15 / 16) ** 2)
    again = LaneResult(torch.zeros(3, 64, 64), latent, reading.counterpart, None, shown, walked=False)
    (unread,) = FeatureScorer(heard)([again], chosen.score, (1,))
    assert torch.equal(unread.layers_map, found.layers_map)


def test_the_memory_is_not_asked_again_by_the_score() -> None:
    """A reading of 3 everywhere, which no memory gave, comes through."""
    (latent,) = latents(0.0)
    heard, chosen = witnesses(torch.zeros(1, 2)), settings()
    told = FirstReading(3.0, torch.full((8, 8), 3.0), latent)
    result = LaneResult(torch.zeros(3, 64, 64), latent, latent, None, reading=told)
    (found,) = FeatureScorer(heard)([result], chosen.score, (1,))
    assert set(found.layers_map.flatten().tolist()) == {3.0}


def test_where_every_image_is_doubtful_all_is_as_without_the_setting() -> None:
    parts = [part(defective=False), part(defective=True), part(defective=True, height=48)]
    plain = inspect(parts, ready(), settings())
    walked = inspect(parts, ready(), settings(EVERYTHING))
    for one, other in zip(plain, walked, strict=True):
        assert other.score == one.score
        assert np.array_equal(other.map, one.map)
        assert np.array_equal(other.reconstruction, one.reconstruction)
        assert (other.lane.trigger, other.lane.unet_evaluations) == (one.lane.trigger, one.lane.unet_evaluations)


def test_a_verdict_does_not_depend_on_what_else_is_in_the_batch() -> None:
    """The grey part is clear; the red square's first reading, about 1, is doubtful."""
    chosen = settings({"low": 0.5, "high": 5.0})
    parts = [part(defective=False), part(defective=True), part(defective=True, height=48), part(defective=False)]
    together = inspect(parts, ready(), chosen)
    assert [one.lane.walked for one in together] == [False, True, True, False]
    for pixels, one in zip(parts, together, strict=True):
        (alone,) = inspect([pixels], ready(), chosen)
        assert alone.score == one.score
        assert np.array_equal(alone.map, one.map)
        assert alone.lane == one.lane


def test_of_a_tiled_image_the_doubtful_tiles_walk() -> None:
    chosen = settings({"low": 0.5, "high": 5.0}, framing={"kind": "tiles", "side": 64, "overlap": 8})
    wide = part(defective=True, height=64, width=120)  # the red square lies in the first tile alone
    (found,) = inspect([wide], ready(), chosen)
    assert found.lane.walked
    assert found.lane.unet_evaluations == 3


def test_the_lanes_of_tiles_that_did_not_walk_merge_to_one_that_did_not() -> None:
    clear, doubtful = Lane.without_walk(settings()), Lane(settings(), 3, None, 2, 3)
    assert merge_lanes([clear, clear]).denoising_step == 0
    assert merge_lanes([clear, doubtful]).denoising_step == settings().grid[-1]


def test_a_lane_that_is_finished_can_be_released_among_others_that_walk() -> None:
    chosen = settings({"low": 2.0, "high": 5.0})
    block, images = LaneBlock.empty(2, 2, 8), latents(3.0, 1.0)
    for slot in range(2):
        start_lane(block, slot, EncodedImage(images[slot], noise(2)[slot]), ready(), chosen)
    assert (block.active_slots(), block.slots_in(Phase.FINISHED)) == ((0,), (1,))
    block.release(1)
    block.write(step(block, block.active_slots(), ready(), BatchSizes()))
    assert (block.lane(0).position, block.readings[1]) == (1, None)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"doubtful": {"low": 3, "high": 2}}, "low is 3.0, high is 2.0: low may not exceed high; exchange them"),
        ({"doubtful": {"low": -1, "high": 2}}, "greater than or equal to 0"),
        ({"doubtful": {"low": 0, "high": float("inf")}}, "finite number"),
        ({"doubtful": {"low": 0}}, "Field required"),
        ({"trigger": {"delta": 1.0}}, "pixel form has no memory that could read an image first; remove doubtful"),
        ({"score": {"evidence": {"memory": 0}}}, "score.evidence.memory is 0: an image is first read by its memory"),
    ],
)
def test_a_range_that_cannot_be_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        MethodSettings.model_validate({**SETTINGS, "doubtful": {"low": 1, "high": 2}, **changes})


def test_models_without_a_memory_refuse_to_read() -> None:
    block = LaneBlock.empty(1, 3, 8)
    with pytest.raises(ValueError, match="no memory to read an image first: remove doubtful"):
        start_lane(
            block, 0, EncodedImage(torch.zeros(3, 8, 8), torch.zeros(3, 8, 8)), toy_models(), settings(EVERYTHING)
        )


def test_a_finished_lane_without_a_reading_is_refused() -> None:
    block = LaneBlock.empty(1, 2, 8)
    with pytest.raises(ValueError, match="the lane is finished, and its image was not read"):
        block.add_lane(0, Lane.without_walk(settings()), torch.zeros(2, 8, 8), torch.zeros(2, 8, 8))
