"""Exports of equal models are made once a session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.export_cache import exports_cached


@pytest.fixture(scope="session", autouse=True)
def _cached_exports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with exports_cached(tmp_path_factory.getbasetemp()):
        yield
