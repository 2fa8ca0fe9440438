"""Tiny random vision transformers in each layout of transformers that a backbone can have."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    ViTConfig,
    ViTModel,
)

TINY: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
    "initializer_range": 0.2,
}
"""Three blocks of width 16 on 4 x 4 patches, with weights large enough for the picture to matter."""
MODELS: dict[str, tuple[Any, Any]] = {
    "vit": (ViTConfig, ViTModel),
    "dinov2": (Dinov2Config, Dinov2Model),
    "dinov2_with_registers": (Dinov2WithRegistersConfig, Dinov2WithRegistersModel),
}


def tiny_vit(kind: str, **config: Any) -> Any:
    """A model of `TINY`, with other values of its configuration; always the same one."""
    configure, make = MODELS[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return make(configure(**{**TINY, **config})).eval()
