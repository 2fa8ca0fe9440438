"""`glad bench yardstick`: what it learns from whom, what it counts, and the command on the real backbone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from bench.accuracy.brightness import strata_of, within_brightness
from bench.accuracy.yardstick_figures import oracle_threshold
from bench.cli import app
from bench.support.gaussian_yardstick import learn_gaussians
from tests.support.grey_yardstick import draw_greys, learn_grey_memory
from tests.support.tiny_bundle import make_tiny_bundle
from tests.support.tiny_recipe import draw_parts
from training.cli.measure import evaluate as evaluate_command
from training.data.dataset import good_split
from training.evaluation.evaluate import evaluate
from training.progress import silent
from training.yardstick.patch_memory import YARDSTICK
from training.yardstick.report_row import with_learnt_yardstick


def test_the_gaussians_calibrate_on_parts_that_they_did_not_learn_from(tmp_path: Path) -> None:
    root = draw_greys(tmp_path, list(range(0, 240, 12)))
    gaussians = learn_gaussians(learn_grey_memory(root), silent)
    held_out = good_split(root, 0.2, 0).calibration
    assert (gaussians.calibration.good_images, gaussians.calibration.kind) == (len(held_out), "held_out")
    assert gaussians.calibration.good_images == 4  # a fifth of 20, whole parts


def test_an_oracles_threshold_lets_two_in_a_hundred_good_images_lie_above() -> None:
    assert oracle_threshold([float(score) for score in range(100)]) == 97.0  # 98 and 99 lie above
    assert oracle_threshold([float(score) for score in range(20)]) == 19.0  # 0.4 of an image: none may


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
    assert memory["cost"]["good_image_ms"] > 0
    assert memory["cost"]["defective_image_ms"] > 0
    assert memory["cost"]["train_seconds"] > 0
    # 15 good images of 8×6 places, 152 channels of 2 bytes, and the backbone's weights up to level 4 beside.
    assert memory["cost"]["model_bytes"] > 15 * 8 * 6 * 152 * 2


def test_an_evaluation_shows_the_row_of_a_file(report: tuple[Path, Path, Path], tmp_path: Path) -> None:
    parts, bundle, file = report
    evaluate_command(str(bundle), data=parts, json_file=tmp_path / "evaluation.json", worst=0, yardstick=str(file))
    written = json.loads((tmp_path / "evaluation.json").read_text())
    assert written["yardstick"]["image"]["auroc"]["value"] == 1.0
    assert written["yardstick_note"].endswith("Its configuration is not the frozen one.")  # its side is 64
    assert "| yardstick | 1.000 [1.000, 1.000]" in (tmp_path / "evaluation.md").read_text()


def test_an_evaluation_that_learns_the_yardstick_finds_what_the_bench_finds(report: tuple[Path, Path, Path]) -> None:
    parts, bundle, file = report
    measured = evaluate(bundle, parts, workers=1)
    using = YARDSTICK.model_copy(update={"side": 64})
    found = with_learnt_yardstick(measured, bundle, parts, configuration=using).figures
    bench = json.loads(file.read_text())["figures"]
    memory = bench["methods"][0]
    shown = ("name", "images", "image", "pixel", "found_at_its_threshold", "thresholds", "scores")
    assert {name: found["yardstick"][name] for name in shown} == {name: memory[name] for name in shown}
    assert found["yardstick"]["configuration"] == bench["yardstick"]
    assert found["minus_yardstick"] == bench["minus_yardstick"]["toy 1"]


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


def test_strata_compare_images_as_bright_as_each_other() -> None:
    # Defects are dark. "light" scores by darkness and knows nothing else; "knows" tells each defect from its like.
    brightness = np.array([10.0, 11, 12, 13, 90, 91, 92, 93])
    defect = [True, True, True, False, False, False, False, True]
    strata = strata_of(brightness, 2)
    assert strata.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    scores = {"darkness": [8.0, 8, 8, 8, 1, 1, 1, 1], "knows": [9.0, 9, 9, 8, 1, 1, 1, 2]}
    methods = [{"name": name, "scores": dict(zip("abcdefgh", of, strict=True))} for name, of in scores.items()]
    found = within_brightness(methods, brightness, strata, defect)
    assert found["images"] == [4, 4]
    assert found["image_auroc"]["darkness"]["value"] == 0.5
    assert found["image_auroc"]["knows"]["value"] == 1.0
    assert found["minus_yardstick"]["knows"]["value"] == 0.5
    assert found["darkness_alone"]["value"] == 12 / 16
