"""Label Studio's own package, which is heavy and in no extra: `make labelstudio` installs it apart."""

from __future__ import annotations

from pathlib import Path

import pytest

PYTHON = Path(__file__).resolve().parents[2] / "build" / "label-studio" / "bin" / "python"


def label_studio_python() -> Path:
    """Return a Python that has it; the test is skipped where it is missing."""
    if not PYTHON.exists():
        pytest.skip("Label Studio's package is not installed here: `make labelstudio`")
    return PYTHON
