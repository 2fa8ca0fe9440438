"""The models of glad.protocols on exported parts, whatever engine runs them.

An engine needs no more than a call: named tensors in, named tensors out. The files of an export give every tensor the
same name for every engine, so that these wrappers are the only place that knows the names.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from glad.models import PixelModels
from glad.protocols import Condition
from model_store.engines.export_manifest import EngineUnusable, ExportShapes, Part


class PartCall(Protocol):
    """One exported part, ready to be called."""

    def __call__(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """Return the outputs of these names, (B, …), new tensors each time; inputs: name -> (B, …)."""
        ...


@dataclass(frozen=True)
class PartAutoencoder:
    """glad.protocols.Autoencoder on two exported parts."""

    encoder: PartCall
    decoder: PartCall
    shapes: ExportShapes

    @property
    def latent_channels(self) -> int:
        """Return the channels C of a latent."""
        return self.shapes.latent_channels

    @property
    def factor(self) -> int:
        """Return the pixels per latent element on a side."""
        return self.shapes.factor

    def encode(self, images: Tensor) -> Tensor:
        """Return latents (B, C, h, w) float32, the posterior's mean, scaled, of images (B, 3, H, W) in [-1, 1]."""
        return self.encoder({"images": images}, ("latents",))[0]

    def decode(self, latents: Tensor) -> Tensor:
        """Return images (B, 3, H, W) float32, about [-1, 1], not clamped, of scaled latents (B, C, h, w)."""
        return self.decoder({"latents": latents}, ("images",))[0]


@dataclass(frozen=True)
class PartDenoiser:
    """glad.protocols.Denoiser on one exported part, with or without a prompt as input."""

    unet: PartCall
    conditioned: bool

    def __call__(self, latents: Tensor, timesteps: Tensor, conditions: Tensor | None = None) -> Tensor:
        """Return the predicted noise (B, C, h, w), float32.

        latents: (B, C, h, w); timesteps: (B,); conditions: (B, L, D) or None.

        Raises:
            ValueError: if there are conditions where the UNet takes none, or none where it takes them.
        """
        if self.conditioned != (conditions is not None):
            raise ValueError(
                "this UNet is text-conditioned: give the embedded prompt of every lane"
                if self.conditioned
                else "this UNet takes no conditions: it was trained without; give None"
            )
        prompts = {} if conditions is None else {"conditions": conditions}
        return self.unet({"latents": latents, "timesteps": timesteps, **prompts}, ("noise",))[0]


@dataclass(frozen=True)
class PartFeatures:
    """glad.protocols.Features on one exported part per image side: the model image's, and the score's if it differs."""

    sides: Mapping[int, PartCall]
    shapes: ExportShapes

    @property
    def patch(self) -> int:
        """Return the pixels per patch on a side."""
        return self.shapes.patch

    @property
    def depth(self) -> int:
        """Return the number of blocks of the extractor; only those of `shapes.layers` were exported."""
        return self.shapes.depth

    def __call__(self, images: Tensor, layers: Sequence[int]) -> tuple[Tensor, ...]:
        """Return per layer the features (B, h, w, D) float32 of images (B, 3, H, W), normalised.

        Raises:
            ValueError: if a layer or the images' side was not exported.
        """
        if not layers or not set(layers) <= set(self.shapes.layers):
            raise ValueError(f"layers are {tuple(layers)}; exported were {self.shapes.layers}: choose of them")
        if (side := images.shape[-1]) not in self.sides:
            raise ValueError(f"images have a side of {side} px; exported was {', '.join(map(str, self.sides))}")
        return tuple(self.sides[side]({"images": images}, tuple(f"layer_{layer}" for layer in layers)))


def needed_parts(shapes: ExportShapes) -> tuple[Part, ...]:
    """Return the parts that a bundle's models are made of: the score has its own features where its side differs."""
    parts: tuple[Part, ...] = ("encoder", "unet", "decoder", "features")
    return parts if shapes.scoring_side == shapes.resolution else (*parts, "scoring_features")


def refuse_missing(parts: Collection[Part], shapes: ExportShapes) -> None:
    """Raise EngineUnusable if a part that the models are made of is not among these."""
    if missing := sorted(set(needed_parts(shapes)) - set(parts)):
        raise EngineUnusable(f"the export has no {', '.join(missing)}: export the bundle again")


def models_of(parts: Mapping[Part, PartCall], shapes: ExportShapes, condition: Condition | None = None) -> PixelModels:
    """Return the models on these parts, which may run on different engines.

    Raises:
        EngineUnusable: if one is missing.
    """
    refuse_missing(parts, shapes)
    sides = {shapes.resolution: parts["features"]}
    if shapes.scoring_side != shapes.resolution:
        sides[shapes.scoring_side] = parts["scoring_features"]
    return PixelModels(
        PartAutoencoder(parts["encoder"], parts["decoder"], shapes),
        PartDenoiser(parts["unet"], shapes.conditioned),
        PartFeatures(sides, shapes),
        condition,
    )
