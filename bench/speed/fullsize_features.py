"""Models of the feature form around a backbone of full size, with random weights: the recipe `light` in its shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Dinov2Config, Dinov2Model

from glad.feature_form import FeatureModels, LatentSpace, Witnesses
from glad.memory_bank import MemoryBank
from glad.residual_comparator import ResidualComparator
from glad.settings.method import MethodSettings
from model_store.backbones.base import FrozenBackbone
from model_store.backbones.efficientnet_lite import EfficientNetLite, EfficientNetLiteConfig, scaled_block_shapes
from model_store.backbones.vit import VitBackbone
from model_store.engines.feature_form import TorchPictureDecoder
from model_store.engines.torch_modules import TorchDenoiser
from training.finetune.picture_decoder import new_decoder
from training.finetune.unet import new_unet
from training.recipe import FeatureRecipe
from training.recipe_file import load_recipe

SEED = 20261129


@dataclass(frozen=True)
class BackboneSize:
    """A backbone, and how the embedding reads it."""

    make: Callable[[], FrozenBackbone]
    levels: tuple[int, ...]
    stride: int
    doublings: int
    """Of the decoder: its picture may not be finer than the image, nor of another grid."""
    multiple: int
    """Of which a model image's side is one: whole patches, and an even grid for the denoiser."""

    def side(self, wanted: int) -> int:
        """Return the side nearest to the one that is wanted."""
        return max(1, round(wanted / self.multiple)) * self.multiple


def efficientnet_size(width: float, depth: float) -> BackboneSize:
    """Return a backbone of this width and depth against EfficientNet-B0, in the blocks of EfficientNet-Lite.

    EfficientNet-B4 has 1.4 and 1.8 (Tan and Le 2019).
    """

    def make() -> FrozenBackbone:
        shapes = [shape for shape in scaled_block_shapes(width, depth) if shape.level <= 4]
        return EfficientNetLite(EfficientNetLiteConfig(variant="lite0", levels=4), shapes).eval()

    return BackboneSize(make, (3, 4), 8, 2, 32)


def dinov2_size(hidden: int, heads: int) -> BackboneSize:
    """Return a backbone of this width, read after its middle blocks; DINOv2-B (ViT-B/14) has 768 and 12 heads."""

    def make() -> FrozenBackbone:
        config = Dinov2Config(
            hidden_size=hidden, num_hidden_layers=9, num_attention_heads=heads, patch_size=14, image_size=518
        )
        return VitBackbone(Dinov2Model(config).eval())

    return BackboneSize(make, (6, 9), 14, 1, 56)


@dataclass(frozen=True, eq=False)
class RandomFeatureModels:
    """Models that know nothing, and the settings that fit them."""

    models: FeatureModels
    settings: MethodSettings
    """Every image is clear at its first reading."""
    parameters: Mapping[str, int]
    """Numbers of weights of each network."""


def random_feature_models(size: BackboneSize, side: int, dtype: torch.dtype, device: str) -> RandomFeatureModels:
    """Return models of the recipe `light` around this backbone.

    Args:
        size: of the backbone.
        side: of the model image: see `BackboneSize.side`.
        dtype: of the networks; latents stay float32.
        device: on which everything lies.
    """
    shapes = {
        "settings.resolution": side,
        "embedding.levels": list(size.levels),
        "embedding.averages": [3] * len(size.levels),
        "embedding.stride": size.stride,
        "decoder.doublings": size.doublings,
    }
    recipe = load_recipe("light", tuple(f"{name}={value}" for name, value in shapes.items()))
    assert isinstance(recipe, FeatureRecipe), "the recipe light is of the feature form"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        backbone = size.make()
        channels = sum(backbone.channels(level) for level in size.levels)
        space = _space(recipe, channels, device)
        unet_channels = recipe.latent.fold**2 * recipe.latent.modelled
        unet = new_unet(recipe.unet, unet_channels, side // size.stride // recipe.latent.fold).eval()
        decoder = new_decoder(recipe.decoder, channels).eval()
        witnesses = _witnesses(recipe, channels, device)
    networks = {"backbone": backbone, "unet": unet, "decoder": decoder.decoder}
    for module in (backbone, unet, decoder):
        module.to(device=device, dtype=dtype).requires_grad_(False)
    settings = recipe.settings.changed(doubtful={"low": 0.0, "high": 0.0})
    models = FeatureModels(
        backbone=backbone,
        denoiser=TorchDenoiser(unet),
        decoder=TorchPictureDecoder(decoder, size.stride),
        space=space,
        witnesses=witnesses,
        schedule=settings.schedule,
        fold=recipe.latent.fold,
    )
    counted = {name: sum(one.numel() for one in module.parameters()) for name, module in networks.items()}
    return RandomFeatureModels(models, settings, counted)


def _space(recipe: FeatureRecipe, channels: int, device: str) -> LatentSpace:
    directions = torch.linalg.qr(torch.randn(channels, channels)).Q
    return LatentSpace(
        recipe.embedding,
        (1.0,) * len(recipe.embedding.levels),
        torch.zeros(channels, device=device),
        directions.to(device),
        torch.ones(channels, device=device),
        recipe.latent.modelled,
    )


def _witnesses(recipe: FeatureRecipe, channels: int, device: str) -> Witnesses:
    modelled, window = recipe.latent.modelled, recipe.comparator.window
    patches = torch.randn(recipe.memory.patches, channels).half().to(device)

    def even(count: int) -> ResidualComparator:
        weights: Tensor = torch.eye(count, device=device) / count
        return ResidualComparator(weights, window)

    searched = None if recipe.memory.searched is None else min(recipe.memory.searched, channels)
    return Witnesses(MemoryBank(patches, searched=searched), even(channels), even(modelled), even(modelled))
