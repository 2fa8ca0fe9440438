"""The API and the store run where torch is not installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "modules",
    [
        "model_store.manifest",
        "model_store.store, model_store.product_state, model_store.bundle, model_store.compatibility",
        "model_store.engines",
        "model_store.cli.bundle",
        "model_store.cli.common",
        "glad_inspect.cli",
    ],
)
def test_the_store_imports_neither_torch_nor_its_libraries(modules: str) -> None:
    heavy = "{'torch', 'diffusers', 'transformers', 'safetensors', 'numpy'}"
    code = f"import sys, {modules}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
