"""A data set's table with one command: everything is checked first, nothing is done twice, the average is the mean."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from glad.settings.method import MethodSettings
from glad.settings.presets import Preset
from model_store.bundle import open_bundle
from tests.support.tiny_base import write_base, write_dino
from tests.support.tiny_bundle import TINY_SETTINGS
from tests.support.tiny_recipe import draw_parts
from training.data.dataset import DataError
from training.progress import silent
from training.studies.reproduce import PublishedWeights, ReproductionPlan, paper_table, plan, reproduce
from training.studies.reproduction_outlook import published_outlook
from training.training_run import read_records

pytestmark = pytest.mark.timeout(600)  # real processes or trainings: slow where other work shares the machine

WEIGHTS = PublishedWeights("base", "dino", "licences")
STOPPED_MEASURING = '[{"name": "measuring", "begun": "2026-11-30T08:00:00+00:00", "seconds": 1e6}]'


def test_every_class_has_its_own_settings_and_checkpoints(tmp_path: Path) -> None:
    for name in ("carpet", "grid"):
        draw_parts(tmp_path / "data" / name)
        (tmp_path / name).mkdir()
        (tmp_path / name / "pytorch_model.bin").touch()
    weights = PublishedWeights("base", "dino", "licences", unet=str(tmp_path / "{class}" / "pytorch_model.bin"))
    found = plan("mvtec-ad", tmp_path / "data", weights, ("carpet", "grid"), multi=False)
    assert [(one.product, one.preset.settings.trigger.delta) for one in found] == [("carpet", 0.32), ("grid", 0.47)]
    assert [one.origins.unet for one in found] == [tmp_path / n / "pytorch_model.bin" for n in ("carpet", "grid")]
    multi = plan("mvtec-ad", tmp_path / "data", WEIGHTS, ("grid",), multi=True)
    assert multi[0].preset.prompt == "a photo of sksgrid"


def test_what_is_wrong_shows_before_anything_runs(tmp_path: Path) -> None:
    draw_parts(tmp_path / "grid")
    with pytest.raises(ValueError, match="no data set 'mvtec': give one of mvtec-ad"):
        plan("mvtec", tmp_path, WEIGHTS, (), multi=False)
    with pytest.raises(ValueError, match="mvtec-ad has no class 'gird': its classes are carpet"):
        plan("mvtec-ad", tmp_path, WEIGHTS, ("gird",), multi=False)
    with pytest.raises(ValueError, match=r"carpet is missing: .* must hold a folder per class"):
        plan("mvtec-ad", tmp_path, WEIGHTS, (), multi=False)
    absent = PublishedWeights("base", "dino", "licences", unet=str(tmp_path / "{class}.bin"))
    with pytest.raises(ValueError, match=r"--unet .* gives .*grid\.bin for class grid: it does not exist"):
        plan("mvtec-ad", tmp_path, absent, ("grid",), multi=False)
    draw_parts(tmp_path / "carpet")
    shutil.rmtree(tmp_path / "carpet/ground_truth")
    with pytest.raises(ValueError, match=r"carpet.* has no mask: the table needs one for every defect"):
        plan("mvtec-ad", tmp_path, WEIGHTS, ("carpet",), multi=False)
    (tmp_path / "grid/ground_truth/hole/000_mask.png").unlink()
    with pytest.raises(DataError, match="000"):
        plan("mvtec-ad", tmp_path, WEIGHTS, ("grid",), multi=False)


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple[ReproductionPlan, ...], PublishedWeights]:
    """Two classes of one tiny model."""
    root = tmp_path_factory.mktemp("published")
    weights = PublishedWeights(str(write_base(root / "base")), str(write_dino(root / "dino")), "licences")
    settings = MethodSettings.model_validate({**TINY_SETTINGS, "resolution": 64, "guidance": 9.0})
    data = draw_parts(root / "data")
    return tuple(
        ReproductionPlan(name, Preset(name, settings, f"a photo of sks{name}"), data, weights.origins(name))
        for name in ("carpet", "grid")
    ), weights


def test_each_class_is_imported_evaluated_and_reported_and_the_table_averages_them(
    plans: tuple[tuple[ReproductionPlan, ...], PublishedWeights], tmp_path: Path
) -> None:
    chosen, weights = plans
    said: list[str] = []
    (tmp_path / "runs/carpet").mkdir(parents=True)
    (tmp_path / "runs/carpet/stages.json").write_text(STOPPED_MEASURING, encoding="utf-8")
    table = reproduce(chosen, weights, tmp_path, command="test", progress=silent, say=said.append, worst=1, workers=1)
    assert [row[0] for row in table.rows] == ["carpet", "grid", "average"]
    assert read_records(tmp_path / "runs/carpet")["measuring"].seconds < 1e6, "measured from its beginning"
    figures = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("carpet", "grid")]
    first, second = (100 * found["image"]["auroc"]["value"] for found in figures)
    assert table.rows[0][1].startswith(f"{first:.1f}/")
    assert all("yardstick_note" in found for found in figures), "no class is shown without what costs nothing"
    assert table.rows[2][1].startswith(f"{(first + second) / 2:.1f}/")
    assert (tmp_path / "table.md").read_text().count("\n") == 5  # header, line, two classes, average
    assert (tmp_path / "carpet.html").is_file()
    bundles = [open_bundle(tmp_path / "bundles" / name / "published") for name in ("carpet", "grid")]
    unet = [bundle.path / "unet" / "diffusion_pytorch_model.safetensors" for bundle in bundles]
    assert unet[0].stat().st_ino == unet[1].stat().st_ino, "many bundles, one set of weights"

    other = PublishedWeights(weights.base, weights.dino, "other licences")
    with pytest.raises(ValueError, match=r"holds class carpet of another run.*give another --out"):
        reproduce(chosen, other, tmp_path, command="test", progress=silent, say=said.append, workers=1)

    said.clear()
    before = (tmp_path / "carpet.json").stat().st_mtime_ns
    again = reproduce(chosen, weights, tmp_path, command="test", progress=silent, say=said.append, workers=1)
    assert again == table
    assert (tmp_path / "carpet.json").stat().st_mtime_ns == before
    assert not any("importing" in line for line in said)


def test_a_damaged_record_of_the_last_class_shows_before_the_first_is_imported(
    plans: tuple[tuple[ReproductionPlan, ...], PublishedWeights], tmp_path: Path
) -> None:
    chosen, weights = plans
    (tmp_path / "grid.json").write_text('{"bundle": ', encoding="utf-8")
    with pytest.raises(ValueError, match=r"grid\.json is damaged .*: remove it, so that it is made anew"):
        reproduce(chosen, weights, tmp_path, command="test", progress=silent, say=lambda _: None, workers=1)
    assert not (tmp_path / "bundles").exists()
    outlook = published_outlook(chosen, weights, tmp_path, progress=silent, workers=1)
    assert [row[2] for row in outlook.classes.rows] == ["to do", "to do"]
    assert [problem.partition(" (")[0] for problem in outlook.problems] == [f"{tmp_path / 'grid.json'} is damaged"]


def test_the_average_is_the_mean_of_the_classes() -> None:
    def figures(value: float) -> dict[str, dict[str, dict[str, float]]]:
        return {
            "image": {key: {"value": value} for key in ("auroc", "ap", "f1_max")},
            "pixel": {key: {"value": value} for key in ("auroc", "ap", "f1_max", "pro", "aupimo")},
        }

    table = paper_table({"a": figures(0.9), "b": figures(0.8)})
    assert table.rows[-1] == ("average", "85.0/85.0/85.0", "85.0/85.0/85.0/85.0", "85.0")
