"""Published base models in Hugging Face layout, from a folder or a hub id; a checkpoint can replace the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError
from torch import Tensor, nn
from transformers import ViTConfig, ViTModel

from glad.settings.method import ScheduleSettings
from model_store.checkpoints import ImportRefused, check_names, read_tensors
from model_store.errors import ModelLoadError
from model_store.importing.names import autoencoder_weights, unet_weights, vit_weights
from model_store.manifest import CONFIG_NAME
from model_store.pretrained import load_pretrained, quiet

DINO_EPSILON = 1e-6
"""LayerNorm's epsilon in DINO. The published configuration for transformers says 1e-12, the library's default."""


@dataclass(frozen=True)
class Base:
    """The source of published models: a folder, or an id of the Hugging Face hub."""

    LAYOUT: ClassVar[str] = (
        "Expected: a folder or hub id in Hugging Face layout, with safetensors files; pickled weights of a base are "
        "never read: give them as --unet, --vae or --features"
    )
    place: str

    @property
    def local(self) -> bool:
        """Return whether it is a folder: then nothing is downloaded."""
        return Path(self.place).is_dir()


def autoencoder_of(base: Base, checkpoint: Path | None) -> AutoencoderKL | AutoencoderTiny:
    """Return Stable Diffusion's autoencoder, float32, or with fine-tuned weights in the names of LDM or diffusers.

    A folder that holds a small autoencoder (diffusers AutoencoderTiny) gives that one instead.
    """
    if checkpoint is None:
        return _published(base, "autoencoder_kl", subfolder="vae")
    if _holds_small_autoencoder(checkpoint):
        return _published(Base(str(checkpoint)), "autoencoder_tiny")
    config = _config(base, AutoencoderKL, "vae")
    tensors = autoencoder_weights(read_tensors(checkpoint), len(config["up_block_types"]))
    with torch.device("meta"):
        module: AutoencoderKL = AutoencoderKL.from_config(config)
    return _filled(module, tensors, checkpoint, f"the AutoencoderKL of {base.place}/vae")


def _holds_small_autoencoder(checkpoint: Path) -> bool:
    try:
        content = json.loads((checkpoint / CONFIG_NAME).read_bytes())
    except (OSError, ValueError):
        return False
    return bool(content.get("_class_name") == "AutoencoderTiny")


def unet_of(base: Base, checkpoint: Path | None) -> UNet2DConditionModel:
    """Return Stable Diffusion's UNet, float32, or with fine-tuned weights in diffusers' names."""
    if checkpoint is None:
        return _published(base, "unet2d_condition", subfolder="unet")
    config, tensors = _config(base, UNet2DConditionModel, "unet"), unet_weights(read_tensors(checkpoint))
    with torch.device("meta"):
        module: UNet2DConditionModel = UNet2DConditionModel.from_config(config)
    return _filled(module, tensors, checkpoint, f"the UNet2DConditionModel of {base.place}/unet")


def features_of(dino: Base, checkpoint: Path | None) -> ViTModel:
    """Return DINO's ViT with DINO's epsilon, float32, or with weights in the names of timm, DINO or transformers."""
    config = _vit_config(dino)
    if checkpoint is None:
        return _published(dino, "vit", ignored="pooler.", config=config)
    tensors = vit_weights(read_tensors(checkpoint))
    with torch.device("meta"):
        module = ViTModel(config, add_pooling_layer=False)
    return _filled(module, tensors, checkpoint, f"the ViTModel of {dino.place}")


def empty_models(base: Base, dino: Base) -> tuple[AutoencoderKL, UNet2DConditionModel, ViTModel]:
    """Return the models as their configurations describe them, on the meta device: they take no memory.

    Raises:
        ImportRefused: if a configuration is missing.
    """
    with torch.device("meta"):
        autoencoder: AutoencoderKL = AutoencoderKL.from_config(_config(base, AutoencoderKL, "vae"))
        unet: UNet2DConditionModel = UNet2DConditionModel.from_config(_config(base, UNet2DConditionModel, "unet"))
        features = ViTModel(_vit_config(dino), add_pooling_layer=False)
    return autoencoder.eval(), unet.eval(), features.eval()


def check_schedule(base: Base, settings: ScheduleSettings) -> None:
    """Check that the base's noise schedule is the settings', and that its UNet predicts noise.

    Raises:
        ImportRefused: if not.
    """
    published = _scheduler(base)
    here = {
        "prediction_type": "epsilon",
        "num_train_timesteps": settings.train_steps,
        "beta_start": settings.beta_start,
        "beta_end": settings.beta_end,
        "beta_schedule": settings.form,
    }
    for name, expected in here.items():
        if (value := published.get(name, expected)) != expected:
            raise ImportRefused(
                f"{base.place}/scheduler has {name} {value}; the settings need {expected}: use a Stable Diffusion 1.x "
                "base, or settings with its schedule"
            )


def _scheduler(base: Base) -> Mapping[str, Any]:
    file = "scheduler/scheduler_config.json"
    if base.local:
        path = Path(base.place) / file
    else:
        try:
            path = Path(hf_hub_download(base.place, file))
        except (EntryNotFoundError, HfHubHTTPError) as error:
            raise ImportRefused(f"{base.place}: no {file}: {error}. {Base.LAYOUT}") from error
    if not path.is_file():
        raise ImportRefused(f"{path} is missing: it says what the UNet predicts and under which noise. {Base.LAYOUT}")
    config: dict[str, Any] = json.loads(path.read_bytes())
    return config


def _published(base: Base, kind: Any, **where: Any) -> Any:
    try:
        return load_pretrained(kind, base.place, torch.float32, local=base.local, **where)
    except ModelLoadError as error:
        raise ImportRefused(f"{error}. {Base.LAYOUT}") from error


def _vit_config(dino: Base) -> ViTConfig:
    try:
        with quiet():
            config = ViTConfig.from_pretrained(dino.place, local_files_only=dino.local)
    except (OSError, ValueError) as error:
        raise ImportRefused(f"{dino.place}: no configuration of a ViT: {error}. {Base.LAYOUT}") from error
    config.layer_norm_eps = DINO_EPSILON
    return config


def _config(base: Base, kind: Any, subfolder: str) -> dict[str, Any]:
    try:
        with quiet():
            config: dict[str, Any] = kind.load_config(base.place, subfolder=subfolder, local_files_only=base.local)
    except (OSError, ValueError) as error:
        raise ImportRefused(f"{base.place}/{subfolder}: no configuration: {error}. {Base.LAYOUT}") from error
    return config


def _filled(module: Any, tensors: dict[str, Tensor], checkpoint: Path, model: str) -> Any:
    """Return a module on the meta device with these weights; it never holds random ones."""
    expected = {name: parameter.shape for name, parameter in module.state_dict().items()}
    check_names(tensors, expected, origin=str(checkpoint), model=model)
    nn.Module.load_state_dict(module, {name: tensor.float() for name, tensor in tensors.items()}, assign=True)
    return module.eval()
