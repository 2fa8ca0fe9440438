"""A network out of a component's folder, where this package can build it."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from model_store.errors import ModelLoadError
from model_store.manifest import CONFIG_NAME, WEIGHTS_NAME, Kind
from model_store.networks.tiny_decoder import TinyDecoder, tiny_decoder_config
from model_store.networks.unet2d import UNet2D, unet2d_config


def load_network(kind: Kind, folder: Path, dtype: torch.dtype) -> nn.Module | None:
    """Return a component's network, in evaluation mode; None: of a kind or configuration that is left to diffusers.

    Args:
        kind: of the component.
        folder: in diffusers' layout.
        dtype: in which the network computes.

    Raises:
        ModelLoadError: if the weights cannot be read, or are not those of the configuration.
    """
    if kind not in {"unet2d", "autoencoder_tiny"}:
        return None
    try:
        content = json.loads((folder / CONFIG_NAME).read_bytes())
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{folder / CONFIG_NAME} cannot be read: {error}. Publish the bundle again") from error
    if (network := _network(content)) is None:
        return None
    path = folder / WEIGHTS_NAME[kind]
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelLoadError(f"{path} does not load: {error}. Publish the bundle again") from error
    _fill(network, weights, path, dtype)
    return network.eval()


def _network(content: object) -> UNet2D | TinyDecoder | None:
    """Return a network without weights, which nothing draws at random before they come."""
    if not isinstance(content, dict):
        return None
    with torch.device("meta"):
        if (unet := unet2d_config(content)) is not None:
            return UNet2D(unet)
        if (decoder := tiny_decoder_config(content)) is not None:
            return TinyDecoder(decoder)
    return None


def _fill(network: UNet2D | TinyDecoder, weights: dict[str, torch.Tensor], path: Path, dtype: torch.dtype) -> None:
    used = {name: value.to(dtype) for name, value in weights.items() if not name.startswith(network.unused)}
    needed = network.state_dict()
    wrong = {
        "missing": sorted(needed.keys() - used.keys()),
        "left over": sorted(used.keys() - needed.keys()),
        "of another shape": sorted(
            name for name in needed.keys() & used.keys() if needed[name].shape != used[name].shape
        ),
    }
    if found := [f"{len(names)} {problem}, such as {names[0]}" for problem, names in wrong.items() if names]:
        raise ModelLoadError(f"{path}: weights and configuration differ: {'; '.join(found)}. Save both together")
    network.load_state_dict(used, assign=True)
