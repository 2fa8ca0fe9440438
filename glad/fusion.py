"""The decision of one lane after its comparison: trigger or not, fusion mask, blend (Secs. 3.3 and 3.4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from glad.comparator import Comparison, Observation
from glad.lane import Trigger, TriggerReason
from glad.settings.method import FusionSettings, MaskForm, MethodSettings, Renoise, near_tie


@dataclass(frozen=True, eq=False)
class Adapted:
    """The state that a lane goes on with after its comparison."""

    trigger: Trigger | None
    x0: Tensor
    """(C, h, w)."""
    carrier: Tensor
    """The noise that carries x_0 to the next step: (C, h, w)."""
    near_tie: bool
    """The comparison lay so near delta that it might have been decided otherwise."""


def adapt(observation: Observation, comparison: Comparison, predicted_noise: Tensor, own_noise: Tensor) -> Adapted:
    """Decide for one lane: fuse its two versions, replace one by the other, or go on as before.

    Args:
        observation: the lane.
        comparison: of its two versions.
        predicted_noise: e, the UNet's prediction at this step, (C, h, w).
        own_noise: epsilon, the image's own noise, (C, h, w).
    """
    trigger = decide_trigger(observation.settings, observation.timestep, comparison.score)
    tie = near_tie(comparison.score, observation.settings.trigger.delta)
    if trigger is None:
        return Adapted(None, observation.x0_generated, predicted_noise, tie)
    fusion = observation.settings.fusion
    if trigger.reason is TriggerReason.T_MIN or not fusion.enabled:
        return Adapted(trigger, observation.x0_direct, predicted_noise, tie)
    mask = fusion_mask(comparison.map, observation.settings.trigger.delta, fusion)
    fused = blend(observation.x0_generated, observation.x0_direct, mask)
    return Adapted(trigger, fused, own_noise if fusion.renoise is Renoise.ORIGINAL else predicted_noise, tie)


def decide_trigger(settings: MethodSettings, timestep: int, score: float) -> Trigger | None:
    """Return the trigger: by the score, strictly above delta; else by the step, strictly below t_min; else None."""
    if score > settings.trigger.delta:
        return Trigger(timestep, TriggerReason.SCORE, score)
    if timestep < settings.t_min:
        return Trigger(timestep, TriggerReason.T_MIN, score)
    return None


def fusion_mask(comparison_map: Tensor, delta: float, settings: FusionSettings) -> Tensor:
    """Return m of Eq. 6 from the comparison's map M: (h, w) -> (h, w) in (0, 1).

    As the authors' code has it, m = sigmoid(M): with M in [0, 2] at least half of the generated latent is kept
    everywhere. The centred form is a departure: it keeps the direct version where the map is quiet.
    """
    match settings.mask:
        case MaskForm.SIGMOID:
            return torch.sigmoid(comparison_map)
        case MaskForm.CENTRED:
            return torch.sigmoid((comparison_map - delta) / settings.tau)


def blend(x0_generated: Tensor, x0_direct: Tensor, mask: Tensor) -> Tensor:
    """Return m x^_{t->0} + (1 - m) x_{t->0}, (C, h, w): Eq. 6 in the noise-free version, as Eq. 7 has it."""
    return mask * x0_generated + (1 - mask) * x0_direct
