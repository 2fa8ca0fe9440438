"""A tiny bundle of each form that holds its ONNX export, and images of their part."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.support.export_cache import exports_cached
from tests.support.feature_bundle import train_tiny_feature_bundle
from tests.support.tiny_bundle import make_tiny_bundle
from tests.support.tiny_recipe import draw_parts
from training.export.make import BundleExportPlan, make_export
from training.progress import silent


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _cached_exports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with exports_cached(tmp_path_factory.getbasetemp()):
        yield


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled images; read only."""
    return draw_parts(tmp_path_factory.mktemp("data") / "parts")


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, parts: Path) -> Path:
    """The bundle; read only. Some images fail and some do not."""
    store = tmp_path_factory.mktemp("store")
    return _exported(make_tiny_bundle(store), parts, store / "report")


@pytest.fixture(scope="session")
def exported_features(tmp_path_factory: pytest.TempPathFactory, parts: Path) -> Path:
    """The bundle of the feature form; read only."""
    store = tmp_path_factory.mktemp("features")
    return _exported(train_tiny_feature_bundle(store, parts).path, parts, store / "report")


def _exported(bundle: Path, parts: Path, report: Path) -> Path:
    plan = BundleExportPlan(("float32",), images=2)
    made = make_export(bundle, parts, report, plan, command="glad export", progress=silent, say=lambda text: None)
    assert made.folder is not None, made.problems
    return bundle
