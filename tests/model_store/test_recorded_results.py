"""Results of the pixel form stay what they were when the form was the only one, whatever moves around it.

    python -m tests.model_store.test_recorded_results      prints recorded_results.json

It was recorded at commit ef76d0e. Numbers, and not digests of them: the last bits belong to the CPU's kernels.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glad.image_codec import Pixels
from model_store.bundle import open_bundle
from model_store.engines.engine_spec import EngineSpec
from model_store.engines.loading import load
from model_store.inspection import InspectedImage, inspect
from tests.support.tiny_bundle import make_tiny_bundle

RECORDED = Path(__file__).with_name("recorded_results.json")
EVERY = 16
"""Pixels between the values of a map or a picture that are kept."""
SCORE = {
    "layers": (1, 2),
    "smoothing": {"value": 1},
    "taps": {"value": 5},
    "top": {"value": 0.01, "unit": "area"},
    "pixel_weight": 2.0,
    "foreground": "dark",
    "direction": "mean",
    "resolution": 32,
}
CORNER = {"ignore": [{"points": [(0.5, 0.5), (1, 0.5), (1, 1), (0.5, 1)]}]}
CASES: dict[str, dict[str, Any]] = {
    "letterbox": {"trigger": {"delta": 0.3}},
    "tiles, another layer for the trigger": {
        "framing": {"kind": "tiles", "side": 64, "overlap": 16},
        "trigger": {"delta": 0.1, "layer": 1},
        "steps": 8,
    },
    "a prompt, guided": {"prompt": 1, "guidance": 3.0},
    "every term of the score, half the side": {"score": SCORE, "zones": CORNER},
    "no adaptation": {"trigger": {"delta": 0.0}, "framing": {"kind": "stretch"}},
}
SIZES = ((64, 96), (110, 150))


def picture(number: int, height: int, width: int) -> Pixels:
    """Squares of 8 pixels in colours of their own."""
    colours = np.random.default_rng(number).integers(0, 256, (-(-height // 8), -(-width // 8), 3), dtype=np.uint8)
    return np.ascontiguousarray(colours.repeat(8, 0).repeat(8, 1)[:height, :width])


def inspected(case: str, folder: Path) -> list[InspectedImage]:
    bundle = open_bundle(make_tiny_bundle(folder, **CASES[case]))
    images = [picture(number, *size) for number, size in enumerate(SIZES)]
    return inspect(images, load(bundle, spec=EngineSpec("torch")).models, bundle.manifest.settings)


def summary(one: InspectedImage) -> dict[str, Any]:
    trigger = one.lane.trigger
    return {
        "score": one.score,
        "trigger": None if trigger is None else [trigger.step, trigger.reason.value],
        "calls": [one.lane.comparisons, one.lane.unet_evaluations],
        "map": one.map[::EVERY, ::EVERY].round(6).tolist(),
        "reconstruction": one.reconstruction[::EVERY, ::EVERY].tolist(),
    }


@pytest.mark.parametrize("case", CASES)
def test_an_image_gets_the_recorded_result(case: str, tmp_path: Path) -> None:
    recorded = json.loads(RECORDED.read_text())[case]
    for one, expected in zip(inspected(case, tmp_path), recorded, strict=True):
        found = summary(one)
        assert found["score"] == pytest.approx(expected["score"], rel=1e-4)
        assert (found["trigger"], found["calls"]) == (expected["trigger"], expected["calls"])
        np.testing.assert_allclose(found["map"], expected["map"], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(found["reconstruction"], expected["reconstruction"], atol=1)


if __name__ == "__main__":
    found = {}
    for name in CASES:
        with tempfile.TemporaryDirectory() as scratch:
            found[name] = [summary(one) for one in inspected(name, Path(scratch))]
    print(json.dumps(found))
