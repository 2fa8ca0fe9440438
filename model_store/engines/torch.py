"""The models on PyTorch: AutoencoderKL and UNet2DModel of diffusers, ViTModel of transformers. Nothing is downloaded.

Weights lie as float16 on disk and are computed in float32 (or what the caller asks for). Everything runs in inference
mode: the tensors returned may be read and copied from, but neither written in place nor differentiated.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DModel
from torch import Tensor, nn
from transformers import ViTModel
from transformers.utils import logging as transformers_logging

from glad.models import Models
from glad.settings import MethodSettings
from model_store.bundle import CONFIG_NAME, Bundle, ComponentSource
from model_store.manifest import ComponentName, Dtype, Kind
from model_store.shapes import ModelShapes, check_fit

_DTYPES: Mapping[Dtype, torch.dtype] = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
}


class ModelLoadError(Exception):
    """A component of a verified bundle from which this engine can make no model."""


@dataclass(frozen=True)
class TorchAutoencoder:
    """glad.models.Autoencoder on diffusers' AutoencoderKL."""

    module: AutoencoderKL

    @property
    def latent_channels(self) -> int:
        """Channels C of a latent."""
        return int(self.module.config.latent_channels)

    @property
    def factor(self) -> int:
        """Pixels per latent element on a side: each block but the last halves the side."""
        return int(2 ** (len(self.module.config.block_out_channels) - 1))

    @torch.inference_mode()
    def encode(self, images: Tensor) -> Tensor:
        """images: (B, 3, H, W) in [-1, 1] -> (B, C, h, w) float32: (posterior mean - shift) * scaling factor."""
        posterior = self.module.encode(_like(images, self.module), return_dict=False)[0]
        mean: Tensor = posterior.mode().float()
        return ((mean - self._shift) * self._scale).contiguous()

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """latents: (B, C, h, w), scaled -> (B, 3, H, W) float32, about [-1, 1], not clamped."""
        unscaled = latents / self._scale + self._shift
        decoded: Tensor = self.module.decode(_like(unscaled, self.module), return_dict=False)[0]
        return decoded.float().contiguous()

    @property
    def _scale(self) -> float:
        return float(self.module.config.scaling_factor)

    @property
    def _shift(self) -> float:
        return float(self.module.config.shift_factor or 0.0)


@dataclass(frozen=True)
class TorchDenoiser:
    """glad.models.Denoiser on diffusers' unconditional UNet2DModel."""

    module: UNet2DModel

    @torch.inference_mode()
    def __call__(self, latents: Tensor, timesteps: Tensor, conditions: Tensor | None = None) -> Tensor:
        """latents: (B, C, h, w); timesteps: (B,) int64, one per lane -> predicted noise (B, C, h, w), float32.

        ValueError for conditions: this UNet takes none.
        """
        if conditions is not None:
            raise ValueError("this UNet takes no conditions: it was trained without; give None")
        predicted: Tensor = self.module(_like(latents, self.module), timesteps, return_dict=False)[0]
        return predicted.float()


@dataclass(frozen=True)
class TorchFeatures:
    """glad.models.Features on transformers' ViTModel: computes no block beyond the deepest one asked for."""

    module: ViTModel

    @property
    def patch(self) -> int:
        """Pixels per patch on a side."""
        return int(self.module.config.patch_size)

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.module.layers)

    @torch.inference_mode()
    def __call__(self, images: Tensor, layers: Sequence[int]) -> tuple[Tensor, ...]:
        """images: (B, 3, H, W), normalised -> per layer (B, h, w, D) float32: block outputs before the final norm."""
        self._refuse_layers(layers)
        batch, _, height, width = images.shape
        grid = (batch, height // self.patch, width // self.patch, -1)
        hidden = self.module.embeddings(
            _like(images, self.module), interpolate_pos_encoding=(height, width) != self._trained_size
        )
        taps: dict[int, Tensor] = {}
        for number, block in enumerate(self.module.layers[: max(layers)], start=1):
            hidden = block(hidden)
            if number in layers:
                taps[number] = hidden[:, 1:].reshape(grid).float().contiguous()
        return tuple(taps[layer] for layer in layers)

    @property
    def _trained_size(self) -> tuple[int, int]:
        size = self.module.config.image_size
        return (size, size) if isinstance(size, int) else (size[0], size[1])

    def _refuse_layers(self, layers: Sequence[int]) -> None:
        if not layers or any(not 1 <= layer <= self.depth for layer in layers):
            raise ValueError(f"layers are {tuple(layers)}; the features have blocks 1 ... {self.depth}: choose of them")


def load_models(bundle: Bundle, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Models:
    """The bundle's three models on a device, ready to run. Reads only the bundle's folder.

    ModelLoadError if a component is of a kind or shape that this engine cannot load, ModelsDoNotFit if the models fit
    neither each other nor the bundle's settings.
    """
    autoencoder = _load(bundle, "autoencoder", "autoencoder_kl")
    unet = _load(bundle, "unet", "unet2d")
    features = _load(bundle, "features", "vit")
    for module in (autoencoder, unet, features):
        nn.Module.to(module, device=device, dtype=dtype)
        module.requires_grad_(False)
    # A quarter off a decode of 192² by 2 cores; the UNet gained nothing measurable.
    autoencoder.to(memory_format=torch.channels_last)
    return models_from_modules(autoencoder, unet, features, bundle.manifest.settings)


def models_from_modules(
    autoencoder: AutoencoderKL, unet: UNet2DModel, features: ViTModel, settings: MethodSettings
) -> Models:
    """Wraps modules as they are, such as freshly trained ones. ValueError if one is in training mode."""
    modules: dict[str, nn.Module] = {"autoencoder": autoencoder, "unet": unet, "features": features}
    if training := [name for name, module in modules.items() if module.training]:
        raise ValueError(f"{', '.join(training)} in training mode: dropout makes scores random; call .eval() first")
    check_fit(shapes_of(autoencoder, unet, features), settings)
    return Models(TorchAutoencoder(autoencoder), TorchDenoiser(unet), TorchFeatures(features))


def shapes_of(autoencoder: AutoencoderKL, unet: UNet2DModel, features: ViTModel) -> ModelShapes:
    """What the modules expect of each other, from their configurations."""
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
    )


def save_components(
    folder: Path,
    autoencoder: AutoencoderKL,
    unet: UNet2DModel,
    features: ViTModel,
    *,
    licence: str,
    dtype: Dtype = "float16",
) -> dict[ComponentName, ComponentSource]:
    """Saves the modules under `folder` in Hugging Face layout, as sources for `write_bundle`; they stay as they are.

    ValueError if a weight is not finite in `dtype`.
    """
    modules: dict[ComponentName, tuple[Kind, nn.Module]] = {
        "autoencoder": ("autoencoder_kl", autoencoder),
        "unet": ("unet2d", unet),
        "features": ("vit", features),
    }
    return {
        name: ComponentSource(_save(module, folder / name, dtype), kind, dtype, licence)
        for name, (kind, module) in modules.items()
    }


@torch.no_grad()
def round_to_stored_precision(module: nn.Module, dtype: Dtype = "float16") -> None:
    """Rounds every weight in place to what the bundle will hold, so that calibration sees what inference will load.

    ValueError if a weight is not finite in `dtype`.
    """
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(_rounded(name, tensor, dtype))


def component_hashes(bundle: Bundle) -> dict[ComponentName, str]:
    """Content hash per component: equal hashes are equal models, whatever product they serve."""
    return {name: component.content_hash for name, component in bundle.manifest.components.items()}


def _like(tensor: Tensor, module: Any) -> Tensor:
    return tensor.to(device=module.device, dtype=module.dtype)


def _rounded(name: str, tensor: Tensor, dtype: Dtype) -> Tensor:
    rounded = tensor.to(_DTYPES[dtype])
    if not torch.isfinite(rounded).all():
        largest = tensor.abs().max().item()
        limit = torch.finfo(_DTYPES[dtype]).max
        raise ValueError(f"weight {name} reaches {largest:g}; {dtype} holds at most {limit:g}: use bfloat16 or float32")
    return rounded


def _save(module: nn.Module, folder: Path, dtype: Dtype) -> Path:
    state = {
        name: _rounded(name, tensor, dtype).contiguous() if tensor.is_floating_point() else tensor
        for name, tensor in module.state_dict().items()
    }
    # nn.Module.to: diffusers' own warns of modules to keep in float32 even where there are none.
    stored: Any = nn.Module.to(copy.deepcopy(module), dtype=_DTYPES[dtype])
    stored.to(memory_format=torch.contiguous_format)
    stored.load_state_dict(state)
    with _quiet():
        stored.save_pretrained(folder)
    _drop_origin(folder / CONFIG_NAME)
    return folder


def _drop_origin(config: Path) -> None:
    """Removes the folder a model was once loaded from: equal models shall have equal bytes."""
    content = json.loads(config.read_text())
    content.pop("_name_or_path", None)
    config.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


_CLASSES: Mapping[Kind, Any] = {"autoencoder_kl": AutoencoderKL, "unet2d": UNet2DModel, "vit": ViTModel}
_OPTIONS: Mapping[Kind, Mapping[str, Any]] = {
    "autoencoder_kl": {"torch_dtype": torch.float32},
    "unet2d": {"torch_dtype": torch.float32},
    "vit": {"dtype": torch.float32, "add_pooling_layer": False, "attn_implementation": "sdpa"},
}


def _load(bundle: Bundle, name: ComponentName, kind: Kind) -> Any:
    folder, found = bundle.component(name), bundle.manifest.components[name].kind
    if found != kind:
        raise ModelLoadError(f"{folder}: component is of kind {found!r}; this engine loads {kind!r}: export it as that")
    try:
        with _quiet():
            module, info = _CLASSES[kind].from_pretrained(
                folder, local_files_only=True, use_safetensors=True, output_loading_info=True, **_OPTIONS[kind]
            )
    except Exception as error:  # the libraries raise whatever a wrong configuration happens to break
        raise ModelLoadError(f"{folder}: {kind} does not load: {error}. Save it again with save_components") from error
    # Left alone, a missing weight would stay random and an unexpected one be ignored, both silently.
    if wrong := {problem: sorted(map(str, names)) for problem, names in info.items() if names}:
        raise ModelLoadError(f"{folder}: weights and configuration differ: {wrong}. Save both together")
    return module.eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars: a worker's log is not a terminal."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
