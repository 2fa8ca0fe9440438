"""The inputs on which an export is made and compared: probes as the models see them, and their latents noised."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from glad.images.tiling import frame
from glad.models import ComponentModels
from glad.noise_schedule import NoiseSchedule, add_noise, noise_schedule
from glad.settings.method import MethodSettings
from training.data.image_files import read_pixels
from training.synthesis.probes import Probe

TIMESTEPS = 5
CALIBRATION_SAMPLES = 16
"""Inputs of each model by which int8 finds its ranges."""
STEPS_OF_SAMPLES = 5


def inputs(
    models: ComponentModels, settings: MethodSettings, probes: Sequence[Probe], device: str
) -> tuple[Tensor, Tensor]:
    """Return the probes as the models see them, and the noise of each: (B, 3, S, S), (B, C, h, w)."""
    shape = models.assemble().latent_shape(settings.resolution)
    framed = [frame(read_pixels(probe.path), settings, shape) for probe in probes]
    squares = [one.model_input(one.tiles[0]) for one in framed]
    images, noise = np.stack([s.image for s in squares]), np.stack([s.noise for s in squares])
    return torch.from_numpy(images).to(device), torch.from_numpy(noise).to(device)


def chosen_steps(settings: MethodSettings) -> tuple[int, ...]:
    """Return at most five steps of the method's own grid, ascending.

    They are evenly spread between t_min and T, ends included.
    """
    steps = sorted(step for step in settings.grid if step >= settings.t_min) or list(settings.grid[:1])
    places = np.unique(np.linspace(0, len(steps) - 1, TIMESTEPS).round().astype(int))
    return tuple(steps[place] for place in places)


def noised_on_the_way(latents: Tensor, noise: Tensor, settings: MethodSettings) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield latents (B, C, h, w) noised to each of `chosen_steps`, and the step of each row (B,)."""
    schedule = noise_schedule(settings.schedule, latents.device)
    for timestep in chosen_steps(settings):
        steps = torch.full((len(latents),), timestep, dtype=torch.int64, device=latents.device)
        yield add_noise(latents, noise, steps, schedule), steps


def good_images(models: ComponentModels, settings: MethodSettings, probes: Sequence[Probe]) -> list[Tensor]:
    """Return good probes as the models see them, on the CPU: (1, 3, S, S) each."""
    good = [probe for probe in probes if not probe.defective][:CALIBRATION_SAMPLES]
    return list(torch.split(inputs(models, settings, good, "cpu")[0], 1))


def noised(latents: Sequence[Tensor], settings: MethodSettings) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield each latent (1, C, h, w) noised to several steps, and the step (1,)."""
    schedule = NoiseSchedule.from_settings(settings.schedule)
    for number, latent in enumerate(latents):
        noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(number))
        for share in range(STEPS_OF_SAMPLES):
            step = torch.tensor([max(1, settings.start * (share + 1) // STEPS_OF_SAMPLES - 1)])
            yield add_noise(latent, noise, step, schedule), step
