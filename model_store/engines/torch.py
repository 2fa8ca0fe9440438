"""The models on PyTorch: AutoencoderKL and the UNets of diffusers, ViTModel of transformers. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import torch
from torch import nn

from glad.models import PixelModels
from glad.protocols import Condition
from glad.settings.method import MethodSettings
from model_store.bundle import Bundle, ComponentSource
from model_store.compatibility import ModelShapes, check_fit
from model_store.engines.torch_io import load_condition, load_module
from model_store.engines.torch_modules import (
    TorchAutoencoder,
    TorchConditionalDenoiser,
    TorchDenoiser,
    TorchFeatures,
)
from model_store.manifest import FORM_COMPONENTS, ComponentName, Dtype, Form, Kind
from model_store.pretrained import round_to_stored_precision, save_module

__all__ = [
    "TorchAutoencoder",
    "TorchFeatures",
    "component_hashes",
    "load_models",
    "models_from_modules",
    "pixel_models_around",
    "round_to_stored_precision",
    "save_components",
    "shapes_of",
]

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel, UNet2DModel
    from transformers import ViTModel

    from model_store.networks.unet2d import UNet2D

PictureAutoencoder: TypeAlias = "AutoencoderKL | AutoencoderTiny"
UNet: TypeAlias = "UNet2DModel | UNet2DConditionModel | UNet2D"

_EXTRA_INPUTS = ("addition_embed_type", "class_embed_type", "num_class_embeds", "encoder_hid_dim_type")
"""Inputs of other families' UNets, such as Stable Diffusion XL's, besides latent, step and prompt."""


def load_models(bundle: Bundle, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> PixelModels:
    """Return the models of a bundle of the pixel form on a device, ready to run. Reads only the bundle's folder.

    Raises:
        ModelLoadError: if a component is of a kind or shape that this engine cannot load.
        ModelsDoNotFit: if the models fit neither each other nor the bundle's settings.
    """
    autoencoder, unet, features = (load_module(bundle, name, dtype) for name in FORM_COMPONENTS[Form.PIXEL])
    for module in (autoencoder, unet, features):
        nn.Module.to(module, device=device)
        module.requires_grad_(False)
    # A quarter off a decode of 192² by 2 cores; the UNet gained nothing measurable.
    autoencoder.to(memory_format=torch.channels_last)
    condition = _condition(bundle, device)
    return models_from_modules(autoencoder, unet, features, bundle.manifest.settings, condition)


def pixel_models_around(networks: Mapping[str, Any], bundle: Bundle, device: str | torch.device = "cpu") -> PixelModels:
    """Return models of networks that another engine runs, and of the bundle's condition if it has one.

    Args:
        networks: autoencoder, unet and features.

    Raises:
        ModelLoadError: if the condition does not load.
    """
    condition = _condition(bundle, device)
    return PixelModels(networks["autoencoder"], networks["unet"], networks["features"], condition)


def _condition(bundle: Bundle, device: str | torch.device) -> Condition | None:
    if "condition" not in bundle.manifest.components:
        return None
    with bundle.verified("condition") as folder:
        return load_condition(folder, device)


def models_from_modules(
    autoencoder: PictureAutoencoder,
    unet: UNet,
    features: ViTModel,
    settings: MethodSettings,
    condition: Condition | None = None,
) -> PixelModels:
    """Return models of modules as they are, such as freshly trained ones.

    Raises:
        ValueError: if a module is in training mode.
        ModelsDoNotFit: if they fit neither each other nor the settings.
    """
    modules: dict[str, nn.Module] = {"autoencoder": autoencoder, "unet": unet, "features": features}
    if training := [name for name, module in modules.items() if module.training]:
        raise ValueError(f"{', '.join(training)} in training mode: dropout makes scores random; call .eval() first")
    check_fit(shapes_of(autoencoder, unet, features, condition), settings)
    denoiser = TorchConditionalDenoiser(unet) if takes_prompts(unet) else TorchDenoiser(unet)
    return PixelModels(TorchAutoencoder(autoencoder), denoiser, TorchFeatures(features), condition)


def shapes_of(
    autoencoder: PictureAutoencoder, unet: UNet, features: ViTModel, condition: Condition | None = None
) -> ModelShapes:
    """Return the sizes that the modules must have in common, from their configurations."""
    return ModelShapes(
        image_channels=autoencoder.config.in_channels,
        latent_channels=autoencoder.config.latent_channels,
        factor=TorchAutoencoder(autoencoder).factor,
        unet_in_channels=unet.config.in_channels,
        unet_out_channels=unet.config.out_channels,
        unet_stride=2 ** (len(unet.config.block_out_channels) - 1),
        feature_channels=features.config.num_channels,
        patch=TorchFeatures(features).patch,
        depth=TorchFeatures(features).depth,
        prompt_widths=_prompt_widths(unet),
        condition_width=None if condition is None else condition.product.shape[-1],
        unet_extras=_extras(unet.config) if takes_prompts(unet) else (),
    )


def takes_prompts(unet: UNet) -> TypeGuard[UNet2DConditionModel]:
    """Return whether a UNet is conditioned on text: asked of its configuration, without importing its library."""
    return getattr(unet.config, "cross_attention_dim", None) is not None


def _prompt_widths(unet: UNet) -> tuple[int, ...]:
    if not takes_prompts(unet):
        return ()
    widths = unet.config.cross_attention_dim
    return (widths,) if isinstance(widths, int) else tuple(dict.fromkeys(widths))


def _extras(config: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(name for name in _EXTRA_INPUTS if config.get(name) is not None)


def save_components(
    folder: Path,
    autoencoder: PictureAutoencoder,
    unet: UNet,
    features: ViTModel,
    *,
    licence: str,
    dtype: Dtype = "float16",
) -> dict[ComponentName, ComponentSource]:
    """Save the modules under `folder` in Hugging Face layout, and return them as sources for `write_bundle`.

    The modules stay as they are. A text-conditioned UNet's condition is saved by `save_condition`.

    Raises:
        ValueError: if a weight is not finite in `dtype`.
    """
    modules: dict[ComponentName, tuple[Kind, nn.Module]] = {
        "autoencoder": (_autoencoder_kind(autoencoder), autoencoder),
        "unet": ("unet2d_condition" if takes_prompts(unet) else "unet2d", unet),
        "features": ("vit", features),
    }
    return {
        name: save_module(module, folder / name, kind, dtype, licence=licence)
        for name, (kind, module) in modules.items()
    }


def _autoencoder_kind(autoencoder: PictureAutoencoder) -> Kind:
    """Return an autoencoder's kind: asked of its configuration, without importing its library."""
    return "autoencoder_tiny" if "latent_magnitude" in autoencoder.config else "autoencoder_kl"


def component_hashes(bundle: Bundle) -> dict[ComponentName, str]:
    """Return the content hash of each component: equal hashes are equal models, whatever product they serve."""
    return {name: component.content_hash for name, component in bundle.manifest.components.items()}
