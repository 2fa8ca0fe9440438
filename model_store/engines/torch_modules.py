"""The Protocols of glad.protocols on modules of diffusers and transformers.

Everything runs in inference mode: the tensors returned may be read and copied from, but neither written in place nor
differentiated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from model_store.backbones.vit import block_outputs, blocks

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel, UNet2DModel
    from transformers import ViTModel

    from model_store.networks.unet2d import UNet2D


@dataclass(frozen=True)
class TorchAutoencoder:
    """glad.protocols.Autoencoder on diffusers' AutoencoderKL, or on its AutoencoderTiny, distilled from one."""

    module: AutoencoderKL | AutoencoderTiny

    @property
    def latent_channels(self) -> int:
        """Return the channels C of a latent."""
        return int(self.module.config.latent_channels)

    @property
    def factor(self) -> int:
        """Return the pixels per latent element on a side: each block but the last halves the side."""
        return int(2 ** (len(self.module.config.block_out_channels) - 1))

    @torch.inference_mode()
    def encode(self, images: Tensor) -> Tensor:
        """Return the latents (B, C, h, w) float32 of images (B, 3, H, W) in [-1, 1]."""
        return self.latents_of(_like(images, self.module)).contiguous()

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Return the images (B, 3, H, W) float32, about [-1, 1], not clamped, of scaled latents (B, C, h, w)."""
        unscaled = latents / self.scale + self.shift
        decoded: Tensor = self.module.decode(_like(unscaled, self.module), return_dict=False)[0]
        return decoded.float().contiguous()

    def latents_of(self, images: Tensor) -> Tensor:
        """Return the same as `encode` of images in the module's type, differentiable: what an exporter traces.

        z = (posterior mean - shift) * scaling factor; a small autoencoder has no posterior, but the mean alone.
        """
        encoded: Any = self.module.encode(images, return_dict=False)[0]
        mean: Tensor = encoded if isinstance(encoded, Tensor) else encoded.mode()
        return (mean.float() - self.shift) * self.scale

    @property
    def scale(self) -> float:
        """Return the factor that latents are multiplied by."""
        return float(self.module.config.scaling_factor)

    @property
    def shift(self) -> float:
        """Return the number that is subtracted from latents before that."""
        return float(self.module.config.shift_factor or 0.0)


@dataclass(frozen=True)
class TorchDenoiser:
    """glad.protocols.Denoiser on diffusers' unconditional UNet2DModel."""

    module: UNet2DModel | UNet2D

    @torch.inference_mode()
    def __call__(self, latents: Tensor, timesteps: Tensor, conditions: Tensor | None = None) -> Tensor:
        """Return the predicted noise (B, C, h, w), float32.

        latents: (B, C, h, w); timesteps: (B,) int64, one per lane.

        Raises:
            ValueError: if there are conditions: this UNet takes none.
        """
        if conditions is not None:
            raise ValueError("this UNet takes no conditions: it was trained without; give None")
        predicted: Tensor = self.module(_like(latents, self.module), timesteps, return_dict=False)[0]
        return predicted.float()


@dataclass(frozen=True)
class TorchConditionalDenoiser:
    """glad.protocols.Denoiser on diffusers' text-conditioned UNet2DConditionModel (Stable Diffusion 1.x)."""

    module: UNet2DConditionModel

    @torch.inference_mode()
    def __call__(self, latents: Tensor, timesteps: Tensor, conditions: Tensor | None = None) -> Tensor:
        """Return the predicted noise (B, C, h, w), float32.

        latents: (B, C, h, w); timesteps: (B,) int64; conditions: (B, L, D).

        Raises:
            ValueError: if there are no conditions.
        """
        if conditions is None:
            raise ValueError("this UNet is text-conditioned: give the embedded prompt of every lane")
        prompts = _like(conditions, self.module)
        predicted: Tensor = self.module(_like(latents, self.module), timesteps, prompts, return_dict=False)[0]
        return predicted.float()


@dataclass(frozen=True)
class TorchFeatures:
    """glad.protocols.Features on transformers' ViTModel: computes no block beyond the deepest one asked for."""

    module: ViTModel

    @property
    def patch(self) -> int:
        """Return the pixels per patch on a side."""
        return int(self.module.config.patch_size)

    @property
    def depth(self) -> int:
        """Return the number of blocks."""
        return len(blocks(self.module))

    @torch.inference_mode()
    def __call__(self, images: Tensor, layers: Sequence[int]) -> tuple[Tensor, ...]:
        """Return per layer the block's output (B, h, w, D) float32, before the final norm, of normalised images."""
        self._refuse_layers(layers)
        return tuple(tap.contiguous() for tap in self.compute(_like(images, self.module), layers))

    def compute(self, images: Tensor, layers: Sequence[int]) -> tuple[Tensor, ...]:
        """Return the same of images in the module's type, differentiable: what an exporter traces."""
        return block_outputs(self.module, images, layers)

    def _refuse_layers(self, layers: Sequence[int]) -> None:
        if not layers or any(not 1 <= layer <= self.depth for layer in layers):
            raise ValueError(f"layers are {tuple(layers)}; the features have blocks 1 ... {self.depth}: choose of them")


def _like(tensor: Tensor, module: Any) -> Tensor:
    return tensor.to(device=module.device, dtype=module.dtype)
