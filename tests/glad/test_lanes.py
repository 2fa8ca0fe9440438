"""Lanes side by side: batch mates, positions and call shapes never change what a lane does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from glad.batching import BatchSizes, batch_sizes_for_device, in_buckets
from glad.lane import Lane, LaneBlock, Phase, merge_lanes
from glad.models import Models, PixelModels
from glad.reconstruct import reconstruct
from glad.settings.method import MethodSettings, ScheduleSettings, ScoreSettings, TriggerSettings, near_tie
from glad.step import step
from tests.glad.toys import (
    PixelFeatures,
    PlainAutoencoder,
    ToyDenoiser,
    drifting,
    random_images,
    random_noise,
    toy_models,
)

SIDE = 8
IMAGES = random_images(8, SIDE, seed=3)
NOISE = random_noise(8, SIDE, seed=4)


def settings(delta: float = 0.08, **changes: int) -> MethodSettings:
    return MethodSettings(trigger=TriggerSettings(delta=delta, window=0), score=ScoreSettings(layers=(1, 2)), **changes)


class ConvolvingDenoiser:
    """A real convolution, whose kernels do differ from one batch size to another."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(7)
        self.first = torch.randn(32, 3, 3, 3, generator=generator) * 0.2
        self.last = torch.randn(3, 32, 3, 3, generator=generator) * 0.1

    def __call__(self, latents: Tensor, timesteps: Tensor, conditions: Tensor | None = None) -> Tensor:
        hidden = torch.nn.functional.conv2d(latents, self.first, padding=1).tanh()
        detail = torch.nn.functional.conv2d(hidden, self.last, padding=1)
        return 0.8 * latents + detail * (timestep_share(timesteps))


def timestep_share(timesteps: Tensor) -> Tensor:
    return timesteps[:, None, None, None] / 1000


def convolving() -> Models:
    return PixelModels(PlainAutoencoder(), ConvolvingDenoiser(), PixelFeatures()).assemble()


def staggered(models: Models, shapes: BatchSizes, watched: int) -> tuple[Tensor, Lane]:
    """Image `watched` in a block of 8 that fills one lane per step, so that every call mixes eight different steps."""
    block = LaneBlock.empty(8, 3, SIDE)
    waiting = [i for i in range(8) if i != watched]
    waiting.insert(3, watched)
    slot_of_watched = 5
    slots = [0, 7, 2, slot_of_watched, 1, 6, 3, 4]
    results: dict[int, tuple[Tensor, Lane]] = {}
    while waiting or block.active_slots():
        if waiting:
            image, slot = waiting.pop(0), slots.pop(0)
            block.add_lane(slot, Lane(settings()), IMAGES[image], NOISE[image])
        block.write(step(block, block.active_slots(), models, shapes))
        for slot in block.slots_in(Phase.FINISHED):
            results[slot] = block.generated[slot].clone(), block.lane(slot)
            block.release(slot)
    assert block.free_slots() == tuple(range(8))
    return results[slot_of_watched]


@pytest.mark.parametrize("models", [toy_models(), convolving()], ids=["arithmetic", "convolving"])
def test_a_lane_is_bit_equal_alone_and_among_eight_at_other_steps_where_the_call_shape_is_the_same(
    models: Models,
) -> None:
    eight = BatchSizes(denoiser=(8,))
    alone = reconstruct(IMAGES[2:3], NOISE[2:3], models, settings(), batch_sizes=eight)
    latent, lane = staggered(models, eight, watched=2)
    assert torch.equal(alone.latents[0], latent)
    assert alone.lanes[0] == lane


@pytest.mark.parametrize("models", [toy_models(), convolving()], ids=["arithmetic", "convolving"])
def test_a_lane_is_the_same_within_rounding_in_other_call_shapes(models: Models) -> None:
    alone = reconstruct(IMAGES[2:3], NOISE[2:3], models, settings(), batch_sizes=BatchSizes(denoiser=(1,)))
    latent, lane = staggered(models, BatchSizes(denoiser=(1, 2, 4, 8)), watched=2)
    torch.testing.assert_close(alone.latents[0], latent, atol=1e-5, rtol=0)
    assert (alone.lanes[0].denoising_step, alone.lanes[0].comparisons) == (lane.denoising_step, lane.comparisons)


def test_the_order_of_images_changes_nothing() -> None:
    forward = reconstruct(IMAGES, NOISE, toy_models(), settings())
    backward = reconstruct(IMAGES.flip(0), NOISE.flip(0), toy_models(), settings())
    assert torch.equal(forward.latents, backward.latents.flip(0))
    assert forward.lanes == backward.lanes[::-1]


def test_a_batch_mate_that_is_not_a_number_spoils_only_itself() -> None:
    spoiled = IMAGES[:2].clone()
    spoiled[1] = float("nan")
    side_by_side = reconstruct(spoiled, NOISE[:2], toy_models(), settings(), batch_sizes=BatchSizes(denoiser=(2,)))
    alone = reconstruct(spoiled[:1], NOISE[:1], toy_models(), settings(), batch_sizes=BatchSizes(denoiser=(2,)))
    assert torch.equal(side_by_side.latents[0], alone.latents[0])
    assert side_by_side.latents[1].isnan().any()


def test_lanes_with_different_settings_share_a_call_and_keep_their_own_grid_and_threshold() -> None:
    long, short = settings(), settings(0.01, start=500, steps=10, t_min=200)
    models = toy_models()
    block = LaneBlock.empty(2, 3, SIDE)
    for slot, method in enumerate((long, short)):
        block.add_lane(slot, Lane(method), IMAGES[slot], NOISE[slot])
    while active := block.active_slots():
        block.write(step(block, active, models, BatchSizes()))
    for slot, method in enumerate((long, short)):
        alone = reconstruct(IMAGES[slot : slot + 1], NOISE[slot : slot + 1], models, method)
        torch.testing.assert_close(block.generated[slot], alone.latents[0], atol=1e-6, rtol=0)
        assert block.lane(slot) == alone.lanes[0]
    assert [block.lane(slot).unet_evaluations for slot in (0, 1)] == [25, 10]


def test_lanes_that_read_other_layers_or_ranges_are_compared_apart_and_answered_in_order() -> None:
    models = toy_models()
    block = LaneBlock.empty(3, 3, SIDE)
    triggers = (
        TriggerSettings(delta=9, layer=1),
        TriggerSettings(delta=9, layer=2),
        TriggerSettings(delta=9, layer=1, imagenet_normalise=True),
    )
    for slot, trigger in enumerate(triggers):
        block.add_lane(
            slot, Lane(settings().model_copy(update={"trigger": trigger, "t_min": 750})), IMAGES[0], NOISE[0]
        )
    outcome = step(block, (0, 1, 2), models, BatchSizes(comparator=(8,)))
    side_by_side = [lane.trigger for lane in outcome.lanes]
    alone = [step(block, (i,), models, BatchSizes(comparator=(8,))).lanes[0].trigger for i in range(3)]
    assert side_by_side == alone
    assert len({trigger.score for trigger in side_by_side if trigger}) == 3


def test_what_lies_on_padding_changes_neither_trigger_nor_image() -> None:
    valid = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    valid[:, 2:6] = True
    other = IMAGES[:1].clone()
    other[:, :, :2] = 0.9
    other[:, :, 6:] = -3.0
    ours, theirs = (
        reconstruct(images, NOISE[:1], toy_models(), settings(), valid=valid) for images in (IMAGES[:1], other)
    )
    assert ours.lanes == theirs.lanes
    assert torch.equal(ours.latents[:, :, 2:6], theirs.latents[:, :, 2:6])
    blind = [reconstruct(images, NOISE[:1], toy_models(), settings()).lanes for images in (IMAGES[:1], other)]
    assert blind[0] != blind[1]


def test_a_step_changes_nothing_until_it_is_written() -> None:
    block = LaneBlock.empty(2, 3, SIDE)
    block.add_lane(1, Lane(settings()), IMAGES[0], NOISE[0])
    before, lane = block.generated.clone(), block.lane(1)
    models = toy_models()
    outcome = step(block, (1,), models, BatchSizes())
    assert torch.equal(block.generated, before)
    assert block.lane(1) == lane
    block.write(outcome)
    assert torch.equal(block.generated[1], outcome.generated[0])
    assert block.lane(1).position == 1


def test_one_unet_call_serves_all_lanes_and_only_adapting_lanes_are_compared() -> None:
    denoiser, features = ToyDenoiser(drifting), PixelFeatures()
    models = PixelModels(PlainAutoencoder(), denoiser, features).assemble()
    result = reconstruct(IMAGES[:3], NOISE[:3], models, settings(), batch_sizes=BatchSizes(denoiser=(4,)))
    assert denoiser.batches == [4] * 25  # three lanes and one row of padding, at every step
    # one at a time on a CPU: two images per comparison, and of the trigger's layer only
    assert features.batches == [1] * 2 * sum(lane.comparisons for lane in result.lanes)
    assert set(features.asked) == {(2,)}


def test_more_lanes_than_the_largest_bucket_are_split() -> None:
    denoiser = ToyDenoiser(drifting)
    models = PixelModels(PlainAutoencoder(), denoiser, PixelFeatures()).assemble()
    reconstruct(IMAGES[:7], NOISE[:7], models, settings(0.0), batch_sizes=BatchSizes(denoiser=(1, 2, 4)))
    assert denoiser.batches == [4, 4] * 25  # 4 and 3, and 3 needs a bucket of 4


def test_padding_of_a_call_is_dropped() -> None:
    (doubled,) = in_buckets(lambda rows: (rows * 2,), (torch.arange(5.0)[:, None],), (2, 4))
    assert doubled.flatten().tolist() == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("buckets", [(), (0, 1), (4, 2), (2, 2)])
def test_buckets_that_do_not_ascend_are_refused(buckets: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="ascending"):
        BatchSizes(denoiser=buckets)


def test_a_lane_tells_its_phase_and_steps() -> None:
    lane = Lane(settings(start=30, steps=2, t_min=10))
    assert (lane.phase, lane.timestep, lane.next_timestep, lane.adapting) == (Phase.UNTRIGGERED, 16, 1, True)
    last = Lane(lane.settings, position=1)
    assert (last.timestep, last.next_timestep) == (1, 0)
    done = Lane(lane.settings, position=2)
    assert (done.phase, done.adapting) == (Phase.FINISHED, False)
    with pytest.raises(ValueError, match="release"):
        _ = done.timestep
    assert lane.denoising_step is None


def test_a_block_refuses_what_does_not_belong_in_it() -> None:
    block = LaneBlock.empty(2, 3, SIDE)
    with pytest.raises(ValueError, match="the block holds"):
        block.add_lane(0, Lane(settings()), IMAGES[0, :, :4], NOISE[0])
    with pytest.raises(ValueError, match="valid is"):
        block.add_lane(0, Lane(settings()), IMAGES[0], NOISE[0], torch.zeros(SIDE, SIDE, dtype=torch.bool))
    block.add_lane(0, Lane(settings()), IMAGES[0], NOISE[0])
    with pytest.raises(ValueError, match="taken"):
        block.add_lane(0, Lane(settings()), IMAGES[0], NOISE[0])
    other = settings().model_copy(update={"schedule": ScheduleSettings(beta_end=0.02)})
    with pytest.raises(ValueError, match="schedule"):
        block.add_lane(1, Lane(other), IMAGES[0], NOISE[0])
    with pytest.raises(ValueError, match="slot 1 is free"):
        block.lane(1)
    with pytest.raises(ValueError, match="slot 1 is free"):
        step(block, (1,), toy_models(), BatchSizes())


def test_call_shapes_are_few_and_cover_all_lanes() -> None:
    assert batch_sizes_for_device("cpu", 6) == BatchSizes((1,), (1,))
    assert batch_sizes_for_device("cuda", 6).denoiser == (1, 2, 4, 8)
    assert batch_sizes_for_device("cuda", 1).denoiser == (1,)
    assert batch_sizes_for_device("cuda", 4).comparator == (1, 2, 4)


@pytest.mark.parametrize("models", [toy_models(), convolving()], ids=["arithmetic", "convolving"])
def test_on_a_cpu_a_lane_is_bit_equal_alone_and_among_eight(models: Models) -> None:
    sizes = batch_sizes_for_device("cpu", 8)
    alone = reconstruct(IMAGES[2:3], NOISE[2:3], models, settings(), batch_sizes=sizes)
    latent, lane = staggered(models, sizes, watched=2)
    assert torch.equal(alone.latents[0], latent)
    assert alone.lanes[0] == lane


@pytest.mark.parametrize(
    ("value", "threshold", "near"),
    [(1.00009, 1.0, True), (0.99991, 1.0, True), (1.00011, 1.0, False), (0.0, 0.0, True), (-2.0001, -2.0, True)],
)
def test_a_near_tie_is_within_a_ten_thousandth_of_the_threshold(value: float, threshold: float, near: bool) -> None:
    assert near_tie(value, threshold) is near


def test_a_decision_close_to_delta_is_remembered_to_the_lanes_end_and_changes_nothing_else() -> None:
    """Delta is put a hair above what the first comparison measures, and then far above it."""
    measured = reconstruct(IMAGES[:1], NOISE[:1], toy_models(), settings(1e-9)).lanes[0].trigger
    assert measured is not None
    close = reconstruct(IMAGES[:1], NOISE[:1], toy_models(), settings(measured.score * (1 + 5e-5)))
    far = reconstruct(IMAGES[:1], NOISE[:1], toy_models(), settings(measured.score * 1.01))
    assert (close.lanes[0].near_tie, far.lanes[0].near_tie) == (True, False)
    assert (close.lanes[0].phase, close.lanes[0].position) == (Phase.FINISHED, len(close.lanes[0].grid))


def test_a_tiles_near_tie_is_the_images() -> None:
    clear, close = Lane(settings()), Lane(settings(), near_tie=True)
    assert merge_lanes([clear, close]).near_tie
    assert not merge_lanes([clear, clear]).near_tie
