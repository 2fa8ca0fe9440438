"""Autoencoder, denoiser and features of the pixel form, each trained alone on those before it in one run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import typer
from accelerate import Accelerator
from typer.testing import CliRunner

from tests.support.tiny_recipe import TINY_RECIPE, TINY_TOML, draw_parts
from training.cli.finetune import finetune
from training.data.dataset import DataError, good_split
from training.pipeline import train_components
from training.run_identity import RunMismatch
from training.single_stage import StageName, finetune_alone
from training.training_run import TrainingRun

STAGES = {"vae": "autoencoder", "unet": "unet", "features": "features"}
"""The stages, in order, each with the bundle's component that it makes."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The networks of a whole training, in its own run, as they go into the bundle."""
    run = TrainingRun(tmp_path_factory.mktemp("whole"))
    train_components(TINY_RECIPE, good_split(data, TINY_RECIPE.calibration.holdout, TINY_RECIPE.seed), run, workers=1)
    return run.folder / "components"


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run of all stages, and what they made."""
    folder = tmp_path_factory.mktemp("alone")
    for stage in STAGES:
        _finetune(stage, data, folder / "run", folder / stage)
    return folder


def _finetune(stage: str, data: Path, run: Path, out: Path, **others: Any) -> None:
    recipe = others.pop("recipe", TINY_RECIPE)
    finetune_alone(StageName(stage), recipe, data, TrainingRun(run), out, workers=1, **others)


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(("stage", "component"), STAGES.items())
def test_a_network_trained_alone_is_that_of_the_whole_training(
    stage: str, component: str, alone: Path, whole: Path
) -> None:
    assert len(_content(alone / stage)) == 2  # its configuration and its weights
    assert _content(alone / stage) == _content(whole / component)


def test_a_whole_training_goes_on_from_stages_that_were_run_alone(
    alone: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("a step was taken again")

    monkeypatch.setattr(Accelerator, "backward", refused)
    run = TrainingRun(shutil.copytree(alone / "run", tmp_path / "run"))
    components = run.folder / "components"
    train_components(TINY_RECIPE, good_split(data, TINY_RECIPE.calibration.holdout, TINY_RECIPE.seed), run, workers=1)
    for stage, component in STAGES.items():
        assert _content(components / component) == _content(alone / stage)


def test_a_stage_without_those_before_it_is_refused_and_nothing_is_written(
    alone: Path, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"unet of the recipe 'tiny' stands on its stage vae, and .*run holds no fin"):
        _finetune("unet", data, tmp_path / "run", tmp_path / "made")
    shutil.copytree(alone / "run", tmp_path / "begun")
    shutil.rmtree(tmp_path / "begun" / "stages" / "unet")
    with pytest.raises(ValueError, match=r"run `glad finetune unet` first, with the same recipe, images and --run"):
        _finetune("features", data, tmp_path / "begun", tmp_path / "made")
    longer = TINY_RECIPE.model_copy(update={"unet": TINY_RECIPE.unet.model_copy(update={"steps": 9})})
    with pytest.raises(RunMismatch, match=r"unet.steps was 4 and is 9 now"):
        _finetune("features", data, tmp_path / "begun", tmp_path / "made", recipe=longer)
    with pytest.raises(ValueError, match="--vae cannot be used with the recipe 'tiny': its stages stand on those that"):
        _finetune("unet", data, alone / "run", tmp_path / "made", vae=alone / "vae")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["begun"]


def test_what_would_stop_a_stage_at_its_end_is_said_at_its_beginning(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"made cannot be written: .*file is a file, where a folder is needed"):
        _finetune("vae", data, tmp_path / "run", tmp_path / "file" / "made")
    broken = shutil.copytree(data, tmp_path / "broken")
    for name in ("003.png", "004.png"):
        image = broken / "train/good" / name
        image.write_bytes(image.read_bytes()[:200])  # the header alone is whole
    with pytest.raises(DataError, match=r"(?s)2 of 15 images cannot be read:.*003.png.*004.png"):
        _finetune("vae", broken, tmp_path / "run", tmp_path / "made")
    assert not (tmp_path / "run").exists()  # it belongs to no images: mended ones are no others


def test_the_command_shares_the_run_of_the_whole_training(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(TINY_TOML, encoding="utf-8")
    app = typer.Typer()
    app.command()(finetune)
    done = CliRunner().invoke(app, ["vae", "tiny.toml", "--data", str(data), "--out", "made/vae"])
    assert done.exit_code == 0, done.output
    assert "stage 2 of 2: autoencoder" in done.output
    assert f"glad train tiny.toml --data {data} --run runs/{data.name}" in done.output
    assert Path("made/vae/config.json").is_file()
