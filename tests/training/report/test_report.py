"""The report of a training: a page that needs no other file, in the run's folder and in the bundle."""

from __future__ import annotations

import json
import re
import shutil
import signal
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator
from PIL import Image

from model_store.bundle import Bundle, open_bundle
from model_store.engines.export_manifest import EXPORT_NAME, Export
from model_store.store import SHIPPED_BUNDLES
from tests.support.bundles import new_version
from tests.support.tiny_recipe import TINY_FEATURE_RECIPE, TINY_RECIPE, draw_parts
from training.data.dataset import good_split
from training.evaluation.tables import Table
from training.package import Naming
from training.parallel_inspection import inspect_images
from training.pipeline import train
from training.recipe import FeatureRecipe, Recipe
from training.recipe_file import recipe_from
from training.report.contents import TrainingReport, read_report
from training.report.page import found_table
from training.report.writing import renew_report, report_of_bundle, report_of_run

pytestmark = pytest.mark.timeout(600)  # real trainings: slow where other work shares the machine


class _Page(HTMLParser):
    """What a page shows, and what it refers to."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.texts: list[str] = []
        self.pre: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in {"src", "href", "data", "srcset"}]

    def handle_endtag(self, tag: str) -> None:
        self.tags.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        (self.pre if self.tags[-1:] == ["pre"] else self.texts).append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_parts(tmp_path_factory.mktemp("parts"))


def _train(data: Path, folder: Path, recipe: Recipe | FeatureRecipe) -> Bundle:
    return train(
        recipe, data, folder / "run", folder / "part" / "1", Naming("part", "1", "A <part>"),
        command="glad train tiny --data parts", say=lambda _: None, workers=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def pixel(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A training of the pixel form, in whose parent's parent is the run."""
    return _train(data, tmp_path_factory.mktemp("pixel"), TINY_RECIPE)


@pytest.fixture(scope="module")
def feature(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A training of the feature form that counts its own images, too."""
    counted = TINY_FEATURE_RECIPE.calibration.model_copy(update={"training_parts": True})
    recipe = TINY_FEATURE_RECIPE.model_copy(update={"calibration": counted})
    return _train(data, tmp_path_factory.mktemp("feature"), recipe)


def _run(bundle: Bundle) -> Path:
    return bundle.path.parents[1] / "run"


def _page(folder: Path) -> _Page:
    return _Page((folder / "report.html").read_text(encoding="utf-8"))


def _report(folder: Path) -> TrainingReport:
    found = read_report(folder)
    assert found is not None
    return found


@pytest.mark.parametrize("form", ["pixel", "feature"])
def test_a_page_needs_no_other_file_and_runs_nothing(form: str, request: pytest.FixtureRequest) -> None:
    page = _page(_run(request.getfixturevalue(form)))
    assert page.sources
    assert all(source.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")) for source in page.sources)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert "A <part>" in page.text  # escaped: a title is no markup


def test_a_page_begins_with_the_verdict_and_says_what_the_thresholds_promise(pixel: Bundle) -> None:
    page = _page(_run(pixel)).text
    warning = pixel.manifest.quality["calibration"]["warning"]  # it begins with the promise
    assert page.index("Trained and calibrated, but look at") < page.index(warning) < page.index("fail from this score")
    assert page.count(pixel.manifest.quality["calibration"]["promise"]) == 1
    # 5 good images, fail just above the largest score: none fails.
    assert re.search(r"\d / \d / 0 good images that pass / go to review / fail", page)
    assert page.index("Look at these") < page.index("The course of the training") < page.index("To repeat it")


def test_a_page_has_all_that_repeats_the_training(pixel: Bundle, data: Path) -> None:
    folder = _run(pixel)
    page, report = _page(folder), _report(folder)
    command, recipe = page.pre
    assert command == "glad train tiny --data parts"
    assert recipe_from(tomllib.loads(recipe), "report") == TINY_RECIPE
    assert report.seed == TINY_RECIPE.seed
    assert report.data["train_images"] == 10
    assert report.data["digest"] == json.loads((folder / "run.json").read_text(encoding="utf-8"))["images"]
    assert {"torch", "python", "glad-inspect"} <= set(report.software)
    assert report.data["digest"] in page.text


def test_the_bundle_has_the_report_of_its_training_and_the_run_has_the_bundles_hash_as_well(pixel: Bundle) -> None:
    own, of_run = _report(pixel.path / "report"), _report(_run(pixel))
    assert (own.bundle_hash, of_run.bundle_hash) == (None, pixel.hash)
    assert of_run == own.model_copy(update={"bundle_hash": pixel.hash})
    assert {f"report/{name}" for name in ("report.html", "report.json", *own.pictures.files)} == set(
        open_bundle(pixel.path).manifest.report
    )


def test_the_most_unusual_good_images_are_shown_the_highest_score_first(pixel: Bundle) -> None:
    shown = _report(_run(pixel)).pictures.good
    assert [one.image for one in shown] == [
        one["image"] for one in pixel.manifest.quality["calibration"]["most_unusual"]
    ]
    assert [one.picture for one in shown[:4]] == [f"good-{number}.jpg" for number in (1, 2, 3, 4)]
    assert shown[0].score == pytest.approx(max(pixel.manifest.thresholds.good_scores), abs=1e-4)
    with Image.open(_run(pixel) / "pictures" / "good-1.jpg") as picture:
        assert picture.width > 3 * picture.height  # input, reconstruction, heatmap, overlay


def test_a_good_image_that_was_learnt_from_is_drawn_as_it_was_scored_without_its_own_part(
    feature: Bundle, data: Path
) -> None:
    split = good_split(data, TINY_FEATURE_RECIPE.calibration.holdout, TINY_FEATURE_RECIPE.seed)
    learnt = [one for one in _report(_run(feature)).pictures.good if one.of_training]
    assert learnt, "the images of the training are as many as twice the others"
    names = {f"{path.parent.name}/{path.name}" for path in split.train}
    assert all(one.image in names for one in learnt)
    # With its own patches in the memory such an image would be found usual.
    paths = [path for path in split.train if f"{path.parent.name}/{path.name}" == learnt[0].image]
    (usual,) = inspect_images(feature.path, feature.manifest.settings, paths, workers=1)
    assert usual.score < learnt[0].score


def test_synthetic_defects_are_shown_as_the_finished_models_see_them(feature: Bundle) -> None:
    shown = _report(_run(feature)).pictures.anomalies
    assert [one.picture for one in shown] == [f"anomaly-{number}.jpg" for number in (1, 2, 3, 4)]
    assert all((_run(feature) / "pictures" / one.picture).is_file() for one in shown)


def test_a_report_that_fails_is_told_and_does_not_cost_the_bundle(data: Path, tmp_path: Path) -> None:
    # A folder where a picture is to lie: the report's first one, of the most unusual good image.
    (tmp_path / "run" / "pictures" / "good-1.jpg").mkdir(parents=True)
    told: list[str] = []
    made = train(
        TINY_FEATURE_RECIPE, data, tmp_path / "run", tmp_path / "part" / "1", Naming("part", "1"),
        command="glad train tiny", say=told.append, workers=1,
    )  # fmt: skip
    assert any("no report of its training: IsADirectoryError" in line for line in told)
    assert open_bundle(made.path).manifest.report == {}
    assert renew_report(tmp_path / "run", made) is None


def test_what_is_found_of_synthetic_defects_is_told_by_kind_and_contrast() -> None:
    line = {
        "kind": "crack",
        "trained_on": True,
        "contrast": "low",
        "from_px": None,
        "all": {"found": 2, "anomalies": 9},
    }
    others = {"contrast": "high", "from_px": 9.5, "all": {"found": 8, "anomalies": 9}}
    record = {"contrast_grey_levels": {"low": "4–12", "high": "40–120"}, "lines": [line, {**line, **others}]}
    assert found_table(record) == Table(
        ("kind", "trained on", "low contrast (4–12)", "high contrast (40–120)"),
        (("crack", "yes", "(2 of 9)", "from 9.5 px; 8 of 9"),),
    )
    assert found_table(None) is None


def test_curves_and_times_of_the_stages_are_told(pixel: Bundle) -> None:
    report, page = _report(_run(pixel)), _page(_run(pixel)).text
    assert [(curve.stage, curve.steps[-1] + 1) for curve in report.curves] == [
        ("autoencoder", 3), ("unet", 4), ("features", 3),
    ]  # fmt: skip
    assert [stage.name for stage in report.stages][:4] == ["pairs", "autoencoder", "latents", "unet"]
    assert all(stage.finished for stage in report.stages)
    assert "in 4 steps" in page
    assert "all together" in page


def test_the_report_of_a_run_is_written_again_with_the_exports_that_belong_to_its_bundle(
    pixel: Bundle, tmp_path: Path
) -> None:
    shutil.copytree(pixel.path.parents[1], tmp_path / "copy")
    run, folder = tmp_path / "copy" / "run", tmp_path / "copy" / "part" / "1"
    (shipped,) = SHIPPED_BUNDLES.glob("bracket/*/engines/onnx")
    export = Export.model_validate_json((shipped / EXPORT_NAME).read_bytes())
    for engine, hash_ in (("onnx", pixel.hash), ("another", "0" * 64)):  # one that was made of another bundle
        (folder / "engines" / engine).mkdir(parents=True)
        content = export.model_copy(update={"bundle": hash_}).model_dump_json()
        (folder / "engines" / engine / EXPORT_NAME).write_text(content, encoding="utf-8")
    renew_report(run, open_bundle(folder))
    assert [one.proofs for one in _report(run).exports] == [export.proofs]
    assert "onnx-cpu-float32 equal 0 of 40" in _page(run).text
    html, as_json = report_of_bundle(open_bundle(folder), tmp_path / "again.html")
    assert as_json == tmp_path / "again.json"
    assert _report(run).exports == TrainingReport.model_validate_json(as_json.read_bytes()).exports
    assert len(_Page(html.read_text(encoding="utf-8")).sources) == len(_page(run).sources)  # all pictures


def test_a_bundle_without_a_report_has_one_of_what_its_manifest_tells(tmp_path: Path) -> None:
    (shipped,) = SHIPPED_BUNDLES.glob("bracket/[0-9]*")
    html, _ = report_of_bundle(open_bundle(shipped), tmp_path / "report.html")
    page = _Page(html.read_text(encoding="utf-8"))
    assert "at most 2 % false rejects are promised" in page.text
    assert len(page.sources) == 1  # the histogram of scores: there are no pictures
    assert "of training" not in page.text.partition("Next steps")[0]


def test_a_bundle_with_thresholds_of_its_own_tells_both_commands_that_made_it(pixel: Bundle, tmp_path: Path) -> None:
    origin = pixel.manifest.provenance
    about = {"data": {**origin.data, "trained_by": origin.command}, "command": "glad calibrate part --data parts"}
    other = new_version(pixel.path, tmp_path / "part" / "2", provenance=origin.model_copy(update=about))
    assert other.manifest.report == {}  # the report is the other bundle's
    html, _ = report_of_bundle(other, tmp_path / "report.html")
    first, second, _ = _Page(html.read_text(encoding="utf-8")).pre
    assert (first, second) == ("glad train tiny --data parts", "glad calibrate part --data parts")


def test_a_run_that_was_stopped_has_a_report_of_how_far_it_came(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, backward = 0, Accelerator.backward

    def interrupted(self: Accelerator, loss: Any, **others: Any) -> None:
        nonlocal taken
        taken += 1
        if taken == 5:  # the second step of the UNet, after three of the autoencoder
            signal.raise_signal(signal.SIGINT)
        backward(self, loss, **others)

    monkeypatch.setattr(Accelerator, "backward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _train(data, tmp_path, TINY_RECIPE)
    html, _ = report_of_run(tmp_path / "run", tmp_path / "run" / "report.html")
    page = _Page(html.read_text(encoding="utf-8")).text
    assert "This training has not ended" in page
    assert "unet from" in page
    assert "in 2 steps" in page
    assert "not ended" in page.partition("Time and memory")[2]


@pytest.mark.parametrize("form", ["pixel", "feature"])
def test_the_readme_of_a_run_names_all_that_lies_in_its_folder(form: str, request: pytest.FixtureRequest) -> None:
    run = _run(request.getfixturevalue(form))
    readme = (run / "README.txt").read_text(encoding="utf-8")
    names = {entry.name for entry in run.iterdir()} - {"README.txt"}
    assert {name for name in names if name not in readme} == set()
    assert "glad train tiny --data parts" in readme
    assert f"tensorboard --logdir {run}/tensorboard" in readme
