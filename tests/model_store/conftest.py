"""A published tiny bundle, and copies of it to spoil."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.tiny_bundle import make_tiny_bundle


@pytest.fixture(scope="session")
def sound_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that no test may change."""
    return make_tiny_bundle(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def bundle_folder(sound_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the sound bundle for one test, at `store/toy/1`."""
    return shutil.copytree(sound_bundle, tmp_path / "store" / "toy" / "1")
