"""Modules of diffusers and transformers to and from folders in Hugging Face layout. Safetensors only.

Weights lie as float16 on disk and are computed in float32, or what the caller asks for.
"""

from __future__ import annotations

import copy
import importlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model_store.bundle import ComponentSource
from model_store.errors import ModelLoadError
from model_store.manifest import CONFIG_NAME, Dtype, Kind

DTYPES: Mapping[Dtype, torch.dtype] = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
}

_CLASSES: Mapping[Kind, tuple[str, str]] = {
    "autoencoder_kl": ("diffusers", "AutoencoderKL"),
    "autoencoder_tiny": ("diffusers", "AutoencoderTiny"),
    "unet2d": ("diffusers", "UNet2DModel"),
    "unet2d_condition": ("diffusers", "UNet2DConditionModel"),
    "vit": ("transformers", "ViTModel"),
    "dinov2": ("transformers", "Dinov2Model"),
    "dinov2_with_registers": ("transformers", "Dinov2WithRegistersModel"),
}
"""Library and class. The libraries take seconds to import, and a worker of the feature form needs neither."""


def load_pretrained(
    kind: Kind, place: Path | str, dtype: torch.dtype, *, local: bool = True, ignored: str = "", **where: Any
) -> Any:
    """Return a module from a folder, or, if not `local`, from a hub id, in evaluation mode.

    Args:
        kind: of the model.
        place: folder or hub id.
        dtype: in which the module computes.
        local: nothing is downloaded.
        ignored: prefix of weights that may lie there and are not used.
        **where: further arguments of `from_pretrained`, such as `subfolder`.

    Raises:
        ModelLoadError: if any other weight is missing or left over, or if there is no safetensors file.
    """
    named = "/".join([str(place), *filter(None, [where.get("subfolder")])])
    library, name = _CLASSES[kind]
    try:
        with quiet():
            module, info = getattr(importlib.import_module(library), name).from_pretrained(
                place,
                local_files_only=local,
                use_safetensors=True,
                output_loading_info=True,
                **_options(kind, dtype),
                **where,
            )
    except Exception as error:  # the libraries raise whatever a wrong configuration happens to break
        raise ModelLoadError(f"{named}: {kind} does not load: {error}. Save it again with save_components") from error
    # Left alone, a missing weight would stay random and an unexpected one be ignored, both silently.
    keys = {problem: sorted(map(str, names)) for problem, names in info.items()}
    if ignored:
        keys["unexpected_keys"] = [key for key in keys["unexpected_keys"] if not key.startswith(ignored)]
    if wrong := {problem: names for problem, names in keys.items() if names}:
        raise ModelLoadError(f"{named}: weights and configuration differ: {wrong}. Save both together")
    return module.eval()


def save_module(module: nn.Module, folder: Path, kind: Kind, dtype: Dtype, *, licence: str) -> ComponentSource:
    """Save a module in Hugging Face layout, and return it as a source for `write_bundle`; it stays as it is.

    Raises:
        ValueError: if a weight is not finite in `dtype`.
    """
    return ComponentSource(_save(module, folder, dtype), kind, dtype, licence)


@torch.no_grad()
def round_to_stored_precision(module: nn.Module, dtype: Dtype = "float16") -> None:
    """Round every weight in place to the bundle's precision, so that calibration sees what inference will load.

    Raises:
        ValueError: if a weight is not finite in `dtype`.
    """
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(_rounded(name, tensor, dtype))


def _rounded(name: str, tensor: Tensor, dtype: Dtype) -> Tensor:
    rounded = tensor.to(DTYPES[dtype])
    if not torch.isfinite(rounded).all():
        largest = tensor.abs().max().item()
        limit = torch.finfo(DTYPES[dtype]).max
        raise ValueError(f"weight {name} reaches {largest:g}; {dtype} holds at most {limit:g}: use bfloat16 or float32")
    return rounded


def _save(module: nn.Module, folder: Path, dtype: Dtype) -> Path:
    state = {
        name: _rounded(name, tensor, dtype).contiguous() if tensor.is_floating_point() else tensor
        for name, tensor in module.state_dict().items()
    }
    # nn.Module.to: diffusers' own warns of modules to keep in float32 even where there are none.
    stored: Any = nn.Module.to(copy.deepcopy(module), dtype=DTYPES[dtype])
    stored.to(memory_format=torch.contiguous_format)
    stored.load_state_dict(state)
    with quiet():
        stored.save_pretrained(folder)
    _drop_origin(folder / CONFIG_NAME)
    return folder


def _drop_origin(config: Path) -> None:
    """Remove the name of the folder that a model was once loaded from: equal models must have equal bytes."""
    content = json.loads(config.read_text())
    content.pop("_name_or_path", None)
    if content.get("_class_name") == "AutoencoderTiny":
        content.pop("block_out_channels", None)  # it writes this, and warns of it when it reads it
    config.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def _options(kind: Kind, dtype: torch.dtype) -> Mapping[str, Any]:
    if kind not in {"vit", "dinov2", "dinov2_with_registers"}:
        return {"torch_dtype": dtype}
    # Shapes that differ are refused by load_pretrained, which names them; transformers would only point to its log.
    options = {"dtype": dtype, "attn_implementation": "sdpa", "ignore_mismatched_sizes": True}
    return {**options, "add_pooling_layer": False} if kind == "vit" else options


@contextmanager
def quiet() -> Iterator[None]:
    """Hide the progress bars of transformers: a worker's log is not a terminal."""
    from transformers.utils import logging as transformers_logging

    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
