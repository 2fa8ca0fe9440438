"""What the method asks of its models. Torch, ONNX Runtime, TensorRT and an arithmetic toy are equals behind these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class Autoencoder(Protocol):
    """Images to latents and back; owns its own scaling factor."""

    @property
    def latent_channels(self) -> int:
        """Channels C of a latent."""
        ...

    @property
    def factor(self) -> int:
        """How many pixels one latent element spans on a side."""
        ...

    def encode(self, images: Tensor) -> Tensor:
        """images: (B, 3, H, W) in [-1, 1] -> (B, C, h, w): the posterior's mean, scaled."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """latents: (B, C, h, w), scaled -> (B, 3, H, W), about [-1, 1], not clamped."""
        ...


class Denoiser(Protocol):
    """The noise prediction."""

    def __call__(self, latents: Tensor, timesteps: Tensor, conditions: Tensor | None = None) -> Tensor:
        """Predicted noise (B, C, h, w), float32.

        latents: (B, C, h, w); timesteps: (B,) int64; conditions: (B, L, D), embedded prompts, or None for a UNet that
        takes none. One entry per lane.
        """
        ...


class Features(Protocol):
    """Patch features of chosen blocks, before the final norm, without the CLS token."""

    @property
    def patch(self) -> int:
        """Pixels per patch on a side."""
        ...

    @property
    def depth(self) -> int:
        """Number of blocks; valid layers are 1 ... depth."""
        ...

    def __call__(self, images: Tensor, layers: Sequence[int]) -> tuple[Tensor, ...]:
        """images: (B, 3, H, W), already normalised as the caller wants -> per layer (B, h, w, D), float32."""
        ...


@dataclass(frozen=True, eq=False)
class Condition:
    """What a text-conditioned UNet is told of a product: constants, embedded once and stored in the bundle."""

    product: Tensor
    """The product's prompt: (L, D)."""
    empty: Tensor
    """The empty prompt, which guidance steers away from: (L, D)."""


@dataclass(frozen=True)
class Models:
    """The models that one product runs on."""

    autoencoder: Autoencoder
    denoiser: Denoiser
    features: Features
    condition: Condition | None = None
    """None: the denoiser takes no condition."""
