"""Networks of full size with random weights, and what they show of batches: is a lane's result the same in every one?

Stable Diffusion 1.5 and DINO ViT-B/8 for the pixel form; backbones as large as EfficientNet-B4 and DINOv2-B for the
feature form, with the recipe `light` around them. Seconds and memory depend on shapes, not on values.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, permutations
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import ViTConfig, ViTModel

from glad.batching import BatchSizes, decode
from glad.lane import Lane, LaneBlock
from glad.models import PixelModels
from glad.protocols import Condition
from glad.scoring import anomaly_map, image_scores
from glad.settings.method import MethodSettings, TriggerSettings
from glad.step import step
from model_store.engines.torch import models_from_modules

TOKENS = 77
CLOSED_SHAPES = BatchSizes(denoiser=(4,))
OPEN_SHAPES = BatchSizes(denoiser=(1, 2, 3))
SEED = 20261124


@dataclass(frozen=True)
class Architecture:
    """The widths; everything else is as published."""

    unet: tuple[int, ...]
    prompt: int
    autoencoder: tuple[int, ...]
    features: int


FULL = Architecture(unet=(320, 640, 1280, 1280), prompt=768, autoencoder=(128, 256, 512, 512), features=768)
"""Stable Diffusion 1.5; ViT-B/8."""
NARROW = Architecture(unet=(32, 32, 64, 64), prompt=32, autoencoder=(32, 32, 32, 32), features=48)


@dataclass(frozen=True, eq=False)
class Built:
    """Random models, with the number of weights of each."""

    models: PixelModels
    parameters: Mapping[str, int]


@dataclass(frozen=True)
class Invariance:
    """The largest absolute difference of a lane in a batch from the lane alone, over all batches that were tried."""

    side: int
    calls: str
    calls_compared: int
    latents: float
    scores: float


@dataclass(frozen=True, eq=False)
class Modules:
    """The modules of the models, before any training."""

    autoencoder: AutoencoderKL
    unet: UNet2DConditionModel
    features: ViTModel
    condition: Condition

    @property
    def parameters(self) -> dict[str, int]:
        """The number of weights of each."""
        modules: dict[str, Any] = {"autoencoder": self.autoencoder, "unet": self.unet, "features": self.features}
        return {name: sum(one.numel() for one in module.parameters()) for name, module in modules.items()}


def random_modules(architecture: Architecture) -> Modules:
    """Return modules of this architecture in evaluation mode, float32 on the CPU; equal ones each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        autoencoder, unet = sd_autoencoder(architecture), sd_unet(architecture)
        features = dino_vit(architecture)
        condition = Condition(*(torch.randn(TOKENS, architecture.prompt) for _ in range(2)))
    return Modules(autoencoder, unet, features, condition)


def random_models(architecture: Architecture) -> Built:
    """Return the models of `random_modules`."""
    made = random_modules(architecture)
    models = models_from_modules(made.autoencoder, made.unet, made.features, fullsize_settings(512), made.condition)
    return Built(models, made.parameters)


@torch.no_grad()
def measure_invariance(built: Built, side: int) -> Iterator[Invariance]:
    """Compare three lanes at three steps: alone, in pairs, and together in every order.

    With calls of one fixed size, and without. A lane's place in the call changes as well, which can matter to a kernel
    even where the size is fixed. The comparison is left out: on a CPU the autoencoder and the features see each image
    alone anyway.
    """
    settings = fullsize_settings(side, delta=0.0)
    for name, shapes in (("all padded to 4", CLOSED_SHAPES), ("as many as there are", OPEN_SHAPES)):
        alone = {i: _stepped(built.models, settings, (i,), shapes)[0] for i in range(3)}
        orders = [*combinations(range(3), 2), *permutations(range(3))]
        pairs = [
            (alone[i], found, i)
            for order in orders
            for i, found in zip(order, _stepped(built.models, settings, order, shapes), strict=True)
        ]
        scores = _Scores(built.models, settings, side)
        yield Invariance(
            side,
            name,
            len(orders),
            max(float((one - other).abs().max()) for one, other, _ in pairs),
            max(abs(scores.score(one, i) - scores.score(other, i)) for one, other, i in pairs),
        )


@dataclass(frozen=True, eq=False)
class _Scores:
    """The scores of latents; equal latents are scored once, since they have the same score."""

    models: PixelModels
    settings: MethodSettings
    side: int
    known: dict[tuple[int, bytes], float] = field(default_factory=dict)

    def score(self, latent: Tensor, lane: int) -> float:
        """The image score of a lane's latent (C, h, w)."""
        key = lane, latent.numpy().tobytes()
        if key not in self.known:
            self.known[key] = _score(self.models, self.settings, _image(self.side, lane), latent[None], OPEN_SHAPES)
        return self.known[key]


def _stepped(models: PixelModels, settings: MethodSettings, order: Sequence[int], shapes: BatchSizes) -> Tensor:
    """Return the latents of these lanes after one step, lane i at the grid's step 5 i: (len(order), C, h, w)."""
    side = settings.resolution // 8
    block = LaneBlock.empty(len(order), 4, side)
    for slot, i in enumerate(order):
        lane = Lane(settings, position=5 * i)
        latent = _noise(settings.resolution, 100 + i)
        block.add_lane(slot, lane, latent, _noise(settings.resolution, i), condition=models.condition)
    slots = tuple(range(len(order)))
    return step(block, slots, models.assemble(), shapes).generated


def _score(models: PixelModels, settings: MethodSettings, image: Tensor, latents: Tensor, shapes: BatchSizes) -> float:
    rebuilt = decode(models.autoencoder, latents, shapes)
    valid = torch.ones(1, settings.resolution, settings.resolution, dtype=torch.bool)
    found = anomaly_map(image, rebuilt, models.features, settings.score, valid)
    return float(image_scores(found, settings.score, valid)[0])


def fullsize_settings(side: int, delta: float = 0.3) -> MethodSettings:
    """Return the published settings at this side."""
    return MethodSettings(resolution=side, trigger=TriggerSettings(delta=delta))


def _image(side: int, seed: int) -> Tensor:
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def _noise(side: int, seed: int) -> Tensor:
    return torch.randn(4, side // 8, side // 8, generator=torch.Generator().manual_seed(seed))


def peak_memory_gb() -> float:
    """Return the peak memory of this process so far, in 10^9 bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e9


def sd_unet(architecture: Architecture) -> UNet2DConditionModel:
    """Return the UNet of Stable Diffusion 1.x at these widths, untrained."""
    unet: UNet2DConditionModel = UNet2DConditionModel(
        sample_size=64,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        block_out_channels=architecture.unet,
        layers_per_block=2,
        cross_attention_dim=architecture.prompt,
        attention_head_dim=8,  # Stable Diffusion 1.x means the number of heads
    ).eval()
    return unet


def sd_autoencoder(architecture: Architecture) -> AutoencoderKL:
    """Return its autoencoder."""
    autoencoder: AutoencoderKL = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=architecture.autoencoder,
        layers_per_block=2,
        latent_channels=4,
        sample_size=512,
        scaling_factor=0.18215,
    ).eval()
    return autoencoder


def dino_vit(architecture: Architecture) -> ViTModel:
    """Return DINO's ViT with patches of 8 px."""
    config = ViTConfig(
        hidden_size=architecture.features,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=4 * architecture.features,
        image_size=224,
        patch_size=8,
        layer_norm_eps=1e-6,
    )
    return ViTModel(config, add_pooling_layer=False).eval()
