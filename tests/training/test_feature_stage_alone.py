"""Denoiser and decoder of the feature form, each trained alone: the whole training's, to the bit, and its beginning."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from accelerate import Accelerator
from typer.testing import CliRunner

from model_store.pretrained import load_pretrained
from tests.support.processes import entered_by_another_thread
from tests.support.tiny_recipe import TINY_FEATURE_RECIPE, TINY_FEATURE_TOML, draw_parts
from training.cli.finetune import finetune
from training.data.dataset import good_split
from training.feature_pipeline import NETWORKS, with_backbone_mean
from training.package import Naming
from training.pipeline import train, train_components
from training.run_identity import RunMismatch
from training.run_lock import RunInUse, locked_run
from training.single_stage import StageName, finetune_alone
from training.training_run import TrainingRun, read_records

ROOT = Path(__file__).parents[2]
KILLED = """
import os, signal, sys
from pathlib import Path
from accelerate import Accelerator
from tests.support.tiny_recipe import TINY_FEATURE_RECIPE
from training.recipe import LoopRecipe
from training.single_stage import StageName, finetune_alone
from training.training_run import TrainingRun

taken, backward = 0, Accelerator.backward


def killed(self, loss, **others):
    global taken
    taken += 1
    if taken == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    backward(self, loss, **others)


Accelerator.backward = killed
recipe = TINY_FEATURE_RECIPE.model_copy(update={"training": LoopRecipe(checkpoint_every_s=0)})
finetune_alone(StageName.UNET, recipe, Path(sys.argv[1]), TrainingRun(Path("run")), Path("unet"), workers=1)
"""
"""Checkpoints after each step, and is killed in the third."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The networks of a whole training, in its own run, as they go into the bundle."""
    recipe = with_backbone_mean(TINY_FEATURE_RECIPE)
    run = TrainingRun(tmp_path_factory.mktemp("whole"))
    train_components(recipe, good_split(data, recipe.calibration.holdout, recipe.seed), run, workers=1)
    return run.folder / "components"


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run of both stages, the last of the recipe first, and what they made."""
    folder = tmp_path_factory.mktemp("alone")
    for stage in reversed(NETWORKS):
        _finetune(StageName(stage), data, folder / "run", folder / stage)
    return folder


def _finetune(stage: StageName, data: Path, run: Path, out: Path, **others: Any) -> None:
    recipe = others.pop("recipe", TINY_FEATURE_RECIPE)
    finetune_alone(stage, recipe, data, TrainingRun(run, **others), out, workers=1)


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("stage", NETWORKS)
def test_a_network_trained_alone_is_that_of_the_whole_training(stage: str, alone: Path, whole: Path) -> None:
    assert sorted(_content(alone / stage)) == ["config.json", "diffusion_pytorch_model.safetensors"]
    assert _content(alone / stage) == _content(whole / stage)


def test_what_a_stage_alone_makes_is_loaded_as_a_component_of_a_bundle(alone: Path) -> None:
    """The recipe models 8 of 24 channels, and 2 x 2 places as one."""
    unet, decoder = (load_pretrained(kind, alone / stage, torch.float32) for stage, kind in NETWORKS.items())
    assert unet.config.in_channels == unet.config.out_channels == 8 * 2 * 2
    assert decoder.config.latent_channels == 24


def test_a_whole_training_goes_on_from_stages_that_were_run_alone(
    alone: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("a step was taken again")

    monkeypatch.setattr(Accelerator, "backward", refused)
    lines: list[str] = []
    made = train(
        TINY_FEATURE_RECIPE, data, alone / "run", tmp_path / "bundle", Naming("part", "1"),
        command="glad train tiny-feature", say=lines.append, workers=1,
    )  # fmt: skip
    assert [line.partition(": ")[2] for line in lines if line.endswith("finished before")] == [
        "unet, finished before",
        "decoder, finished before",
    ]
    for stage in NETWORKS:
        assert _content(made.path / stage) == _content(alone / stage)


def test_a_stage_that_was_killed_resumes_to_the_same_weights(
    whole: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, backward = 0, Accelerator.backward

    def counted(self: Accelerator, loss: Any, **others: Any) -> None:
        nonlocal taken
        taken += 1
        backward(self, loss, **others)

    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(data)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "unet").exists()
    monkeypatch.setattr(Accelerator, "backward", counted)
    (tmp_path / "unet.tmp").mkdir()
    (tmp_path / "unet.tmp" / "half").write_text("what a kill while the network was saved would leave")
    _finetune(StageName.UNET, data, tmp_path / "run", tmp_path / "unet")
    assert taken == 2  # of 4; the other two were checkpointed
    assert read_records(tmp_path / "run")["unet"].resumed == 1
    assert _content(tmp_path / "unet") == _content(whole / "unet")


def test_a_run_of_another_recipe_is_refused_and_nothing_is_written(alone: Path, data: Path, tmp_path: Path) -> None:
    longer = TINY_FEATURE_RECIPE.model_copy(
        update={"decoder": TINY_FEATURE_RECIPE.decoder.model_copy(update={"steps": 9})}
    )
    with pytest.raises(RunMismatch, match=r"holds a run with another recipe:\n  decoder.steps was 3 and is 9 now"):
        _finetune(StageName.DECODER, data, alone / "run", tmp_path / "decoder", recipe=longer)
    assert not (tmp_path / "decoder").exists()


def test_a_stage_is_refused_in_a_run_that_another_training_holds(alone: Path, data: Path, tmp_path: Path) -> None:
    with entered_by_another_thread(locked_run(alone / "run")), pytest.raises(RunInUse):
        _finetune(StageName.UNET, data, alone / "run", tmp_path / "unet")
    assert not (tmp_path / "unet").exists()


def test_the_command_says_where_it_stands_and_how_the_bundle_is_made(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(TINY_FEATURE_TOML, encoding="utf-8")
    app = typer.Typer()
    app.command()(finetune)
    words = ["decoder", "tiny.toml", "--data", str(data), "--out", "made/decoder", "--set", "decoder.steps=2"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    run = f"runs/{data.name}-decoder"
    assert "stage 3 of 3: decoder" in done.output
    assert f"glad train tiny.toml --data {data} --run {run} --set decoder.steps=2" in done.output
    assert Path("made/decoder/config.json").is_file()
    again = CliRunner().invoke(app, words)
    assert again.exit_code != 0
    assert "made/decoder is there already: choose another folder, or remove it" in " ".join(again.output.split())
