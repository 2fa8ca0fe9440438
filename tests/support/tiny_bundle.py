"""A bundle with tiny random models: the real file format, the real engine, a few milliseconds per call.

    bundle = make_tiny_bundle(tmp_path)                       # tmp_path is now a store with product "toy", version "1"
    bundle = make_tiny_bundle(tmp_path, product="other", start=300, steps=3, thresholds=(0.2, 0.4, 0.5))

The weights mean nothing: scores differ between images and repeat exactly, no more.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel, UNet2DModel
from transformers import ViTConfig, ViTModel

from glad.models import ComponentModels, PixelModels
from glad.protocols import Condition
from glad.quality_gate.limits import QualityGate
from glad.settings.method import MethodSettings
from model_store.bundle import BundleParts, write_bundle
from model_store.engines.torch import save_components
from model_store.engines.torch_io import save_condition
from model_store.manifest import Calibration, Provenance

LATENT_CHANNELS = 4
FACTOR = 8
DEPTH = 2
TOKENS, WIDTH = 5, 8
CREATED_AT = datetime(2026, 1, 1, tzinfo=UTC)

TINY_SETTINGS: dict[str, Any] = {
    "start": 500,
    "steps": 5,
    "t_min": 250,
    "trigger": {"delta": 0.3},
    "score": {
        "layers": (1, DEPTH),
        "smoothing": {"value": 1},
        "taps": {"value": 5},
        "top": {"value": 0.01, "unit": "area"},
    },
}

QUICK: dict[str, Any] = {"resolution": 32, "steps": 2, "t_min": 100, "trigger": {"delta": 0.05}}
"""For thousands of inspections in minutes."""


def make_tiny_bundle(
    folder: Path,
    *,
    product: str = "toy",
    seed: int = 0,
    resolution: int = 64,
    version: str = "1",
    created_at: datetime = CREATED_AT,
    prompt: int | None = None,
    thresholds: tuple[float, float, float] | None = (0.5, 1.0, 1.0),
    gate: QualityGate | None = None,
    quality: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Path:
    """Writes `folder/product/version` (`folder` is then a store) and returns that path; equal arguments, equal hash.

    prompt: seed of a random condition, for a text-conditioned UNet; None: a UNet that takes none.
    thresholds: review, fail, pixel; None: not calibrated yet. gate: see `tests.support.gates`.
    quality: what was measured when it was made.
    settings: fields of MethodSettings that replace TINY_SETTINGS.
    """
    parts = BundleParts(
        product=product,
        version=version,
        title="Tiny random models",
        settings=MethodSettings.model_validate({**TINY_SETTINGS, "resolution": resolution, **settings}),
        calibration=None if thresholds is None else tiny_calibration(*thresholds),
        provenance=Provenance(
            created_at=created_at, command="make_tiny_bundle", recipe={}, data={}, software={}, seed=seed
        ),
        gate=gate,
        quality=quality or {},
    )
    with tempfile.TemporaryDirectory() as sources:
        licence, modules = "Apache-2.0, random", tiny_modules(seed, resolution, told=prompt is not None)
        components = save_components(Path(sources), *modules, licence=licence)
        if prompt is not None:
            told = save_condition(
                tiny_condition(prompt), Path(sources) / "condition", {"seed": prompt}, licence=licence
            )
            components["condition"] = told
        return write_bundle(folder / product / version, parts, components).path


def pixel_models(parts: ComponentModels) -> PixelModels:
    """The networks of a bundle made here, in the form that they have."""
    assert isinstance(parts, PixelModels)
    return parts


def tiny_calibration(review: float, fail: float, pixel: float) -> Calibration:
    """Given thresholds, as if found on two good images."""
    return Calibration(
        review=review, fail=fail, pixel=pixel, pixel_quantile=0.995, good_images=2, good_scores=(review / 2, review)
    )


def tiny_modules(
    seed: int = 0, resolution: int = 64, *, told: bool = False
) -> tuple[AutoencoderKL, UNet2DModel | UNet2DConditionModel, ViTModel]:
    """Random autoencoder, UNet and ViT in evaluation mode; the caller's random state stays as it was.

    told: the UNet is text-conditioned.
    """
    make_unet = tiny_conditional_unet if told else tiny_unet
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        modules = tiny_autoencoder(resolution), make_unet(resolution), tiny_features(resolution)
    for module in modules:
        module.eval()
    return modules


def tiny_autoencoder(resolution: int) -> AutoencoderKL:
    """Factor 8, one layer a block, no attention."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=4,
        mid_block_add_attention=False,
        sample_size=resolution,
        scaling_factor=0.5,
    )


def tiny_unet(resolution: int) -> UNet2DModel:
    """Two levels, no attention."""
    return UNet2DModel(
        sample_size=resolution // FACTOR,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(16, 16),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        add_attention=False,
    )


def tiny_conditional_unet(resolution: int) -> UNet2DConditionModel:
    """Two levels, the upper one attends to prompts of width 8."""
    return UNet2DConditionModel(
        sample_size=resolution // FACTOR,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(16, 16),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=2,
        cross_attention_dim=WIDTH,
    )


def tiny_condition(seed: int) -> Condition:
    """A product's random prompt, and the empty one that all products share: (5, 8) each."""
    product, empty = (
        torch.randn(TOKENS, WIDTH, generator=torch.Generator().manual_seed(number)) for number in (seed, 10_000)
    )
    return Condition(product, empty)


def tiny_features(resolution: int) -> ViTModel:
    """Two blocks of width 16 on patches of 8, with weights large enough for the picture to outweigh the position."""
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=DEPTH,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=resolution,
        patch_size=FACTOR,
        layer_norm_eps=1e-6,
        initializer_range=0.2,
    )
    return ViTModel(config, add_pooling_layer=False)
