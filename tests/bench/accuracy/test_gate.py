"""`glad bench gate`: what is put before the gate, and what is stopped_images of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.accuracy.gate import spoiled, stopped_images
from bench.accuracy.spoiled import SPOILINGS
from glad.image_codec import to_png
from glad.quality_gate.limits import QualityCheck
from glad.quality_gate.measure import measure_quality
from glad.settings.method import MethodSettings
from tests.support.gates import SIDE, a_gate, a_part

SETTINGS = MethodSettings.model_validate({"resolution": SIDE, "trigger": {"delta": 0.3}})
NAMES = [spoiling.name for spoiling in SPOILINGS]


def test_the_first_spoiling_leaves_an_image_alone_and_each_is_the_same_again(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(to_png(a_part()))
    assert (spoiled(tmp_path / "a.png", 0) == a_part()).all()
    noise = NAMES.index("noise of 8 grey levels")
    once, again = spoiled(tmp_path / "a.png", noise), spoiled(tmp_path / "a.png", noise)
    assert (once == again).all()
    assert np.std(once.astype(float) - a_part()) > 5


def test_what_is_stopped_is_counted_by_its_first_reason() -> None:
    measured = [measure_quality(pixels, SETTINGS) for pixels in (a_part(), a_part(level=30), a_part(level=200))]
    found = stopped_images(a_gate(), "parts", QualityCheck.TOO_DARK, measured)
    assert (found.images, found.stopped, found.reasons) == (3, 2, {"too_dark": 1, "too_bright": 1})
