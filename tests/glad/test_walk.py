"""The lane code walks as the paper does: against a plain single-image transcription, case by case."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from glad.lane import Phase, TriggerReason
from glad.protocols import Condition
from glad.reconstruct import Reconstruction, reconstruct
from glad.settings.method import (
    Direction,
    FusionSettings,
    MaskForm,
    MethodSettings,
    Renoise,
    ScoreSettings,
    StartLevel,
    TriggerSettings,
)
from tests.glad.oracle import Walked, walk
from tests.glad.toys import random_images, random_noise, toy_models, toy_networks

SIDE = 8
IMAGES = random_images(3, SIDE) * torch.tensor([1.0, 0.45, 0.7])[:, None, None, None]
NOISE = random_noise(3, SIDE)
MIDWAY = 0.08  # with a window of 0 the three images pass this at 601, 511 and 541


def settings(delta: float, **changes: Any) -> MethodSettings:
    trigger = {"delta": delta, "window": 0} | changes.pop("trigger", {})
    return MethodSettings(
        resolution=16,
        trigger=TriggerSettings(**trigger),
        score=ScoreSettings(layers=(1, 2)),
        **changes,
    )


def both(
    method: MethodSettings,
    patch: int = 1,
    valid: torch.Tensor | None = None,
    condition: Condition | None = None,
) -> tuple[Reconstruction, list[Walked]]:
    """All images side by side in lanes, and each by itself in the oracle."""
    networks = replace(toy_networks(scale=0.5, patch=patch), condition=condition)
    lanes = reconstruct(IMAGES, NOISE, networks.assemble(), method, valid=valid)
    alone = [
        walk(
            IMAGES[i].double().numpy(),
            NOISE[i].double().numpy(),
            networks,
            method,
            None if valid is None else valid[i].numpy(),
        )
        for i in range(len(IMAGES))
    ]
    return lanes, alone


def assert_same(lanes: Reconstruction, alone: list[Walked]) -> None:
    for lane, latent, expected in zip(lanes.lanes, lanes.latents, alone, strict=True):
        trigger = None if lane.trigger is None else (lane.trigger.step, str(lane.trigger.reason))
        assert trigger == expected.trigger
        assert lane.comparisons == expected.comparisons
        assert lane.unet_evaluations == expected.unet_evaluations
        assert lane.phase is Phase.FINISHED
        np.testing.assert_allclose(latent.numpy(), expected.latent, atol=1e-5)


def reasons(lanes: Reconstruction) -> set[TriggerReason | None]:
    return {lane.trigger.reason if lane.trigger else None for lane in lanes.lanes}


def test_images_that_differ_trigger_by_score_each_at_its_own_step() -> None:
    lanes, alone = both(settings(MIDWAY))
    assert_same(lanes, alone)
    assert TriggerReason.SCORE in reasons(lanes)
    assert len({lane.denoising_step for lane in lanes.lanes}) == 3


@pytest.mark.parametrize("mask", list(MaskForm))
@pytest.mark.parametrize("renoise", list(Renoise))
def test_every_form_of_fusion_follows_the_transcription(mask: MaskForm, renoise: Renoise) -> None:
    lanes, alone = both(settings(MIDWAY, fusion=FusionSettings(mask=mask, renoise=renoise, tau=0.01)))
    assert_same(lanes, alone)
    assert TriggerReason.SCORE in reasons(lanes)


def test_the_forms_of_fusion_differ_in_their_result() -> None:
    results = [
        reconstruct(IMAGES[:1], NOISE[:1], toy_models(), settings(MIDWAY, fusion=fusion)).latents
        for fusion in (
            FusionSettings(),
            FusionSettings(mask=MaskForm.CENTRED, tau=0.01),
            FusionSettings(renoise=Renoise.ORIGINAL),
            FusionSettings(enabled=False),
        )
    ]
    for i, ours in enumerate(results):
        for theirs in results[i + 1 :]:
            assert (ours - theirs).abs().max() > 1e-3


def test_without_fusion_the_trigger_replaces_the_generated_latent() -> None:
    assert_same(*both(settings(MIDWAY, fusion=FusionSettings(enabled=False))))


def test_no_difference_triggers_at_the_first_step_strictly_below_t_min() -> None:
    lanes, alone = both(settings(9.0, t_min=350))
    assert_same(lanes, alone)
    assert reasons(lanes) == {TriggerReason.T_MIN}
    # 721, 691, ... 331: (721 - 331) / 30 + 1 = 14 comparisons, the last of them at the step of the trigger
    assert [(lane.denoising_step, lane.comparisons, lane.unet_evaluations) for lane in lanes.lanes] == [
        (331, 14, 25)
    ] * 3


def test_a_step_equal_to_t_min_does_not_trigger() -> None:
    lanes, alone = both(settings(9.0, t_min=331))
    assert_same(lanes, alone)
    assert {lane.denoising_step for lane in lanes.lanes} == {301}


def test_the_score_wins_over_t_min_at_the_same_step() -> None:
    # one step below t_min from the start: every image could trigger for either reason at 721
    lanes, alone = both(settings(1e-9, t_min=750))
    assert_same(lanes, alone)
    assert reasons(lanes) == {TriggerReason.SCORE}


def test_the_first_comparison_can_trigger() -> None:
    lanes, alone = both(settings(1e-9))
    assert_same(lanes, alone)
    assert [(lane.denoising_step, lane.comparisons) for lane in lanes.lanes] == [(721, 1)] * 3


def test_started_exactly_at_the_first_step_the_first_comparison_is_zero() -> None:
    lanes, alone = both(settings(1e-6, start_level=StartLevel.FIRST_STEP))
    assert_same(lanes, alone)
    assert {lane.denoising_step for lane in lanes.lanes} == {691}


def test_the_level_t_minus_1_follows_the_transcription() -> None:
    assert_same(*both(settings(MIDWAY, start_level=StartLevel.T_MINUS_1)))


def test_an_image_that_never_triggers_compares_at_every_step_and_reports_the_last() -> None:
    lanes, alone = both(settings(9.0, t_min=0))
    assert_same(lanes, alone)
    assert reasons(lanes) == {None}
    assert [(lane.denoising_step, lane.comparisons) for lane in lanes.lanes] == [(1, 25)] * 3


def test_delta_zero_is_plain_ddim_from_t_without_a_comparison() -> None:
    lanes, alone = both(settings(0.0))
    assert_same(lanes, alone)
    assert [(lane.denoising_step, lane.comparisons, lane.trigger) for lane in lanes.lanes] == [(750, 0, None)] * 3
    never = reconstruct(IMAGES, NOISE, toy_models(scale=0.5), settings(9.0, t_min=0))
    assert torch.equal(lanes.latents, never.latents)  # what never triggers walks the same way


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("window", [0, 1, None])
def test_direction_and_window_of_the_trigger_follow_the_transcription(direction: Direction, window: int | None) -> None:
    lanes, alone = both(settings(0.03, trigger={"direction": direction, "window": window}))
    assert_same(lanes, alone)
    assert TriggerReason.SCORE in reasons(lanes)


def test_features_coarser_than_the_latent_are_enlarged_for_the_mask() -> None:
    lanes, alone = both(settings(0.03), patch=2)
    assert_same(lanes, alone)
    assert TriggerReason.SCORE in reasons(lanes)


def test_a_trigger_layer_of_its_own_follows_the_transcription() -> None:
    assert_same(*both(settings(MIDWAY, trigger={"layer": 1})))


def test_letterboxed_lanes_follow_the_transcription() -> None:
    valid = torch.zeros(3, SIDE, SIDE, dtype=torch.bool)
    valid[0, :, 3:11] = True
    valid[1] = True
    valid[2, 5:9] = True
    lanes, alone = both(settings(MIDWAY, trigger={"window": 1}), valid=valid)
    assert_same(lanes, alone)


@pytest.mark.parametrize(("delta", "reason"), [(MIDWAY, TriggerReason.SCORE), (9.0, TriggerReason.T_MIN), (0.0, None)])
def test_guided_lanes_follow_the_transcription(delta: float, reason: TriggerReason | None) -> None:
    told = Condition(torch.tensor([[0.02, 0.04]]), torch.tensor([[0.01, 0.01]]))  # e_c - e_0 = 0.02, nine times
    lanes, alone = both(settings(delta, guidance=9.0), condition=told)
    assert_same(lanes, alone)
    assert reason in reasons(lanes)
    plain, _ = both(settings(delta), condition=told)
    assert (plain.latents - lanes.latents).abs().max() > 1e-3


def test_a_grid_of_other_length_follows_the_transcription() -> None:
    lanes, alone = both(settings(MIDWAY, start=500, steps=15, t_min=250))
    assert_same(lanes, alone)
    assert {lane.unet_evaluations for lane in lanes.lanes} == {15}


def test_a_prediction_that_is_not_a_number_never_passes_as_a_good_image() -> None:
    models = toy_models(lambda latent, _: latent * float("nan"))
    result = reconstruct(IMAGES[:1], NOISE[:1], models, settings(MIDWAY))
    assert result.latents.isnan().all()
