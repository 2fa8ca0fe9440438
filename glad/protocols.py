"""The networks that the method needs, as Protocols: torch, ONNX Runtime, TensorRT and an arithmetic toy all fit them.

`glad.models` says which of them one product runs on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class LatentEncoder(Protocol):
    """Makes latents of images: what the method noises and denoises."""

    @property
    def latent_channels(self) -> int:
        """Return the channels C of a latent."""
        ...

    @property
    def factor(self) -> int:
        """Return how many pixels one latent element spans on a side."""
        ...

    def encode(self, images: Tensor) -> Tensor:
        """Return the latents (B, C, h, w) of images (B, 3, H, W) in [-1, 1], scaled; equal images, equal latents."""
        ...


class LatentDecoder(Protocol):
    """Makes pictures of latents."""

    def decode(self, latents: Tensor) -> Tensor:
        """Return the images (B, 3, H, W), about [-1, 1], not clamped, of scaled latents (B, C, h, w)."""
        ...


class Autoencoder(LatentEncoder, LatentDecoder, Protocol):
    """The autoencoder: images to latents (the posterior's mean) and back. It applies its own scaling factor."""


class Denoiser(Protocol):
    """The noise prediction."""

    def __call__(self, latents: Tensor, timesteps: Tensor, conditions: Tensor | None = None) -> Tensor:
        """Return the predicted noise (B, C, h, w), float32. Every argument has one entry per lane.

        Args:
            latents: (B, C, h, w).
            timesteps: (B,) int64.
            conditions: embedded prompts (B, L, D); None for a UNet that takes none.
        """
        ...


class Features(Protocol):
    """The feature extractor: patch features of chosen blocks, before the final norm, without the CLS token."""

    @property
    def patch(self) -> int:
        """Return the pixels per patch on a side."""
        ...

    @property
    def depth(self) -> int:
        """Return the number of blocks; valid layers are 1 ... depth."""
        ...

    def __call__(self, images: Tensor, layers: Sequence[int]) -> tuple[Tensor, ...]:
        """Return per layer the features (B, h, w, D), float32, of images (B, 3, H, W) that are normalised already."""
        ...


class LevelFeatures(Protocol):
    """What describes an image at several levels, whatever runs it; a higher level sees more of the image."""

    def __call__(self, images: Tensor, levels: Sequence[int]) -> tuple[Tensor, ...]:
        """Return per level the features (B, D, h, w), float32, of images (B, 3, S, S) in [-1, 1].

        Nothing beyond the highest level asked for is computed, and no level depends on which others are.

        Args:
            images: the mean of the normalisation becomes 0.
            levels: ascending.
        """
        ...


class Backbone(LevelFeatures, Protocol):
    """A frozen, pretrained network that describes an image at several levels. It normalises the image itself."""

    @property
    def levels(self) -> int:
        """Return the number of levels; valid levels are 1 ... levels, a higher one sees more of the image."""
        ...

    @property
    def mean(self) -> tuple[float, float, float]:
        """Return the mean per colour, of images in [0, 1], that the weights were trained with."""
        ...

    @property
    def std(self) -> tuple[float, float, float]:
        """Return the standard deviation per colour, of images in [0, 1], that the weights were trained with."""
        ...

    def stride(self, level: int) -> int:
        """Return the pixels per place of a level on a side."""
        ...

    def channels(self, level: int) -> int:
        """Return the channels D of a level."""
        ...


@dataclass(frozen=True, eq=False)
class Condition:
    """The constant input of a text-conditioned UNet: prompts, embedded once and stored in the bundle."""

    product: Tensor
    """The product's prompt: (L, D)."""
    empty: Tensor
    """The empty prompt, which guidance steers away from: (L, D)."""
