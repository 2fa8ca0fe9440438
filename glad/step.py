"""Start lanes in a block, and advance them by one step of the method, each at its own t (Secs. 3.3 and 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glad.batching import BatchSizes, Conditioning, predict_noise
from glad.comparator import Comparator, Observation
from glad.first_reading import FirstReading
from glad.fusion import adapt
from glad.lane import Lane, LaneBatch, LaneBlock, StepOutcome, Trigger
from glad.models import Models
from glad.noise_schedule import add_noise, ddim_step, predict_x0
from glad.settings.method import MethodSettings


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """A model image that is to be rebuilt."""

    latent: Tensor
    """z: (C, h, w), scaled."""
    noise: Tensor
    """epsilon, its own: (C, h, w)."""
    valid: Tensor | None = None
    """(h, w) bool, false on padding; None: all of it is image."""
    inspected_mask: Tensor | None = None
    """(S, S) bool, true on what is neither padding nor ignored; None: everywhere."""


@torch.no_grad()
def start_lane(block: LaneBlock, slot: int, encoded: EncodedImage, models: Models, settings: MethodSettings) -> None:
    """Put an image into a free slot: to walk, or finished already where its first reading is clear.

    Raises:
        ValueError: if the settings ask for first readings, and these models have no memory to read by; otherwise as
            `LaneBlock.add_lane`.
    """
    reading = _first_reading(encoded, models, settings)
    doubtful = settings.doubtful
    walks = reading is None or doubtful is None or doubtful.contains(reading.score)
    spent = 0 if reading is None else reading.unet_evaluations
    tie = reading is not None and doubtful is not None and doubtful.near_tie(reading.score)
    lane = (
        Lane(settings, unet_evaluations=spent, near_tie=tie)
        if walks
        else Lane.without_walk(settings, spent, near_tie=tie)
    )
    block.add_lane(
        slot, lane, encoded.latent, encoded.noise, encoded.valid, condition=models.condition, reading=reading
    )


def _first_reading(encoded: EncodedImage, models: Models, settings: MethodSettings) -> FirstReading | None:
    if settings.doubtful is None:
        return None
    if models.first_reader is None:
        raise ValueError(
            "the settings say which images are doubtful, and these models have no memory to read an image first: "
            "remove doubtful from the settings"
        )
    return models.first_reader(encoded.latent, encoded.noise, encoded.inspected_mask, settings)


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
    near_ties = [False] * len(batch.lanes)
    if batch.adapting:
        x0, carrier, triggers, near_ties = _adapt(
            block, batch, x0_generated, predicted_noise, comparator=models.comparator, buckets=batch_sizes.comparator
        )

    # x^_{t'} = sqrt(alpha_bar_{t'}) x_0 + sqrt(1 - alpha_bar_{t'}) e, Eq. 3
    return batch.advanced(ddim_step(x0, carrier, batch.next_timesteps, batch.schedule), triggers, near_ties)


def _adapt(
    block: LaneBlock,
    batch: LaneBatch,
    x0_generated: Tensor,
    predicted_noise: Tensor,
    *,
    comparator: Comparator,
    buckets: Sequence[int],
) -> tuple[Tensor, Tensor, list[Trigger | None], list[bool]]:
    """Compare the lanes that have not triggered, and let each go on with what its comparison decides.

    Return x_0 and the noise that carries it to the next step, (B, C, h, w) each, and per row the new trigger, if any,
    and whether the decision was a near tie.
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
    near_ties = [False] * len(batch.lanes)
    for row, slot, observation, comparison in zip(rows, slots, observations, comparisons, strict=True):
        adapted = adapt(observation, comparison, predicted_noise[row], block.noise[slot])
        x0[row], carrier[row], triggers[row] = adapted.x0, adapted.carrier, adapted.trigger
        near_ties[row] = adapted.near_tie
    return x0, carrier, triggers, near_ties
