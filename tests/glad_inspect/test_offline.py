"""`train` and `evaluate`: a training with tiny models, and what stands in the way of one."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import glad_inspect as glad
from glad_inspect.measured import DetectorFigures, MeasuredFigure
from tests.support.tiny_recipe import TINY_FEATURE_TOML, TINY_TOML, draw_parts

pytestmark = pytest.mark.timeout(600)  # real trainings: slow where other work shares the machine

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("offline")
    (folder / "tiny.toml").write_text(TINY_TOML, encoding="utf-8")
    draw_parts(folder / "Ramp 7")
    return folder


@pytest.fixture(scope="module")
def trained(parts: Path) -> glad.TrainedBundle:
    return glad.train(
        parts / "tiny.toml", parts / "Ramp 7", version="1", out=parts / "bundles", run=parts / "run", progress=False
    )


def test_a_training_gives_what_the_bundle_holds(trained: glad.TrainedBundle, parts: Path) -> None:
    assert trained.folder == parts / "bundles" / "ramp-7" / "1"
    assert (trained.product, trained.version) == ("ramp-7", "1")
    manifest: dict[str, Any] = json.loads((trained.folder / "manifest.json").read_text())
    assert trained.thresholds.fail == manifest["calibration"]["fail"]
    assert trained.good_images == 5  # calibration/good
    assert "2 % false rejects cannot be promised" in trained.promise
    assert trained.warning is not None
    assert len(trained.unusual) == 5
    assert trained.unusual[0].score == max(one.score for one in trained.unusual)
    assert (trained.export, trained.export_problem) == (None, None)  # a recipe of the pixel form: when it is told to
    assert manifest["provenance"]["command"] == "glad_inspect.train"
    assert trained.report == parts / "run" / "report.html"
    assert trained.hash in trained.report.read_text(encoding="utf-8")


def test_a_version_that_is_there_is_not_trained_again(trained: glad.TrainedBundle, parts: Path) -> None:
    with pytest.raises(ValueError, match="exists already, and bundles never change"):
        glad.train(parts / "tiny.toml", parts / "Ramp 7", version="1", out=parts / "bundles", progress=False)


def test_a_training_of_the_feature_form_exports_and_takes_changes_of_its_recipe(
    parts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (parts / "features.toml").write_text(TINY_FEATURE_TOML, encoding="utf-8")
    made = glad.train(
        parts / "features.toml",
        parts / "Ramp 7",
        product="ramp",
        version="2",
        out=parts / "bundles",
        run=parts / "run-2",
        changes={"unet.steps": 3, "name": "tiny-changed"},
        workers=1,
    )
    assert made.export == made.folder / "engines" / "onnx", made.export_problem
    recipe = json.loads((made.folder / "manifest.json").read_text())["provenance"]["recipe"]
    assert (recipe["unet"]["steps"], recipe["name"]) == (3, "tiny-changed")
    assert made.report is not None
    assert "onnx-cpu-float32" in made.report.read_text(encoding="utf-8")  # written again, after the export
    assert "stages: pairs, latents" in capsys.readouterr().out


def test_an_evaluation_gives_figures_with_intervals(
    trained: glad.TrainedBundle, parts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = parts / "reports" / "evaluation.json"
    report.parent.mkdir()
    found = glad.evaluate(trained.folder, parts / "Ramp 7", yardstick=False, report=report, progress=False)
    assert (found.good_images, found.defective_images) == (3, 2)
    written = json.loads(report.read_text())
    assert found.hash == trained.hash == written["bundle"]["hash"]
    for name, part in (("image_auroc", "image"), ("pixel_auroc", "pixel"), ("pro", "pixel")):
        figure = getattr(found.metrics, name)
        assert dataclasses.asdict(figure) == written[part][name.removeprefix("image_").removeprefix("pixel_")]
    assert [(one.defect, one.images) for one in found.by_defect] == [("hole", 2)]
    assert len(found.images) == 5
    assert {one.file for one in found.images if one.defect == "hole"} == {"test/hole/000.png", "test/hole/001.png"}
    assert (found.yardstick, found.yardstick_note, found.report) == (None, None, report)
    assert (report.with_suffix(".html")).is_file()
    assert capsys.readouterr().out == ""


def test_an_evaluation_beside_the_yardstick_has_its_figures_and_the_difference(
    trained: glad.TrainedBundle, parts: Path
) -> None:
    found = glad.evaluate(trained.folder, parts / "Ramp 7", progress=False)
    assert isinstance(found.yardstick, DetectorFigures), found.yardstick_note
    assert found.yardstick.image_auroc is not None
    assert found.metrics.image_auroc is not None
    gap = found.metrics.image_auroc.value - found.yardstick.image_auroc.value
    assert found.minus_yardstick["image_auroc"].value == pytest.approx(gap)


def test_a_figure_that_few_images_cannot_bound_has_no_ends() -> None:
    assert str(MeasuredFigure(0.5, None, None)) == "0.500"
    assert str(MeasuredFigure(0.5, 0.25, 0.75)) == "0.500 [0.250, 0.750]"


def _run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs code as a user's script does whose folder is `folder`."""
    (folder / "script.py").write_text(f"import sys\nsys.path.insert(1, {str(ROOT)!r})\n{code}", encoding="utf-8")
    command = [sys.executable, "script.py"]
    return subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, timeout=300, env={})


def test_a_package_of_the_users_own_called_training_is_named_and_stops_no_inspection(tmp_path: Path) -> None:
    own = tmp_path / "training" / "__init__.py"
    own.parent.mkdir()
    own.write_text("")
    code = """
import glad_inspect as glad
for work in (lambda: glad.train("light", "data"), lambda: glad.evaluate("bracket", "data")):
    try:
        work()
    except glad.TrainingUnavailable as error:
        print(error)
"""
    outcome = _run(code, tmp_path)
    assert outcome.returncode == 0, outcome.stderr
    refused_train, refused_evaluate = outcome.stdout.splitlines()
    assert str(own.parent) in refused_train
    assert "give that another name, or run your program from another folder" in refused_train
    assert refused_evaluate.startswith("glad_inspect.evaluate needs")


def test_what_the_extra_would_bring_is_named_with_the_command_for_it(tmp_path: Path) -> None:
    code = """
sys.modules["sklearn"] = None
import glad_inspect as glad
try:
    glad.evaluate("bracket", "data")
except glad.TrainingUnavailable as error:
    print(error)
"""
    outcome = _run(code, tmp_path)
    assert outcome.stdout == (
        "glad_inspect.evaluate needs scikit-learn, which is not installed: make setup\n"  # as in every clone
    ), outcome.stderr
