"""Tiny models on a machine that others use."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Of a toy's model calls the threads' waiting for each other takes most: where all cores are busy, minutes."""
    torch.set_num_threads(1)
