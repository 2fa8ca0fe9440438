"""When a lane triggers, the mask of Eq. 6, and what is blended."""

from __future__ import annotations

from math import exp

import pytest
import torch

from glad.comparator import Comparison, Observation
from glad.fusion import adapt, blend, decide_trigger, fusion_mask
from glad.lane import Trigger, TriggerReason
from glad.settings.method import (
    FusionSettings,
    MaskForm,
    MethodSettings,
    Renoise,
    ScoreSettings,
    TriggerSettings,
)


def settings(delta: float = 0.4, fusion: FusionSettings | None = None) -> MethodSettings:
    return MethodSettings(
        trigger=TriggerSettings(delta=delta), score=ScoreSettings(layers=(1,)), fusion=fusion or FusionSettings()
    )


@pytest.mark.parametrize(
    ("timestep", "score", "reason"),
    [
        (721, 0.41, TriggerReason.SCORE),
        (721, 0.4, None),  # equal to delta is not above it
        (351, 0.1, None),
        (350, 0.1, None),  # equal to t_min is not below it
        (349, 0.1, TriggerReason.T_MIN),
        (349, 0.41, TriggerReason.SCORE),  # the score is asked first
        (721, float("nan"), None),
    ],
)
def test_a_lane_triggers_strictly_above_delta_or_strictly_below_t_min(
    timestep: int, score: float, reason: TriggerReason | None
) -> None:
    trigger = decide_trigger(settings(), timestep, score)
    assert trigger == (None if reason is None else Trigger(timestep, reason, score))


def test_the_authors_mask_keeps_at_least_half_of_the_generated_latent() -> None:
    mask = fusion_mask(torch.tensor([0.0, 1.0, 2.0]), 0.4, FusionSettings())
    torch.testing.assert_close(mask, torch.tensor([0.5, 1 / (1 + exp(-1)), 1 / (1 + exp(-2))]))
    assert mask[2].item() == pytest.approx(0.88, abs=0.001)


def test_the_centred_mask_is_a_half_at_delta_and_near_zero_where_the_map_is_quiet() -> None:
    form = FusionSettings(mask=MaskForm.CENTRED, tau=0.1)
    mask = fusion_mask(torch.tensor([0.0, 0.4, 0.6]), 0.4, form)
    torch.testing.assert_close(mask, torch.tensor([1 / (1 + exp(4)), 0.5, 1 / (1 + exp(-2))]))


def test_eq_6_blends_by_the_mask_on_every_channel() -> None:
    generated, direct = torch.full((2, 1, 2), 4.0), torch.full((2, 1, 2), 8.0)
    fused = blend(generated, direct, torch.tensor([[0.75, 0.5]]))
    assert fused.tolist() == [[[5.0, 6.0]], [[5.0, 6.0]]]  # 0.75 * 4 + 0.25 * 8, and the mean


def seen(method: MethodSettings, timestep: int) -> Observation:
    return Observation(
        settings=method,
        timestep=timestep,
        latent=torch.zeros(1, 1, 1),
        x0_generated=torch.full((1, 1, 1), 4.0),
        x0_direct=torch.full((1, 1, 1), 8.0),
    )


PREDICTED = torch.full((1, 1, 1), 0.25)
OWN = torch.full((1, 1, 1), -0.5)


@pytest.mark.parametrize(
    ("fusion", "score", "timestep", "x0", "carrier"),
    [
        (FusionSettings(), 0.1, 721, 4.0, PREDICTED),  # walks on
        (FusionSettings(), 0.9, 721, 6.0, PREDICTED),  # map 0: m = 0.5
        (FusionSettings(renoise=Renoise.ORIGINAL), 0.9, 721, 6.0, OWN),  # Eq. 7
        (FusionSettings(renoise=Renoise.ORIGINAL), 0.1, 300, 8.0, PREDICTED),  # nothing was fused below t_min
        (FusionSettings(enabled=False), 0.9, 721, 8.0, PREDICTED),
        (FusionSettings(), 0.1, 300, 8.0, PREDICTED),
    ],
)
def test_what_a_lane_goes_on_with(
    fusion: FusionSettings, score: float, timestep: int, x0: float, carrier: torch.Tensor
) -> None:
    found = Comparison(score, torch.zeros(1, 1))
    adapted = adapt(seen(settings(fusion=fusion), timestep), found, PREDICTED, OWN)
    assert adapted.x0.item() == x0
    assert torch.equal(adapted.carrier, carrier)


def test_the_difference_of_an_observation_is_accumulated_prediction_error() -> None:
    assert seen(settings(), 721).difference.item() == 4.0 - 8.0
