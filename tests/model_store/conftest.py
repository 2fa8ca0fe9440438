"""A published tiny bundle, copies of it to spoil, and an ear for calls into the network."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


_LISTENING: list[list[str]] = []
_HOOKED: list[Any] = []


def _audit(event: str, _: tuple[Any, ...]) -> None:
    if event in {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname"}:
        for heard in _LISTENING:
            heard.append(event)


@pytest.fixture
def network_calls() -> Iterator[list[str]]:
    """Every attempt of this process to reach the network, while the test runs."""
    if _audit not in _HOOKED:
        sys.addaudithook(_audit)
        _HOOKED.append(_audit)
    heard: list[str] = []
    _LISTENING.append(heard)
    yield heard
    _LISTENING.remove(heard)
