"""Arithmetic models whose answers can be worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from glad.models import Models, PixelModels


@dataclass(frozen=True)
class PlainAutoencoder:
    """Latents are the image's own pixels (times `scale`): factor 1, three channels."""

    scale: float = 1.0

    @property
    def latent_channels(self) -> int:
        return 3

    @property
    def factor(self) -> int:
        return 1

    def encode(self, images: Tensor) -> Tensor:
        return images * self.scale

    def decode(self, latents: Tensor) -> Tensor:
        return latents / self.scale


@dataclass(frozen=True)
class PixelFeatures:
    """A patch's feature is its mean colour, plus a constant so that no feature is zero; deeper layers add more of
    it."""

    patch: int = 1
    depth: int = 2
    batches: list[int] = field(default_factory=list)
    asked: list[tuple[int, ...]] = field(default_factory=list)

    def __call__(self, images: Tensor, layers: Sequence[int]) -> tuple[Tensor, ...]:
        self.batches.append(len(images))
        self.asked.append(tuple(layers))
        pooled = torch.nn.functional.avg_pool2d(images, self.patch).permute(0, 2, 3, 1)
        return tuple(torch.cat([pooled, torch.full_like(pooled[..., :1], float(layer))], -1) for layer in layers)


@dataclass(frozen=True)
class ToyDenoiser:
    """A row-wise function of a latent and its step, plus the mean of its condition.

    Keeps the batch sizes and steps that it was called with.
    """

    predict: Callable[[Tensor, int], Tensor]
    batches: list[int] = field(default_factory=list)
    timesteps: list[tuple[int, ...]] = field(default_factory=list)

    def __call__(self, latents: Tensor, timesteps: Tensor, conditions: Tensor | None = None) -> Tensor:
        self.batches.append(len(latents))
        self.timesteps.append(tuple(timesteps.tolist()))
        predicted = torch.stack([self.predict(row, int(t)) for row, t in zip(latents, timesteps, strict=True)])
        return predicted if conditions is None else predicted + conditions.mean((1, 2))[:, None, None, None]


def drifting(latent: Tensor, timestep: int) -> Tensor:
    """A prediction that is wrong in a smooth way, and more so where the latent is large."""
    return 0.8 * latent + 0.3 * torch.tanh(latent * 2) * (timestep / 1000) - 0.05


def toy_networks(
    predict: Callable[[Tensor, int], Tensor] = drifting, scale: float = 1.0, patch: int = 1
) -> PixelModels:
    """Arithmetic models in place of VAE, UNet and ViT."""
    return PixelModels(PlainAutoencoder(scale), ToyDenoiser(predict), PixelFeatures(patch))


def toy_models(predict: Callable[[Tensor, int], Tensor] = drifting, scale: float = 1.0) -> Models:
    """The models that these arithmetic ones make."""
    return toy_networks(predict, scale).assemble()


def random_images(count: int, side: int, seed: int = 0) -> Tensor:
    """(count, 3, side, side) in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, side, side, generator=generator) * 2 - 1


def random_noise(count: int, side: int, seed: int = 1) -> Tensor:
    """(count, 3, side, side), standard normal."""
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))
