"""The networks of glad.protocols on exported parts, whatever engine runs them.

An engine needs no more than a call: named tensors in, named tensors out. The files of an export give every tensor the
same name for every engine, so that these wrappers are the only place that knows the names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from model_store.engines.export_manifest import (
    ExportShapes,
    FeatureShapes,
    Part,
    PixelShapes,
    exported_components,
)
from model_store.manifest import ComponentName


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
    shapes: PixelShapes

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
class PartDecoder:
    """glad.protocols.LatentDecoder on one exported part."""

    decoder: PartCall

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
    shapes: PixelShapes

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


@dataclass(frozen=True)
class PartBackbone:
    """glad.protocols.LevelFeatures on one exported part, which puts out the levels of the embedding."""

    backbone: PartCall
    levels: tuple[int, ...]

    def __call__(self, images: Tensor, levels: Sequence[int]) -> tuple[Tensor, ...]:
        """Return per level the features (B, D, h, w) float32 of images (B, 3, S, S) in [-1, 1].

        Raises:
            ValueError: if a level was not exported.
        """
        if not levels or not set(levels) <= set(self.levels):
            raise ValueError(f"levels are {tuple(levels)}; exported were {self.levels}: choose of them")
        return tuple(self.backbone({"images": images}, tuple(f"level_{level}" for level in levels)))


def exported_networks(parts: Mapping[Part, PartCall], shapes: ExportShapes) -> dict[str, Any]:
    """Return the networks on these parts, which may run on different engines, by the component that each stands for.

    Raises:
        EngineUnusable: as `exported_components`.
    """
    found = exported_components(parts, shapes)
    match shapes:
        case PixelShapes():
            return {name: _pixel_network(name, parts, shapes) for name in found}
        case FeatureShapes():
            return {name: _feature_network(name, parts, shapes) for name in found}


def _pixel_network(name: ComponentName, parts: Mapping[Part, PartCall], shapes: PixelShapes) -> Any:
    if name == "autoencoder":
        return PartAutoencoder(parts["encoder"], parts["decoder"], shapes)
    if name == "unet":
        return PartDenoiser(parts["unet"], shapes.conditioned)
    sides = {shapes.resolution: parts["features"]}
    if shapes.scoring_side != shapes.resolution:
        sides[shapes.scoring_side] = parts["scoring_features"]
    return PartFeatures(sides, shapes)


def _feature_network(name: ComponentName, parts: Mapping[Part, PartCall], shapes: FeatureShapes) -> Any:
    if name == "backbone":
        return PartBackbone(parts["backbone"], shapes.levels)
    return PartDenoiser(parts["unet"], conditioned=False) if name == "unet" else PartDecoder(parts["decoder"])
