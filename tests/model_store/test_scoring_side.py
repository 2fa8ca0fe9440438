"""The scoring resolution is a whole number of patches."""

from __future__ import annotations

import pytest

from glad.settings.method import MethodSettings
from model_store.compatibility import ModelsDoNotFit, ModelShapes, check_fit

SHAPES = ModelShapes(
    image_channels=3, latent_channels=4, factor=8, unet_in_channels=4, unet_out_channels=4, unet_stride=2,
    feature_channels=3, patch=8, depth=2,
)  # fmt: skip


def test_a_scoring_resolution_off_the_patch_grid_is_refused_and_the_next_ones_are_named() -> None:
    score = {"layers": (1,), "resolution": 36}
    settings = MethodSettings.model_validate({"resolution": 64, "trigger": {"delta": 0.3}, "score": score})
    with pytest.raises(ModelsDoNotFit, match=r"score\.resolution is 36 px.*multiple of 8.*use 32 or 40"):
        check_fit(SHAPES, settings)
    check_fit(SHAPES, settings.changed(score={**score, "resolution": 32}))
