"""`glad train`, `evaluate` and `sample` as a person at a terminal meets them."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from accelerate import Accelerator
from PIL import Image
from typer.testing import CliRunner

from model_store.bundle import open_bundle
from model_store.cli.evaluations import read_record
from model_store.engines.loading import load
from model_store.evaluations import EVALUATIONS_NAME, evaluations_of
from model_store.manifest import check_name
from tests.support.tiny_bundle import make_tiny_bundle
from tests.support.tiny_recipe import TINY_FEATURE_TOML, TINY_TOML, draw_parts
from training.cli import measure as measure_cli
from training.cli import train as cli
from training.cli.report import report
from training.package import product_of_folder

pytestmark = pytest.mark.timeout(600)  # real processes or trainings: slow where other work shares the machine

Glad = Callable[..., Any]


@pytest.fixture
def glad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Glad:
    """Calls a command in an empty working folder."""
    (tmp_path / "tiny.toml").write_text(TINY_TOML, encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    def call(command: Callable[..., None], *words: object) -> Any:
        app = typer.Typer()
        app.command()(command)
        return CliRunner().invoke(app, [str(word) for word in words])

    return call


def test_a_training_says_where_the_bundle_is_and_what_to_do_with_it(glad: Glad, tmp_path: Path) -> None:
    draw_parts(tmp_path / "Ramp 7")
    done = glad(cli.train, "tiny.toml", "--data", "Ramp 7", "--version", "1")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "bundles/ramp-7/1/manifest.json").is_file()  # the data folder's name, made fit for a URL
    assert "glad evaluate bundles/ramp-7/1 --data 'Ramp 7'" in done.output
    assert "glad bundle publish bundles/ramp-7/1 --activate" in done.output
    assert "the report: runs/ramp-7/report.html" in done.output
    assert (tmp_path / "bundles/ramp-7/1/report/report.html").is_file()
    assert "has not ended" not in glad(report, "runs/ramp-7", "--out", "again.html").output
    assert (tmp_path / "again.html").read_bytes() == (tmp_path / "runs/ramp-7/report.html").read_bytes()
    assert glad(report, "bundles/ramp-7/1").exit_code == 0  # a bundle never changes: beside it
    assert (tmp_path / "report.html").is_file()
    assert (tmp_path / "report.json").is_file()
    wrong = glad(report, "runs/ramp-7", "--out", "again.pdf")
    assert wrong.exit_code == 1
    assert "give a name that ends in .html" in wrong.output
    assert not (tmp_path / "bundles/ramp-7/1/engines").exists()  # a recipe of the pixel form exports when it is told to
    # 5 calibration images: 1 / 6 on average. Told before the stages, and once more with the thresholds.
    promised = "5 good images, each counted as a part: 2 % false rejects cannot be promised; expect up to 16.7 %"
    assert done.output.count(promised) == 2
    assert done.output.index(promised) < done.output.index("stages: pairs")
    assert "Until then, fail is the largest good score seen." in done.output
    assert "most unusual of the good images, by score: good/" in done.output
    again = glad(cli.train, "tiny.toml", "--data", "Ramp 7", "--version", "1")
    assert again.exit_code == 1
    assert "exists already, and bundles never change: give --version another name" in again.output


def test_a_training_of_the_feature_form_ends_with_its_export(
    glad: Glad, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "features.toml").write_text(TINY_FEATURE_TOML, encoding="utf-8")
    draw_parts(tmp_path / "ramp")
    words = ("features.toml", "--data", "ramp", "--run", "run")
    done = glad(cli.train, *words, "--version", "1")
    assert done.exit_code == 0, done.output
    assert "exported for ONNX Runtime, with equal verdicts; the report: run/parity" in done.output
    assert load(open_bundle(tmp_path / "bundles/ramp/1")).engine.startswith("onnx-")
    # Trained already: only a bundle is written. Without the runtime it is whole, and says what is missing.
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    done = glad(cli.train, *words, "--version", "2")
    assert done.exit_code == 0, done.output
    assert "warning: no export for ONNX Runtime, PyTorch serves: onnxruntime is not installed" in done.output
    assert "glad export bundles/ramp/2 --to onnx --data ramp" in done.output
    done = glad(cli.train, *words, "--version", "3", "--no-export")
    assert (done.exit_code, "ONNX" in done.output) == (0, False)


def test_an_interrupted_training_says_how_it_goes_on(
    glad: Glad, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_parts(tmp_path / "ramp")
    backward = Accelerator.backward

    def interrupted(self: Accelerator, loss: Any, **others: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        backward(self, loss, **others)

    monkeypatch.setattr(Accelerator, "backward", interrupted)
    done = glad(cli.train, "tiny.toml", "--data", "ramp")
    assert done.exit_code == 130
    assert "the same command goes on where it stopped" in done.output
    assert not (tmp_path / "bundles").exists()


@pytest.mark.parametrize(
    ("folder", "product"),
    [("Prüfteile Süd", "prufteile-sud"), ("..x", "x"), ("Teil_7.b", "teil_7.b"), ("ab" * 40, "ab" * 32)],
)
def test_any_folders_name_gives_a_products_name(tmp_path: Path, folder: str, product: str) -> None:
    assert check_name(product_of_folder(tmp_path / folder)) == product


def test_a_folder_without_images_and_a_recipe_that_is_none_are_told_in_one_line(glad: Glad, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = glad(cli.train, "tiny.toml", "--data", "empty")
    assert (done.exit_code, done.output.count("\n")) == (1, 1)
    assert "empty holds 0 images" in done.output
    done = glad(cli.train, "nanno", "--data", "empty")
    assert (done.exit_code, done.output.count("\n")) == (1, 1)
    assert "shipped names: light, mpdd, multi-class, mvtec-ad, nano, pcb-bank, visa" in done.output


def test_an_evaluation_prints_the_table_and_leaves_its_files(glad: Glad, tmp_path: Path) -> None:
    draw_parts(tmp_path / "ramp")
    (tmp_path / "ramp" / "rejects").mkdir()
    (tmp_path / "ramp" / "rejects" / "odd.png").symlink_to(tmp_path / "nowhere")
    bundle = make_tiny_bundle(tmp_path / "store", resolution=64)
    done = glad(
        measure_cli.evaluate,
        bundle,
        "--data",
        "ramp",
        "--json",
        "deep/er/figures.json",
        "--repeatability",
        "--repeats",
        "2",
        "--worst",
        "2",
        "--yardstick",
        "none",
        "--record",
        "--name",
        "week 48",
    )
    assert done.exit_code == 0, done.output
    assert "5 images, 2 times each, under camera noise" in done.output
    assert "| hole | – | 2 |" in done.output
    assert "yardstick" not in done.output
    left_out = "1 image takes no part in ramp:\n  rejects/odd.png: a link to "
    assert f"warning: {left_out}" in done.stderr
    assert left_out in (tmp_path / "deep/er/figures.md").read_text(encoding="utf-8")
    figures = json.loads((tmp_path / "deep/er/figures.json").read_text(encoding="utf-8"))
    assert [row["file"] for row in figures["rows"]][-1] == "test/hole/001.png"
    lines = (tmp_path / "deep/er/figures.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + 5
    assert figures["repeatability"]["repeats"] == 2
    assert "| hole | – | 2 |" in (tmp_path / "deep/er/figures.md").read_text(encoding="utf-8")
    assert (tmp_path / "deep/er/figures.html").read_text(encoding="utf-8").count("<figure>") == 2
    [recorded] = evaluations_of(open_bundle(bundle).hash, [bundle.parent])
    assert f"recorded: {bundle.parent / EVALUATIONS_NAME}" in done.output
    assert (recorded.data.name, recorded.data.good, recorded.data.defect) == ("week 48", 3, 2)
    assert recorded.figures.image_auroc is not None
    assert recorded.figures.image_auroc.value == figures["image"]["auroc"]["value"]
    assert read_record(tmp_path / "deep/er/figures.json").id == recorded.id


def test_a_name_that_no_report_can_hold_is_told_before_an_evaluation_begins(glad: Glad, tmp_path: Path) -> None:
    draw_parts(tmp_path / "ramp")
    image = next((tmp_path / "ramp" / "test" / "good").iterdir())
    image.rename(image.with_name(os.fsdecode(b"st\xfcck.png")))
    bundle = make_tiny_bundle(tmp_path / "store", resolution=64)
    done = glad(measure_cli.evaluate, bundle, "--data", "ramp", "--yardstick", "none")
    assert done.exit_code == 1
    assert "test/good/st\\xfcck.png: the path is not UTF-8" in done.output
    assert "inspecting" not in done.output


def test_an_evaluation_does_not_write_two_files_to_one_place(glad: Glad, tmp_path: Path) -> None:
    (tmp_path / "ramp").mkdir()
    done = glad(measure_cli.evaluate, "bundle", "--data", "ramp", "--json", "figures.md")
    assert done.exit_code == 1
    assert "figures.md: .csv, .md and .html lie beside the JSON file; end its name in .json" in done.output


def test_an_evaluation_that_could_not_be_written_does_not_begin(glad: Glad, tmp_path: Path) -> None:
    draw_parts(tmp_path / "ramp")
    bundle = make_tiny_bundle(tmp_path / "store", resolution=64)
    (tmp_path / "file").touch()
    done = glad(measure_cli.evaluate, bundle, "--data", "ramp", "--json", "file/figures.json")
    assert done.exit_code == 1
    assert "inspecting" not in done.output


def test_what_only_one_kind_of_reproduction_takes_is_refused_for_the_other(glad: Glad, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    told = glad(measure_cli.reproduce, "mvtec-ad", "--data", "parts", "--train", "light", "--vae", "x", "--multi")
    assert told.exit_code == 2
    assert "--vae is for published weights" in told.output
    published = ("--base", "sd", "--dino", "dino", "--licence", "any")
    told = glad(measure_cli.reproduce, "mvtec-ad", "--data", "parts", *published, "--set", "unet.steps=9")
    assert told.exit_code == 2
    assert "--set changes a recipe: give --train RECIPE too" in told.output


def test_a_sample_set_lies_in_the_layout_that_training_reads(glad: Glad, tmp_path: Path) -> None:
    done = glad(
        cli.sample, "parts", "--seed", "3", "--train", "2", "--calibration", "1", "--good", "1", "--defects", "1"
    )
    assert done.exit_code == 0, done.output
    assert "22 images" in done.output  # 2 + 1 + 1 + 6 defects in 3 severities
    assert len(list((tmp_path / "parts/test").glob("*/*.png"))) == 19
    assert len(list((tmp_path / "parts/ground_truth").glob("*/*_mask.png"))) == 18
    assert glad(cli.sample, "none").exit_code == 2  # no call at all: it does not say what to render


def test_a_preview_shows_each_kind_of_the_recipe_and_those_that_are_asked_for(glad: Glad, tmp_path: Path) -> None:
    draw_parts(tmp_path / "ramp")
    done = glad(cli.preview, "tiny.toml", "--data", "ramp", "--columns", "3")
    assert done.exit_code == 0, done.output
    assert "texture, shuffle, paste, stroke, spot, warp: 3 of each in anomalies.png" in done.output
    with Image.open(tmp_path / "anomalies.png") as sheet:
        # Squares of 32 pixels, 6 apart; of six kinds each has 14 pixels for its name and two lines of pictures.
        assert sheet.size == (3 * (32 + 6) + 6, 6 * (14 + 2 * (32 + 6)) + 6)
    more = glad(cli.preview, "tiny.toml", "--data", "ramp", "--kinds", "crack, pores", "--out", "deep/er/flaws.png")
    assert more.exit_code == 0, more.output
    with Image.open(tmp_path / "deep/er/flaws.png") as sheet:
        assert sheet.height == 2 * (14 + 2 * (32 + 6)) + 6
    wrong = glad(cli.preview, "tiny.toml", "--data", "ramp", "--kinds", "scratch")
    assert (wrong.exit_code, wrong.output.count("\n")) == (1, 1)
    assert "no kind of anomaly is called 'scratch': choose of texture, shuffle" in wrong.output


def test_calibrating_tells_what_each_choice_costs(glad: Glad, tmp_path: Path) -> None:
    make_tiny_bundle(tmp_path / "store")
    draw_parts(tmp_path / "parts")
    part_of = ["file,group", *(f"calibration/good/00{number}.png,part-{number // 2}" for number in range(5))]
    (tmp_path / "parts/groups.csv").write_text("\n".join(part_of), encoding="utf-8")
    words = ["store/toy/1", "--data", "parts", "--out", "made", "--version", "2", "--images", 4]
    done = glad(cli.calibrate, *words, "--start", 500, "--t-min", 250, "--json", "tried/report.json")
    assert done.exit_code == 0, done.output
    assert "**chosen**" in done.output
    assert "no adaptation" in done.output
    assert (tmp_path / "made/toy/2/manifest.json").is_file()
    assert json.loads((tmp_path / "tried/report.json").read_text())["settings"]["tried"]
    told = "3 parts (5 good images): 2 % false rejects cannot be promised; expect up to 25 %"  # 1 / 4 on average
    assert done.output.count(told) == 2  # before anything is tried, and with the thresholds
    assert "49 parts would be needed. Until then, fail is the largest good score seen." in done.output
    assert json.loads((tmp_path / "made/toy/2/manifest.json").read_text())["calibration"]["groups"] == 3
    assert done.output.endswith("next: glad bundle publish made/toy/2 --activate\n")
    again = glad(cli.calibrate, *words)
    assert again.exit_code == 1
    assert "bundles never change: give --version another name" in again.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--start", "3OO"), "--start is '3OO': give numbers separated by commas, such as 300,400,500"),
        (("--start", "1200"), "start (T) is 1200; the schedule has 1000 steps: lower start"),
        (("--images", "2"), "2 images to try settings on; give at least 4: raise --images"),
    ],
)
def test_a_calibration_that_cannot_be_is_refused_at_once(
    glad: Glad, tmp_path: Path, words: tuple[str, str], told: str
) -> None:
    make_tiny_bundle(tmp_path / "store")
    draw_parts(tmp_path / "parts")
    done = glad(cli.calibrate, "store/toy/1", "--data", "parts", *words)
    assert done.exit_code == 1
    assert told in " ".join(done.output.split())
    assert not (tmp_path / "bundles").exists()
