"""Has this lane triggered; the mask; the blend (Secs. 3.3 and 3.4). One lane at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from glad.comparator import Comparison, Observation
from glad.lane import Trigger, TriggerReason
from glad.settings.method import FusionSettings, MaskForm, MethodSettings, Renoise


@dataclass(frozen=True, eq=False)
class Adapted:
    """What a lane goes on with after its comparison."""

    trigger: Trigger | None
    x0: Tensor
    """(C, h, w)."""
    carrier: Tensor
    """The noise that carries x_0 to the next step: (C, h, w)."""


def adapt(seen: Observation, compared: Comparison, predicted_noise: Tensor, own_noise: Tensor) -> Adapted:
    """Decide for one lane: fuse, replace, or walk on. predicted_noise (e), own_noise (epsilon): (C, h, w)."""
    trigger = decide(seen.settings, seen.timestep, compared.score)
    if trigger is None:
        return Adapted(None, seen.x0_generated, predicted_noise)
    fusion = seen.settings.fusion
    if trigger.reason is TriggerReason.T_MIN or not fusion.enabled:
        return Adapted(trigger, seen.x0_direct, predicted_noise)
    mask = fusion_mask(compared.map, seen.settings.trigger.delta, fusion)
    fused = blend(seen.x0_generated, seen.x0_direct, mask)
    return Adapted(trigger, fused, own_noise if fusion.renoise is Renoise.ORIGINAL else predicted_noise)


def decide(settings: MethodSettings, timestep: int, score: float) -> Trigger | None:
    """The score first, strictly above delta; then the step, strictly below t_min; else no trigger."""
    if score > settings.trigger.delta:
        return Trigger(timestep, TriggerReason.SCORE, score)
    if timestep < settings.t_min:
        return Trigger(timestep, TriggerReason.T_MIN, score)
    return None


def fusion_mask(found: Tensor, delta: float, settings: FusionSettings) -> Tensor:
    """m of Eq. 6 from the comparison's map M: (h, w) -> (h, w) in (0, 1).

    As the authors' code has it, m = sigmoid(M): with M in [0, 2] at least half of the generated latent is kept
    everywhere. The centred form is a departure: it keeps the direct version where the map is quiet.
    """
    match settings.mask:
        case MaskForm.SIGMOID:
            return torch.sigmoid(found)
        case MaskForm.CENTRED:
            return torch.sigmoid((found - delta) / settings.tau)


def blend(x0_generated: Tensor, x0_direct: Tensor, mask: Tensor) -> Tensor:
    """Eq. 6 in the noise-free version, as Eq. 7 has it: (C, h, w) twice and (h, w) -> (C, h, w)."""
    return mask * x0_generated + (1 - mask) * x0_direct
