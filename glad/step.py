"""Advance a block of lanes by one step of the method, each lane at its own t (Secs. 3.3 and 3.4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from glad.batching import BatchSizes, Conditioning, predict_noise
from glad.comparator import Comparator, Observation
from glad.fusion import adapt
from glad.lane import LaneBatch, LaneBlock, StepOutcome, Trigger
from glad.models import Models
from glad.noise_schedule import add_noise, ddim_step, predict_x0


@torch.no_grad()
def step(block: LaneBlock, slots: Sequence[int], models: Models, batch_sizes: BatchSizes) -> StepOutcome:
    """Return these lanes one step on; the block itself is not changed.

    Costs one UNet evaluation per lane (two with guidance), and one comparison per lane that has not triggered yet.

    Departure from Eq. 2 as printed (the authors' code does the same): x_{t->0} is computed with the noise that was
    predicted for the generated latent, e = eps(x^_t, t), and not with a second evaluation eps(x_t, t).

    Raises:
        ValueError: if a slot is free or its lane is finished.
        IndexError: if no slot is given.
    """
    batch = block.batch(slots)
    conditioning = Conditioning(batch.conditions, tuple(lane.settings.guidance for lane in batch.lanes))

    # e = eps_theta(x^_t, t)
    predicted_noise = predict_noise(models.denoiser, batch.generated, batch.timesteps, conditioning, batch_sizes)
    # x^_{t->0} = (x^_t - sqrt(1 - alpha_bar_t) e) / sqrt(alpha_bar_t), Eq. 2
    x0_generated = predict_x0(batch.generated, predicted_noise, batch.timesteps, batch.schedule)

    x0, carrier = x0_generated, predicted_noise
    triggers: list[Trigger | None] = [None] * len(batch.lanes)
    if batch.adapting:
        x0, carrier, triggers = _adapt(
            block, batch, x0_generated, predicted_noise, comparator=models.comparator, buckets=batch_sizes.comparator
        )

    # x^_{t'} = sqrt(alpha_bar_{t'}) x_0 + sqrt(1 - alpha_bar_{t'}) e, Eq. 3
    return batch.advanced(ddim_step(x0, carrier, batch.next_timesteps, batch.schedule), triggers)


def _adapt(
    block: LaneBlock,
    batch: LaneBatch,
    x0_generated: Tensor,
    predicted_noise: Tensor,
    *,
    comparator: Comparator,
    buckets: Sequence[int],
) -> tuple[Tensor, Tensor, list[Trigger | None]]:
    """Compare the lanes that have not triggered, and let each go on with what its comparison decides.

    Return x_0 and the noise that carries it to the next step, (B, C, h, w) each, and per row the new trigger, if any.
    """
    rows = batch.adapting
    slots = [batch.slots[row] for row in rows]
    timesteps = batch.timesteps[rows]
    direct = add_noise(block.latents[slots], block.noise[slots], timesteps, batch.schedule)  # x_t, Eq. 1
    x0_direct = predict_x0(direct, predicted_noise[rows], timesteps, batch.schedule)  # x_{t->0}, Eq. 2
    observations = [
        Observation(
            settings=batch.lanes[row].settings,
            timestep=batch.lanes[row].timestep,
            latent=block.latents[slot],
            x0_generated=x0_generated[row],
            x0_direct=x0_direct[i],
            valid=block.valid[slot],
        )
        for i, (row, slot) in enumerate(zip(rows, slots, strict=True))
    ]
    comparisons = comparator(observations, buckets)

    # Copies: a model's output may be an inference tensor, which refuses to be written to.
    x0, carrier = x0_generated.clone(), predicted_noise.clone()
    triggers: list[Trigger | None] = [None] * len(batch.lanes)
    for row, slot, observation, comparison in zip(rows, slots, observations, comparisons, strict=True):
        adapted = adapt(observation, comparison, predicted_noise[row], block.noise[slot])
        x0[row], carrier[row], triggers[row] = adapted.x0, adapted.carrier, adapted.trigger
    return x0, carrier, triggers
