"""Exports of equal models are made once a session, and so is a bundle of the feature form, beside its images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from model_store.bundle import Bundle
from tests.support.export_cache import exports_cached
from tests.support.feature_bundle import train_tiny_feature_bundle
from tests.support.tiny_recipe import draw_parts


@pytest.fixture(scope="session", autouse=True)
def _cached_exports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with exports_cached(tmp_path_factory.getbasetemp()):
        yield


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled images; read only."""
    return draw_parts(tmp_path_factory.mktemp("data") / "parts")


@pytest.fixture(scope="session")
def feature_bundle(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Bundle:
    """A bundle of the feature form, without an export; tests that change something copy it."""
    return train_tiny_feature_bundle(tmp_path_factory.mktemp("features"), data)
