"""The renderer is frozen: what it draws today is what it drew before the first model was trained (decision 0001).

The fingerprints were written by `python -m tests.training.sample_product.test_sample_product_frozen` at
RENDERER_VERSION 1.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.sample_product import DEFECTS, RENDERER_VERSION, SEVERITIES, render

FROZEN = Path(__file__).with_name("sample_product_frozen.json")
SEED = 20261123
CASES: list[tuple[str | None, int | None]] = [(None, None), *((d, s) for d in DEFECTS for s in SEVERITIES)]


def fingerprint(defect: str | None, severity: int | None) -> dict[str, Any]:
    """Mean grey levels of 16 x 16 blocks per channel, rounded to 0.01, and the mask's area in pixels."""
    sample = render(SEED, defect, severity)
    blocks = sample.image.reshape(16, 32, 16, 32, 3).mean(axis=(1, 3))
    return {"blocks": np.round(blocks, 2).tolist(), "mask_px": int(sample.mask.sum())}


def key(defect: str | None, severity: int | None) -> str:
    """The name of a case in the file."""
    return f"{defect or 'good'}-{severity or 0}"


@pytest.mark.parametrize(("defect", "severity"), CASES)
def test_the_renderer_draws_what_it_drew_at_the_freeze(defect: str | None, severity: int | None) -> None:
    frozen = json.loads(FROZEN.read_text(encoding="utf-8"))
    assert frozen["version"] == RENDERER_VERSION
    expected, found = frozen["cases"][key(defect, severity)], fingerprint(defect, severity)
    np.testing.assert_allclose(found["blocks"], expected["blocks"], atol=1.0)
    assert found["mask_px"] == pytest.approx(expected["mask_px"], rel=0.02)


if __name__ == "__main__":
    cases = {key(d, s): fingerprint(d, s) for d, s in CASES}
    FROZEN.write_text(json.dumps({"version": RENDERER_VERSION, "seed": SEED, "cases": cases}) + "\n", encoding="utf-8")
