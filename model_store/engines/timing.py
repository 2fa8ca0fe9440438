"""The measured speed of an engine on this machine, on the calls that one image takes."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from glad.batching import BatchSizes, Conditioning, predict_noise
from glad.comparator import Observation
from glad.models import Models
from glad.scoring import LaneResult
from glad.settings.method import MethodSettings

ROUNDS = 3
WALKING_SHARE = 0.2
"""Of good images, where clear ones do not walk: what the recipe `light` finds doubtful (`low_quantile`)."""
ENOUGH_S = 2.0
"""A call that takes longer is timed once: engines that differ by seconds need no more exact figure."""


def seconds_per_image(models: Models, settings: MethodSettings, device: str, *, lanes: int) -> float:
    """Return the time of a good image's calls of networks: an encode, every step among `lanes` others, and what
    comparisons, score and picture ask of them.

    What asks no network (memory, comparators of latents) takes the same on every engine, and is left out. Where clear
    images do not walk, steps and picture count by the share of those that do. The images are noise: what a call costs
    does not depend on what it shows.
    """
    side, torch_device = settings.resolution, torch.device(device)
    draw = torch.Generator().manual_seed(0)
    images = (torch.rand(1, 3, side, side, generator=draw) * 2 - 1).to(torch_device)
    latents = models.encoder.encode(images)
    many = latents.expand(lanes, -1, -1, -1).contiguous()
    steps = torch.full((lanes,), settings.t_min, dtype=torch.int64, device=torch_device)
    conditioning = Conditioning((models.condition,) * lanes, (settings.guidance,) * lanes)
    batch_sizes = BatchSizes(denoiser=(lanes, 2 * lanes), comparator=(1,))
    walking = WALKING_SHARE if settings.doubtful is not None else 1.0
    calls: dict[Callable[[], object], float] = {
        lambda: models.encoder.encode(images): 1,
        lambda: predict_noise(models.denoiser, many, steps, conditioning, batch_sizes): (
            walking * settings.steps / lanes
        ),
        lambda: models.decoder.decode(latents): walking,
    }
    with torch.no_grad():
        if models.scorer.needs_picture:  # comparisons and score look at pictures, by networks
            observation = Observation(settings, settings.grid[0], latents[0], latents[0], latents[0])
            ended = LaneResult(images[0], latents[0], latents[0], models.decoder.decode(latents)[0])
            # Down to t_min, which is half of T in the published settings.
            calls[lambda: models.comparator([observation], batch_sizes.comparator)] = settings.steps // 2
            calls[lambda: models.scorer([ended], settings.score, batch_sizes.comparator)] = 1
        return sum(number * _seconds(call, torch_device) for call, number in calls.items() if number)


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    """Return the shortest of a few calls after one that warms up; the first one alone if that is slow."""
    first = _timed(call, device)
    return first if first > ENOUGH_S else min(_timed(call, device) for _ in range(ROUNDS))


def _timed(call: Callable[[], object], device: torch.device) -> float:
    _settle(device)
    began = time.perf_counter()
    call()
    _settle(device)
    return time.perf_counter() - began


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
