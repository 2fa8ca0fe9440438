"""The calls that an image costs, one by one: the same for every engine, since all serve the same Protocols."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from glad.batching import BatchSizes
from glad.feature_form import FeatureModels
from glad.models import ComponentModels, PixelModels
from glad.noise_schedule import add_noise, noise_schedule
from glad.scoring import at_side
from glad.settings.method import MethodSettings
from model_store.manifest import Form, form_of

Run = Callable[[Any], tuple[Tensor, ...]]
"""Calls a component of models; they must be of the form that the call was made for."""


@dataclass(frozen=True, eq=False)
class ModelCall:
    """A component with one batch size."""

    component: str
    batch: int
    run: Run


@dataclass(frozen=True, eq=False)
class _Walked:
    """What an image becomes on its way through the models, one row each."""

    image: Tensor
    latent: Tensor
    noisy: Tensor
    """The latent at t_min."""
    step: Tensor
    """(1,)."""


@torch.no_grad()
def model_calls(
    models: ComponentModels, settings: MethodSettings, shapes: BatchSizes, device: str = "cpu", seed: int = 0
) -> Iterator[ModelCall]:
    """Yield every component in every batch size of `shapes`, on inputs that these models made of noise, on `device`.

    The cost of a call does not depend on the content of the image. In the pixel form, features are read as the score
    reads them, and as the trigger does where that costs something else. In the feature form, what PyTorch computes on
    every engine (embedding, memory, comparator) is no call of its own; whole images contain it.
    """
    walked = _walked(models, settings, device, seed)
    per_image, per_step = _CALLS[form_of(models.components)]
    for batch in shapes.comparator:
        for name, run in per_image(models, settings, walked, batch).items():
            yield ModelCall(name, batch, run)
    for batch in shapes.denoiser:
        yield ModelCall("unet", batch, per_step(models, walked, batch))


def _walked(models: ComponentModels, settings: MethodSettings, device: str, seed: int) -> _Walked:
    side, place, draw = settings.resolution, torch.device(device), torch.Generator().manual_seed(seed)
    image = (torch.rand(1, 3, side, side, generator=draw) * 2 - 1).to(place)
    latent = models.assemble().encoder.encode(image).to(place)
    noise = torch.randn(latent.shape, generator=draw).to(place)
    step = torch.full((1,), settings.t_min, dtype=torch.int64, device=place)
    return _Walked(image, latent, add_noise(latent, noise, step, noise_schedule(settings.schedule, place)), step)


def _pixel_calls(models: PixelModels, settings: MethodSettings, walked: _Walked, batch: int) -> dict[str, Run]:
    images = _times(walked.image, batch)
    readings = {name: _features(at_side(images, side), layers) for name, (side, layers) in _readings(settings).items()}
    latents = _times(walked.latent, batch)
    return {
        "encoder": lambda models: (models.autoencoder.encode(images),),
        "decoder": lambda models: (models.autoencoder.decode(latents),),
        **readings,
    }


def _readings(settings: MethodSettings) -> Mapping[str, tuple[int, tuple[int, ...]]]:
    """Return side and layers of the features, by what reads them."""
    trigger = settings.resolution, (settings.trigger_layer,)
    score = settings.scoring_side, tuple(settings.score.layers)
    if (trigger[0], max(trigger[1])) == (score[0], max(score[1])):  # the blocks below are computed anyway
        return {"features": score}
    return {"features of the trigger": trigger, "features of the score": score}


def _features(images: Tensor, layers: tuple[int, ...]) -> Run:
    return lambda models: tuple(models.features(images, layers))


def _pixel_step(models: PixelModels, walked: _Walked, batch: int) -> Run:
    rows, steps = _times(walked.noisy, batch), _times(walked.step, batch)

    def run(models: PixelModels) -> tuple[Tensor, ...]:
        condition = models.condition
        told = None if condition is None else _times(condition.product[None], len(rows)).to(rows.device)
        return (models.denoiser(rows, steps, told),)

    return run


def _feature_calls(models: FeatureModels, settings: MethodSettings, walked: _Walked, batch: int) -> dict[str, Run]:
    images, latents = _times(walked.image, batch), _times(walked.latent, batch)
    levels = models.space.settings.levels
    return {
        "backbone": lambda models: tuple(models.backbone(images, levels)),
        "decoder": lambda models: (models.decoder.decode(latents),),
    }


def _feature_step(models: FeatureModels, walked: _Walked, batch: int) -> Run:
    seen = _times(models.preconditioned.network_input(walked.noisy, walked.step), batch)
    steps = _times(walked.step, batch)
    return lambda models: (models.denoiser(seen, steps),)


_CALLS: Mapping[Form, tuple[Callable[..., dict[str, Run]], Callable[..., Run]]] = {
    Form.PIXEL: (_pixel_calls, _pixel_step),
    Form.FEATURE: (_feature_calls, _feature_step),
}
"""The calls that images cost once or at a comparison, and that of a step, by the form of the models."""


def _times(row: Tensor, batch: int) -> Tensor:
    return row.expand(batch, *row.shape[1:]).contiguous()
