"""A bundle's modules and condition out of its folder, and a condition into one. A bundle never downloads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from glad.protocols import Condition
from model_store.bundle import Bundle, ComponentSource
from model_store.errors import ModelLoadError
from model_store.manifest import CONFIG_NAME, WEIGHTS_NAME, ComponentName
from model_store.networks.loading import load_network
from model_store.pretrained import load_pretrained


def load_module(bundle: Bundle, name: ComponentName, dtype: torch.dtype) -> Any:
    """Return a component's module, in evaluation mode. Reads only the bundle's folder.

    Raises:
        HashMismatch: if a file is not what the manifest says any more.
        ModelLoadError: as `load_pretrained`.
    """
    kind = bundle.manifest.components[name].kind
    with bundle.verified(name) as folder:
        # Only the decoder of a small autoencoder is rebuilt without diffusers; the pixel form needs both halves.
        network = None if name == "autoencoder" else load_network(kind, folder, dtype)
        return load_pretrained(kind, folder, dtype) if network is None else network


def load_condition(folder: Path, device: str | torch.device = "cpu") -> Condition:
    """Return the embedded prompts of a bundle, float32 on a device.

    Raises:
        ModelLoadError: if they are not two of one shape (L, D).
    """
    path = folder / WEIGHTS_NAME["text_condition"]
    try:
        tensors = load_file(path, device=str(device))
    except (OSError, SafetensorError) as error:
        raise ModelLoadError(f"{path}: the condition does not load: {error}. Import the bundle again") from error
    shapes = {name: tuple(tensor.shape) for name, tensor in sorted(tensors.items())}
    if list(shapes) != ["empty", "product"] or len(set(shapes.values())) != 1 or len(shapes["empty"]) != 2:
        raise ModelLoadError(
            f"{path}: tensors are {shapes}; a condition is 'product' and 'empty' of one shape (L, D): import it again"
        )
    return Condition(tensors["product"].float(), tensors["empty"].float())


def save_condition(condition: Condition, folder: Path, about: Mapping[str, Any], *, licence: str) -> ComponentSource:
    """Save embedded prompts as float32, which costs half a megabyte; return them as a source for `write_bundle`.

    Args:
        condition: the prompts.
        folder: a new one.
        about: prompt, tokenizer and text encoder, for the configuration.
        licence: of the text encoder.
    """
    folder.mkdir(parents=True)
    tensors = {"product": condition.product, "empty": condition.empty}
    stored = {name: tensor.detach().cpu().float().contiguous() for name, tensor in tensors.items()}
    save_file(stored, folder / WEIGHTS_NAME["text_condition"], metadata={"format": "pt"})
    tokens, width = condition.product.shape
    config = {**about, "tokens": tokens, "width": width}
    (folder / CONFIG_NAME).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    return ComponentSource(folder, "text_condition", "float32", licence)
