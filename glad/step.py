"""Advance a block of lanes by one step, each at its own t: the heart of the house."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from glad.batching import BatchSizes
from glad.comparator import Comparator, Observation
from glad.fusion import Adapted, adapt
from glad.lane import LaneBlock, StepOutcome
from glad.noise_prediction import Conditioning, predict_noise
from glad.noise_schedule import add_noise, ddim_step, predict_x0
from glad.protocols import Models


@torch.no_grad()
def step(
    block: LaneBlock, slots: Sequence[int], models: Models, comparator: Comparator, shapes: BatchSizes
) -> StepOutcome:
    """One UNet evaluation for every slot, one comparison for every lane that still adapts. Changes nothing.

    Departure from Eq. 2 as printed (the authors' code does the same): x_{t->0} takes the prediction made for the
    generated latent, e = eps(x^_t, t), not a second evaluation eps(x_t, t). ValueError for a free slot or a finished
    lane, IndexError for no slots.
    """
    chosen = list(slots)
    lanes = [block.lane(slot) for slot in chosen]
    schedule = block.schedule(chosen)
    device = block.generated.device
    timesteps = torch.tensor([lane.timestep for lane in lanes], device=device)
    next_timesteps = torch.tensor([lane.next_timestep for lane in lanes], device=device)

    generated = block.generated[chosen]  # x^_t
    told = Conditioning(
        tuple(block.conditions[slot] for slot in chosen), tuple(lane.settings.guidance for lane in lanes)
    )
    predicted = predict_noise(models.denoiser, generated, timesteps, told, shapes)  # e
    x0_generated = predict_x0(generated, predicted, timesteps, schedule)  # x^_{t->0}, Eq. 2
    direct = add_noise(block.latents[chosen], block.noise[chosen], timesteps, schedule)  # x_t, Eq. 1
    x0_direct = predict_x0(direct, predicted, timesteps, schedule)  # x_{t->0}

    adapting = [i for i, lane in enumerate(lanes) if lane.adapting]
    seen = [_observe(block, chosen[i], x0_generated[i], x0_direct[i]) for i in adapting]
    compared = comparator(seen, shapes.comparator) if seen else ()
    plain = [Adapted(None, x0, e) for x0, e in zip(x0_generated, predicted, strict=True)]
    made = dict(enumerate(plain)) | {
        i: adapt(own, found, predicted[i], block.noise[chosen[i]])
        for i, own, found in zip(adapting, seen, compared, strict=True)
    }
    x0 = torch.stack([made[i].x0 for i in range(len(lanes))])
    carrier = torch.stack([made[i].carrier for i in range(len(lanes))])
    moved = ddim_step(x0, carrier, next_timesteps, schedule)  # Eq. 3
    return StepOutcome(tuple(chosen), moved, tuple(lane.advanced(made[i].trigger) for i, lane in enumerate(lanes)))


def _observe(block: LaneBlock, slot: int, x0_generated: Tensor, x0_direct: Tensor) -> Observation:
    lane = block.lane(slot)
    return Observation(
        settings=lane.settings,
        timestep=lane.timestep,
        latent=block.latents[slot],
        x0_generated=x0_generated,
        x0_direct=x0_direct,
        valid=block.valid[slot],
    )
