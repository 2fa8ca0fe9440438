"""Each stage of a recipe for published models, alone: its folder is imported in the place of the base's network."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from safetensors.torch import load_file
from typer.testing import CliRunner

from model_store.engines.torch import load_models
from model_store.importing.bundle import ImportSpec, Origins, import_bundle
from tests.support.tiny_base import write_base, write_dino
from tests.support.tiny_recipe import SMALL_TABLE, TINY_PRETRAINED_TOML, TUNING_TABLES, draw_parts
from training.cli.finetune import STAGES, finetune
from training.data.dataset import good_split
from training.pipeline import make_run_pairs
from training.pretrained_pipeline import ClassImages, finetune_published, pretrained_stages
from training.pretrained_recipe import PretrainedRecipe
from training.recipe_file import load_recipe
from training.single_stage import StageName, finetune_alone, stages_alone
from training.training_run import TrainingRun

Glad = Callable[..., Any]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base, DINO, good images and the recipe."""
    folder = tmp_path_factory.mktemp("workplace")
    write_base(folder / "base")
    write_dino(folder / "dino")
    draw_parts(folder / "parts")
    (folder / "tiny.toml").write_text(TINY_PRETRAINED_TOML + TUNING_TABLES + SMALL_TABLE, encoding="utf-8")
    return folder


@pytest.fixture
def glad(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Glad:
    monkeypatch.chdir(workplace)

    def call(*words: object) -> Any:
        app = typer.Typer()
        app.command()(finetune)
        return CliRunner().invoke(app, [str(word) for word in words])

    return call


def test_every_stage_runs_alone_and_what_they_make_becomes_a_bundle(
    workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    recipe = load_recipe("tiny.toml", (), Path("parts"))
    assert isinstance(recipe, PretrainedRecipe)
    made: dict[str, Path] = {}
    for stage in stages_alone(recipe):  # each stands on those before
        run, given = TrainingRun(tmp_path / "runs" / stage), {name: made.get(name) for name in ("vae", "unet")}
        made[stage] = finetune_alone(stage, recipe, Path("parts"), run, tmp_path / stage, workers=1, **given)
    for name in ("vae", "small", "dino"):
        choice = json.loads((made[name] / "choice.json").read_text(encoding="utf-8"))
        assert choice["rule"]
        assert len(choice["measured"]) >= 2
    origins = Origins("base", "dino", unet=made["unet"], vae=made["small"], features=made["dino"])
    spec = ImportSpec("part", "1", recipe.settings, recipe.prompt, recipe.licence)
    bundle = import_bundle(tmp_path / "part" / "1", origins, spec, command="test", say=lambda _: None)
    assert bundle.manifest.components["autoencoder"].kind == "autoencoder_tiny"
    latents = load_models(bundle).autoencoder.encode(torch.zeros(1, 3, 64, 64))
    assert latents.shape == (1, 4, 8, 8)


def test_a_recipe_with_a_small_autoencoder_puts_it_into_the_bundle(
    workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    (tmp_path / "small.toml").write_text(TINY_PRETRAINED_TOML + SMALL_TABLE, encoding="utf-8")
    recipe = load_recipe(str(tmp_path / "small.toml"), (), Path("parts"))
    assert isinstance(recipe, PretrainedRecipe)
    recipe = recipe.model_copy(update={"unet": None})
    split = good_split(Path("parts"), recipe.calibration.holdout, recipe.seed)
    run = TrainingRun(tmp_path / "run", pretrained_stages(recipe))
    images = ClassImages("", recipe, partial(make_run_pairs, recipe, split, 1, run.folder), split, 1)
    made = finetune_published([images], run)[0]
    assert run.stages == ("pairs", "small_autoencoder", "components")
    assert made["autoencoder"].kind == "autoencoder_tiny"
    kept = load_file(run.folder / "finetuned" / "small" / "diffusion_pytorch_model.safetensors")
    stored = load_file(made["autoencoder"].folder / "diffusion_pytorch_model.safetensors")
    assert kept.keys() == stored.keys()
    assert all(torch.equal(kept[name], weight) for name, weight in stored.items())


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("paint", "tiny.toml"), "stage is 'paint'; use one of vae, unet, small, dino, decoder,"),
        (("dino", "nano"), "recipe 'nano' has no stage dino; it has vae, unet, features"),
        (("decoder", "nano"), "recipe 'nano' has no stage decoder; it has vae, unet, features"),
        (("small", "nano"), "recipe 'nano' has no stage small; it has vae, unet, features"),
        (
            ("unet", "nano"),
            "the stage unet of the recipe 'nano' stands on its stage vae, and runs/parts holds no finished",
        ),
        (("decoder", "tiny.toml"), "recipe 'tiny-pretrained' has no stage decoder; it has vae, unet, small, dino"),
        (("vae", "light"), "recipe 'light' has no stage vae; it has unet, decoder"),
        (("unet", "light", "--vae", "base/vae"), "--vae cannot be used with the recipe 'light': its stages stand on a"),
        (("small", "tiny.toml", "--set", "small.steps=0"), "small.steps"),
        (("vae", "visa"), "visa"),
    ],
)
def test_what_cannot_run_is_refused_with_the_way_out(glad: Glad, words: tuple[str, ...], complaint: str) -> None:
    done = glad(*words, "--data", "parts", "--out", "never")
    assert done.exit_code != 0
    assert complaint in " ".join(done.output.split())
    assert not Path("never").exists()


def test_the_command_knows_every_stage() -> None:
    assert tuple(StageName) == STAGES


def test_a_stage_that_the_recipe_does_not_describe_is_refused(glad: Glad, workplace: Path) -> None:
    (workplace / "without.toml").write_text(TINY_PRETRAINED_TOML, encoding="utf-8")
    done = glad("small", "without.toml", "--data", "parts", "--out", "never")
    said = " ".join(done.output.split())
    assert "has no table [small], which describes the stage small; it has unet; add the table, or choose" in said


def test_a_run_that_stands_on_another_checkpoint_is_refused(glad: Glad, workplace: Path, tmp_path: Path) -> None:
    vae = workplace / "base" / "vae"
    words = ("unet", "tiny.toml", "--data", "parts", "--run", tmp_path / "run")
    assert glad(*words, "--out", tmp_path / "first").exit_code == 0
    done = glad(*words, "--out", tmp_path / "second", "--vae", vae)
    assert done.exit_code != 0
    assert "begun with another --vae: give the same as then" in " ".join(done.output.split())
    other = glad("dino", *words[1:], "--out", tmp_path / "second")
    assert "holds the run of the stage unet, and dino is asked for" in " ".join(other.output.split())
