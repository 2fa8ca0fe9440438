"""Guidance: e_0 + w (e_c - e_0), each lane by its own condition and weight."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from glad.batching import BatchSizes, Conditioning, predict_noise
from glad.lane import Lane, LaneBlock
from glad.protocols import Condition
from glad.reconstruct import reconstruct
from glad.settings.method import MethodSettings, ScoreSettings, TriggerSettings
from tests.glad.toys import ToyDenoiser, random_images, random_noise, toy_models

SHAPES = BatchSizes(denoiser=(1, 2, 4))
LATENTS = random_noise(3, 4)
STEPS = torch.tensor([1, 300, 700])


def condition(product: float, empty: float) -> Condition:
    """Two prompts of three tokens of width two, each of one value."""
    return Condition(torch.full((3, 2), product), torch.full((3, 2), empty))


def settings(guidance: float) -> MethodSettings:
    trigger = TriggerSettings(delta=0.08, window=0)
    return MethodSettings(trigger=trigger, score=ScoreSettings(layers=(1, 2)), steps=5, guidance=guidance)


def test_the_guided_prediction_is_the_formula_by_hand() -> None:
    # The toy predicts 0 plus the mean of its prompt: e_c = 0.5, e_0 = 0.2; 0.2 + 9 (0.5 - 0.2) = 2.9.
    denoiser = ToyDenoiser(lambda latent, _: torch.zeros_like(latent))
    told = Conditioning((condition(0.5, 0.2),) * 3, (9.0,) * 3)
    guided = predict_noise(denoiser, LATENTS, STEPS, told, SHAPES)
    torch.testing.assert_close(guided, torch.full_like(LATENTS, 2.9))


def test_without_guidance_a_lane_costs_one_evaluation_and_the_empty_prompt_is_never_asked() -> None:
    denoiser = ToyDenoiser(lambda latent, _: torch.zeros_like(latent))
    told = Conditioning((condition(0.5, torch.nan),) * 2, (1.0,) * 2)
    plain = predict_noise(denoiser, LATENTS[:2], STEPS[:2], told, SHAPES)
    assert denoiser.batches == [2]
    torch.testing.assert_close(plain, torch.full_like(plain, 0.5))


def test_each_lane_is_guided_by_its_own_condition_and_weight() -> None:
    models = toy_models()
    conditions = (condition(0.1, 0.0), condition(0.2, 0.1), condition(-0.3, 0.2))
    weights = (1.0, 9.0, 3.0)
    side_by_side = predict_noise(models.denoiser, LATENTS, STEPS, Conditioning(conditions, weights), SHAPES)
    for i in range(3):
        own = Conditioning((conditions[i],), (weights[i],))
        alone = predict_noise(models.denoiser, LATENTS[i : i + 1], STEPS[i : i + 1], own, SHAPES)
        torch.testing.assert_close(side_by_side[i : i + 1], alone)


def test_a_prompt_that_equals_the_empty_one_makes_guidance_change_nothing() -> None:
    images, noise = random_images(2, 8), random_noise(2, 8)
    told = replace(toy_models(), condition=condition(0.3, 0.3))
    plain, guided = (reconstruct(images, noise, told, settings(weight)) for weight in (1.0, 9.0))
    torch.testing.assert_close(plain.images, guided.images)
    assert [lane.unet_evaluations for lane in plain.lanes] == [5, 5]
    assert [lane.unet_evaluations for lane in guided.lanes] == [10, 10]


def test_guidance_without_a_condition_is_refused_at_the_door() -> None:
    block = LaneBlock.empty(1, 3, 8)
    with pytest.raises(ValueError, match=r"guidance is 9\.0, and this UNet takes no condition.*set guidance to 1"):
        block.add_lane(0, Lane(settings(9.0)), random_noise(1, 8)[0], random_noise(1, 8)[0])


def test_lanes_with_and_without_a_condition_never_share_a_unet() -> None:
    told = Conditioning((condition(0.1, 0.0), None), (1.0, 1.0))
    with pytest.raises(ValueError, match="1 of 2 lanes have a condition"):
        predict_noise(toy_models().denoiser, LATENTS[:2], STEPS[:2], told, SHAPES)
