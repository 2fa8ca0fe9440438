"""What a store keeps of an evaluation: the figures that were measured, of exactly these images."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model_store.evaluations import MeasuredQuality
from tests.support.tiny_recipe import draw_parts
from training.data.dataset import test_images as labelled_images
from training.evaluation.record import described_data, fingerprint_of, with_record
from training.evaluation.rows import Curves, Evaluation

ESTIMATE = {"value": 0.9, "low": 0.8, "high": 0.95}
FIGURES: dict[str, Any] = {
    "bundle": {"hash": "ab" * 32},
    "data": {"name": "ramp", "fingerprint": "cd" * 32},
    "images": {"good": 3, "defect": 2},
    "measured": {"at": "2026-05-01T09:00:00+00:00", "machine": "x86_64", "glad": "1.0", "command": "glad evaluate"},
    "image": {"auroc": ESTIMATE, "ap": ESTIMATE},
    "pixel": {"auroc": ESTIMATE, "pro": {"value": 0.9, "low": math.nan, "high": math.nan}},
}
YARDSTICK = {"frozen": True, "image": {"auroc": {"value": 0.8, "low": 0.7, "high": 0.9}}}


def recorded(**changes: Any) -> MeasuredQuality:
    outcome = Evaluation({**FIGURES, **changes}, (), Curves(None, None, None))
    return MeasuredQuality.model_validate(with_record(outcome).figures["record"])


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    return draw_parts(tmp_path / "ramp")


def test_a_fingerprint_is_of_the_images_their_labels_and_masks_and_not_of_their_place(
    parts: Path, tmp_path: Path
) -> None:
    first = fingerprint_of(labelled_images(parts), parts)
    copy = shutil.copytree(parts, tmp_path / "elsewhere")
    assert fingerprint_of(labelled_images(copy), copy) == first
    (copy / "train/good/000.png").unlink()  # is not measured
    assert fingerprint_of(labelled_images(copy), copy) == first
    mask = np.zeros((24, 32), dtype=np.uint8)
    mask[2:9, 2:9] = 255
    Image.fromarray(mask).save(copy / "ground_truth/hole/000_mask.png")
    other_mask = fingerprint_of(labelled_images(copy), copy)
    (copy / "groups.csv").write_text("file,group\ntest/good/000.png,a\ntest/good/001.png,a\n")
    other_parts = fingerprint_of(labelled_images(copy), copy)
    (copy / "test/good/002.png").unlink()
    assert len({first, other_mask, other_parts, fingerprint_of(labelled_images(copy), copy)}) == 4


def test_the_name_is_that_of_the_folder_and_can_be_printed(parts: Path, tmp_path: Path) -> None:
    images = labelled_images(parts)
    assert described_data(images, parts)["name"] == "ramp"
    odd = parts.rename(tmp_path / "od\nd")
    assert described_data(labelled_images(odd), odd)["name"] == "od?d"


def test_a_record_has_what_was_measured_and_leaves_out_what_has_no_interval() -> None:
    found = recorded()
    assert (found.bundle, found.data.name, found.data.good, found.data.defect) == ("ab" * 32, "ramp", 3, 2)
    assert found.figures.image_auroc is not None
    assert found.figures.image_auroc.model_dump() == ESTIMATE
    assert (found.figures.pro, found.figures.found, found.yardstick, found.minus_yardstick) == (None,) * 4


def test_the_frozen_yardstick_alone_is_recorded() -> None:
    differences = {"image_auroc": {"value": 0.1, "low": 0.02, "high": 0.2}}
    found = recorded(yardstick=YARDSTICK, minus_yardstick=differences)
    assert found.yardstick is not None
    assert found.yardstick.image_auroc is not None
    assert found.minus_yardstick is not None
    assert found.minus_yardstick.image_auroc is not None
    assert (found.yardstick.image_auroc.value, found.minus_yardstick.image_auroc.low) == (0.8, 0.02)
    other = recorded(yardstick={**YARDSTICK, "frozen": False}, minus_yardstick=differences)
    assert (other.yardstick, other.minus_yardstick) == (None, None)


def test_where_nothing_was_measured_there_is_no_record() -> None:
    outcome = Evaluation({**FIGURES, "image": {}, "pixel": {}}, (), Curves(None, None, None))
    assert with_record(outcome) is outcome
