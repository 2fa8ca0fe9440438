"""How fast an engine is here: measured on the calls that one image takes, not assumed."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from glad.batching import BatchSizes
from glad.noise_prediction import Conditioning, predict_noise
from glad.protocols import Models
from glad.scoring import at_side
from glad.settings.method import MethodSettings

ROUNDS = 3
ENOUGH_S = 2.0
"""A call that takes longer is not repeated: what differs by seconds needs no third look."""


def seconds_per_image(models: Models, settings: MethodSettings, device: str, *, lanes: int) -> float:
    """Time of an average good image's calls: one encode, every step among `lanes` others, a comparison at each of them.

    The images are noise: what a call costs does not depend on what it shows.
    """
    side, place = settings.resolution, torch.device(device)
    draw = torch.Generator().manual_seed(0)
    images = (torch.rand(1, 3, side, side, generator=draw) * 2 - 1).to(place)
    latents = models.autoencoder.encode(images)
    many = latents.expand(lanes, -1, -1, -1).contiguous()
    steps = torch.full((lanes,), settings.t_min, dtype=torch.int64, device=place)
    told = Conditioning((models.condition,) * lanes, (settings.guidance,) * lanes)
    shapes = BatchSizes(denoiser=(lanes, 2 * lanes), comparator=(1,))
    spent = {
        "encode": _seconds(lambda: models.autoencoder.encode(images), place),
        "decode": _seconds(lambda: models.autoencoder.decode(latents), place),
        "features": _seconds(
            lambda: models.features(at_side(images, settings.scoring_side), settings.score.layers), place
        ),
        "denoise": _seconds(lambda: predict_noise(models.denoiser, many, steps, told, shapes), place) / lanes,
    }
    compared = settings.steps // 2  # down to t_min, which is half of T in the published settings
    return (
        spent["encode"] + settings.steps * spent["denoise"] + (compared + 1) * (spent["decode"] + 2 * spent["features"])
    )


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    """The shortest of a few calls after one that warms up; one that is slow by itself counts as it is."""
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
