"""The calls that an image costs, one by one: the same for every engine, since all serve the same Protocols."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from glad.batching import BatchSizes
from glad.models import PixelModels
from glad.noise_schedule import add_noise, noise_schedule
from glad.scoring import at_side
from glad.settings.method import MethodSettings


@dataclass(frozen=True, eq=False)
class ModelCall:
    """A component with one batch size."""

    component: str
    batch: int
    run: Callable[[PixelModels], tuple[Tensor, ...]]


@torch.no_grad()
def model_calls(
    models: PixelModels, settings: MethodSettings, shapes: BatchSizes, device: str = "cpu", seed: int = 0
) -> Iterator[ModelCall]:
    """Yield every component in every batch size of `shapes`, on inputs that these models made of noise, on `device`.

    The cost of a call does not depend on the content of the image. Features are read as the score reads them, and as
    the trigger does where that costs something else.
    """
    side, place, draw = settings.resolution, torch.device(device), torch.Generator().manual_seed(seed)
    image = (torch.rand(1, 3, side, side, generator=draw) * 2 - 1).to(place)
    latent = models.autoencoder.encode(image).to(place)
    noise = torch.randn(latent.shape, generator=draw).to(place)
    steps = torch.full((shapes.denoiser[-1],), settings.t_min, dtype=torch.int64, device=place)
    noisy = add_noise(latent, noise, steps[:1], noise_schedule(settings.schedule, place))
    for batch in shapes.comparator:
        images, latents = _times(image, batch), _times(latent, batch)
        yield ModelCall("encoder", batch, _encoder(images))
        yield ModelCall("decoder", batch, _decoder(latents))
        for name, (size, layers) in _readings(settings).items():
            yield ModelCall(name, batch, _features(at_side(images, size), layers))
    for batch in shapes.denoiser:
        yield ModelCall("unet", batch, _unet(_times(noisy, batch), steps[:batch]))


def _readings(settings: MethodSettings) -> Mapping[str, tuple[int, tuple[int, ...]]]:
    """Return side and layers of the features, by what reads them."""
    trigger = settings.resolution, (settings.trigger_layer,)
    score = settings.scoring_side, tuple(settings.score.layers)
    if (trigger[0], max(trigger[1])) == (score[0], max(score[1])):  # the blocks below are computed anyway
        return {"features": score}
    return {"features of the trigger": trigger, "features of the score": score}


def _encoder(images: Tensor) -> Callable[[PixelModels], tuple[Tensor, ...]]:
    return lambda models: (models.autoencoder.encode(images),)


def _decoder(latents: Tensor) -> Callable[[PixelModels], tuple[Tensor, ...]]:
    return lambda models: (models.autoencoder.decode(latents),)


def _features(images: Tensor, layers: tuple[int, ...]) -> Callable[[PixelModels], tuple[Tensor, ...]]:
    return lambda models: tuple(models.features(images, layers))


def _unet(latents: Tensor, steps: Tensor) -> Callable[[PixelModels], tuple[Tensor, ...]]:
    def run(models: PixelModels) -> tuple[Tensor, ...]:
        condition = models.condition
        told = None if condition is None else _times(condition.product[None], len(latents)).to(latents.device)
        return (models.denoiser(latents, steps, told),)

    return run


def _times(row: Tensor, batch: int) -> Tensor:
    return row.expand(batch, *row.shape[1:]).contiguous()
