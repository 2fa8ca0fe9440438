"""The feature form of a bundle: to and from its components, on PyTorch. Reads only the bundle's folder.

component   what it is                                                       kind
backbone    frozen, pretrained                                               efficientnet_lite, dinov2 …
embedding   how its levels become a latent                                   latent_space
unet        the denoiser's network                                           unet2d
memory      patches of good parts, and the comparator that weighs evidence   patch_memory
decoder     latents to pictures, for people alone                            autoencoder_tiny
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.nn.functional as F
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from glad.feature_form import FeatureModels, LatentSpace, Witnesses
from glad.memory_bank import MemoryBank
from glad.protocols import Backbone
from glad.residual_comparator import ResidualComparator
from glad.settings import Frozen
from glad.settings.embedding import EmbeddingSettings
from glad.settings.method import ComparatorKind, MethodSettings
from model_store.backbones.base import FrozenBackbone
from model_store.backbones.loading import load_backbone_component, save_backbone
from model_store.bundle import Bundle, ComponentSource
from model_store.compatibility import ModelsDoNotFit
from model_store.engines.torch_io import load_module
from model_store.engines.torch_modules import TorchDenoiser
from model_store.errors import ModelLoadError
from model_store.manifest import CONFIG_NAME, WEIGHTS_NAME, ComponentName, Dtype, Kind
from model_store.pretrained import save_module

if TYPE_CHECKING:
    from diffusers import AutoencoderTiny, UNet2DModel

    from model_store.networks.tiny_decoder import TinyDecoder
    from model_store.networks.unet2d import UNet2D

Config = TypeVar("Config", bound=Frozen)


class LatentSpaceConfig(Frozen):
    """`config.json` of the component `embedding`."""

    model_type: str = "latent_space"
    settings: EmbeddingSettings
    scales: tuple[float, ...] = Field(description="of each level")
    modelled: int = Field(ge=1, description="of the latent's channels, the first so many that the UNet sees")


class PatchMemoryConfig(Frozen):
    """`config.json` of the component `memory`."""

    model_type: str = "patch_memory"
    memory_window: int = Field(ge=1, description="side of the window over which differences are averaged, in places")
    reconstruction_window: int = Field(ge=1, description="the same for the differences from the reconstruction")
    one_call_window: int | None = Field(
        None, ge=1, description="the same for what a single call rebuilds; None: first readings ask the memory alone"
    )
    searched: int | None = Field(None, ge=1, description="of the channels, by which the nearest patch is looked for")


@dataclass(frozen=True)
class TorchPictureDecoder:
    """glad.protocols.LatentDecoder on diffusers' AutoencoderTiny, whose encoder is not used.

    It draws at a lower resolution than the image's, which is enough for what features know of it, and enlarges that.
    """

    module: AutoencoderTiny | TinyDecoder
    factor: int
    """Pixels per latent element on a side."""

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Return the images (B, 3, H, W) float32, about [-1, 1], not clamped, of latents (B, C, h, w)."""
        return self.compute(latents.to(self.module.dtype)).float()

    def compute(self, latents: Tensor) -> Tensor:
        """Return the same of latents in the module's type, differentiable: what training and export use."""
        drawn: Tensor = self.module.decode(latents / self.module.config.scaling_factor, return_dict=False)[0]
        size = (latents.shape[2] * self.factor, latents.shape[3] * self.factor)
        return drawn if drawn.shape[2:] == size else F.interpolate(drawn, size, mode="bilinear", align_corners=False)


@dataclass(frozen=True, eq=False)
class FeatureModules:
    """What a training of the feature form has made, in evaluation mode."""

    backbone: FrozenBackbone
    unet: UNet2DModel | UNet2D
    decoder: AutoencoderTiny | TinyDecoder
    space: LatentSpace
    witnesses: Witnesses

    def models(self, settings: MethodSettings) -> FeatureModels:
        """Return the models on these modules.

        Raises:
            ModelsDoNotFit: if they fit neither each other nor the settings.
        """
        check_feature_fit(self, settings)
        return FeatureModels(
            self.backbone,
            TorchDenoiser(self.unet),
            TorchPictureDecoder(self.decoder, self.space.settings.stride),
            self.space,
            self.witnesses,
            settings.schedule,
            fold_of(self.unet, self.space.modelled),
        )


def fold_of(unet: UNet2DModel | UNet2D, channels: int) -> int:
    """Return k, if the UNet takes k × k places of a latent with these channels as one; 0 if it takes no such latent."""
    fold = isqrt(unet.config.in_channels // channels)
    return fold if fold * fold * channels == unet.config.in_channels == unet.config.out_channels else 0


def check_feature_fit(modules: FeatureModules, settings: MethodSettings) -> None:
    """Check that modules and settings fit.

    Raises:
        ModelsDoNotFit: if they do not; the message names everything that does not fit.
    """
    if problems := list(_problems(modules, settings)):
        raise ModelsDoNotFit("models and settings do not fit:\n" + "\n".join(f"- {problem}" for problem in problems))


def _problems(modules: FeatureModules, settings: MethodSettings) -> Iterator[str]:
    space, unet = modules.space, modules.unet
    yield from _space_problems(space, modules.backbone)
    channels, modelled = space.channels, space.modelled
    fold = fold_of(unet, modelled)
    if not fold:
        yield (
            f"unet has {unet.config.in_channels} input and {unet.config.out_channels} output channels; it is to model "
            f"{modelled}: both must be {modelled} times a square, such as {4 * modelled} for 2 × 2 places as one"
        )
    unit = space.settings.stride * max(1, fold) * 2 ** (len(unet.config.block_out_channels) - 1)
    if settings.resolution % unit:
        lower = settings.resolution // unit * unit
        yield (
            f"resolution is {settings.resolution} px; it must be a multiple of {unit} (the grid's stride times what "
            f"the UNet folds and halves): use {f'{lower} or {lower + unit}' if lower else unit}"
        )
    if modules.decoder.config.latent_channels != channels:
        yield f"decoder takes {modules.decoder.config.latent_channels} channels; latents have {channels}"
    yield from _witness_problems(modules.witnesses, space)
    if settings.trigger.comparator is not ComparatorKind.LATENTS:
        yield (
            f"trigger.comparator is {settings.trigger.comparator}; latents of features are compared as they are: set "
            f"it to {ComparatorKind.LATENTS}"
        )
    if settings.guidance != 1:
        yield f"guidance is {settings.guidance}; the unet takes no prompt to guide by: set guidance to 1"


def _space_problems(space: LatentSpace, backbone: Backbone) -> Iterator[str]:
    levels = space.settings.levels
    if levels[-1] > backbone.levels:
        yield f"embedding.levels names level {levels[-1]}; the backbone has {backbone.levels}: use 1 ... its last"
        return
    channels = sum(backbone.channels(level) for level in levels)
    if channels != len(space.directions):
        yield f"embedding projects {len(space.directions)} channels; the backbone's levels {levels} have {channels}"
    if space.modelled > space.channels:
        yield f"embedding.modelled is {space.modelled}; latents have {space.channels} channels: use at most as many"


def _witness_problems(witnesses: Witnesses, space: LatentSpace) -> Iterator[str]:
    for name, found, needed in (
        ("memory's patches", witnesses.memory.patches.shape[1], space.channels),
        ("memory's comparator", len(witnesses.from_memory.weights), space.channels),
        ("the reconstruction's comparator", witnesses.modelled, space.modelled),
        ("the single call's comparator", _channels(witnesses.from_one_call, space.modelled), space.modelled),
    ):
        if found != needed:
            yield f"{name} has {found} channels; it needs {needed}, as the embedding has them"


def _channels(comparator: ResidualComparator | None, absent: int) -> int:
    return absent if comparator is None else len(comparator.weights)


def save_feature_components(
    folder: Path, modules: FeatureModules, *, licence: str, backbone_licence: str
) -> dict[ComponentName, ComponentSource]:
    """Save the modules under `folder`, and return them as sources for `write_bundle`; they stay as they are.

    Args:
        folder: a new one.
        modules: rounded to float16, where the bundle is to answer to the bit as they do.
        licence: of what was trained.
        backbone_licence: of the backbone's weights.

    Raises:
        ValueError: if a weight is not finite in float16.
    """
    space, one_call = modules.space, modules.witnesses.from_one_call
    return {
        "backbone": save_backbone(
            modules.backbone, folder / "backbone", licence=backbone_licence, up_to=space.settings.levels[-1]
        ),
        "embedding": _save_tensors(
            folder / "embedding",
            "latent_space",
            LatentSpaceConfig(settings=space.settings, scales=space.scales, modelled=space.modelled),
            {"mean": space.mean, "directions": space.directions, "variances": space.variances},
            licence,
        ),
        "unet": save_module(modules.unet, folder / "unet", "unet2d", "float16", licence=licence),
        "memory": _save_tensors(
            folder / "memory",
            "patch_memory",
            PatchMemoryConfig(
                memory_window=modules.witnesses.from_memory.window,
                reconstruction_window=modules.witnesses.from_reconstruction.window,
                one_call_window=None if one_call is None else one_call.window,
                searched=modules.witnesses.memory.searched,
            ),
            {
                "patches": modules.witnesses.memory.patches,
                "memory_weights": _half(modules.witnesses.from_memory.weights),
                "reconstruction_weights": _half(modules.witnesses.from_reconstruction.weights),
                **({} if one_call is None else {"one_call_weights": _half(one_call.weights)}),
            },
            licence,
        ),
        "decoder": save_module(modules.decoder, folder / "decoder", "autoencoder_tiny", "float16", licence=licence),
    }


def load_feature_models(
    bundle: Bundle, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> FeatureModels:
    """Return the models of a bundle of the feature form on a device, ready to run.

    Raises:
        ModelLoadError: if a component does not load.
        ModelsDoNotFit: if the models fit neither each other nor the bundle's settings.
    """
    backbone = load_backbone_component(bundle, device, dtype)
    unet, decoder = load_module(bundle, "unet", dtype), load_module(bundle, "decoder", dtype)
    for module in (unet, decoder):
        nn.Module.to(module, device=device)
        module.requires_grad_(False)
    space = _load_space(bundle, device)
    witnesses = _load_witnesses(bundle, device)
    modules = FeatureModules(backbone, unet, decoder, space, witnesses)
    return modules.models(bundle.manifest.settings)


def feature_models_around(
    networks: Mapping[str, Any], bundle: Bundle, device: str | torch.device = "cpu", *, fold: int
) -> FeatureModels:
    """Return models of networks that another engine runs, and of what the bundle holds beside its networks.

    Args:
        networks: backbone, unet and decoder.
        fold: k of `glad.feature_form.PreconditionedDenoiser`.

    Raises:
        ModelLoadError: if a component does not load.
    """
    return FeatureModels(
        networks["backbone"],
        networks["unet"],
        networks["decoder"],
        _load_space(bundle, device),
        _load_witnesses(bundle, device),
        bundle.manifest.settings.schedule,
        fold,
    )


def _load_space(bundle: Bundle, device: str | torch.device) -> LatentSpace:
    folder = bundle.component("embedding")
    with bundle.verified("embedding") as copied:
        config = _config(copied, LatentSpaceConfig)
        tensors = _tensors(copied, "latent_space", {"mean": 1, "directions": 2, "variances": 1}, device)
    mean, directions, variances = (tensors[name].float() for name in ("mean", "directions", "variances"))
    if directions.shape != (len(mean), len(variances)):
        raise ModelLoadError(
            f"{folder}: directions are {tuple(directions.shape)}, mean {tuple(mean.shape)} and variances "
            f"{tuple(variances.shape)}; they must be (D, C), (D,) and (C,): publish the bundle again"
        )
    try:
        return LatentSpace(config.settings, config.scales, mean, directions, variances, config.modelled)
    except ValueError as error:
        raise ModelLoadError(f"{folder}: {error}") from error


def _load_witnesses(bundle: Bundle, device: str | torch.device) -> Witnesses:
    folder = bundle.component("memory")
    with bundle.verified("memory") as copied:
        config = _config(copied, PatchMemoryConfig)
        needed = {"patches": 2, "memory_weights": 2, "reconstruction_weights": 2}
        if config.one_call_window is not None:
            needed["one_call_weights"] = 2
        tensors = _tensors(copied, "patch_memory", needed, device)
    try:
        memory = MemoryBank(tensors["patches"], searched=config.searched)
    except ValueError as error:
        raise ModelLoadError(f"{folder}: {error}") from error
    return Witnesses(
        memory,
        ResidualComparator(tensors["memory_weights"].float(), config.memory_window),
        ResidualComparator(tensors["reconstruction_weights"].float(), config.reconstruction_window),
        None
        if config.one_call_window is None
        else ResidualComparator(tensors["one_call_weights"].float(), config.one_call_window),
    )


def _half(weights: Tensor) -> Tensor:
    stored = weights.half()
    if not torch.isfinite(stored).all():
        raise ValueError(
            f"a weight of the comparator reaches {float(weights.abs().max()):g}; float16 holds at most 65504"
        )
    return stored


def _save_tensors(
    folder: Path, kind: Kind, config: Frozen, tensors: Mapping[str, Tensor], licence: str
) -> ComponentSource:
    folder.mkdir(parents=True)
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(stored, folder / WEIGHTS_NAME[kind], metadata={"format": "pt"})
    content = json.dumps(config.model_dump(mode="json"), indent=2, sort_keys=True)
    (folder / CONFIG_NAME).write_text(content + "\n", encoding="utf-8")
    dtype: Dtype = "float16" if any(tensor.dtype == torch.float16 for tensor in stored.values()) else "float32"
    return ComponentSource(folder, kind, dtype, licence)


def _config(folder: Path, kind: type[Config]) -> Config:
    path = folder / CONFIG_NAME
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ModelLoadError(f"{path} cannot be used: {error}. Publish the bundle again") from error


def _tensors(folder: Path, kind: Kind, dimensions: Mapping[str, int], device: Any) -> dict[str, Tensor]:
    path = folder / WEIGHTS_NAME[kind]
    try:
        tensors = load_file(path, device=str(device))
    except (OSError, SafetensorError) as error:
        raise ModelLoadError(f"{path} does not load: {error}. Publish the bundle again") from error
    found = {name: tensor.ndim for name, tensor in tensors.items()}
    if found != dict(dimensions):
        raise ModelLoadError(f"{path} has tensors of dimensions {found}; it needs {dict(dimensions)}")
    if unfit := [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]:
        raise ModelLoadError(f"{path}: {', '.join(unfit)} holds numbers that are not finite: publish the bundle again")
    return tensors
