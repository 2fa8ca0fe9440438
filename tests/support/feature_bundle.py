"""A bundle of the feature form with tiny models, trained in seconds: the real file format, backbone and engine."""

from __future__ import annotations

from pathlib import Path

from model_store.bundle import Bundle
from tests.support.bundles import new_version
from tests.support.tiny_bundle import tiny_calibration
from tests.support.tiny_recipe import TINY_FEATURE_RECIPE
from training.package import Naming
from training.pipeline import train


def train_tiny_feature_bundle(folder: Path, data: Path) -> Bundle:
    """Trains on `data` (see `tests.support.tiny_recipe.draw_parts`) and writes `folder/part/1`; `folder` is a store.

    Its thresholds lie far from every score. Those that training finds are scores of calibration images, on which an
    export is shown equal: there the last bit would decide the verdict.
    """
    trained = train(
        TINY_FEATURE_RECIPE,
        data,
        folder / "run",
        folder / "trained",
        Naming("part", "1"),
        command="glad train tiny-feature",
        say=lambda _: None,
        workers=1,
    )
    return new_version(trained.path, folder / "part" / "1", calibration=tiny_calibration(1e-9, 100.0, 1.0))
