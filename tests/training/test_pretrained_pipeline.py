"""Tiny published models and a folder of good images become a calibrated bundle: every stage, LoRA, many classes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from accelerate import Accelerator
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file
from typer.testing import CliRunner

import glad_inspect
from model_store.bundle import Bundle, open_bundle
from model_store.checkpoints import ImportRefused
from model_store.manifest import calibration_digest
from tests.support.tiny_base import write_base, write_dino
from tests.support.tiny_recipe import TINY_PRETRAINED_TOML, TUNING_TABLES, draw_parts
from training.cli import train as cli
from training.package import Naming
from training.pipeline import train
from training.pretrained_recipe import PretrainedRecipe
from training.recipe_file import load_recipe
from training.training_run import read_records

pytestmark = pytest.mark.timeout(600)  # real trainings: slow where other work shares the machine

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with published models, the images of a part, and a recipe."""
    folder = tmp_path_factory.mktemp("pretrained")
    write_base(folder / "base")
    write_dino(folder / "dino")
    draw_parts(folder / "ramp")
    (folder / "tiny.toml").write_text(TINY_PRETRAINED_TOML, encoding="utf-8")
    return folder


def _recipe(place: Path, **changes: Any) -> PretrainedRecipe:
    content = {**tomllib.loads(TINY_PRETRAINED_TOML), "base": str(place / "base"), "dino": str(place / "dino")}
    return PretrainedRecipe.model_validate({**content, **changes})


def _train(recipe: PretrainedRecipe, place: Path, folder: Path) -> Bundle:
    return train(
        recipe, place / "ramp", folder / "run", folder / "bundle", Naming("ramp", "1"),
        command="glad train tiny", say=lambda _: None, workers=1,
    )  # fmt: skip


def _weights(bundle: Bundle, component: Any) -> dict[str, torch.Tensor]:
    return load_file(bundle.component(component) / "diffusion_pytorch_model.safetensors")


def _in_cache(folder: Path, repository: str, cache: Path) -> None:
    """Put a folder where the client of the hub keeps what it has downloaded."""
    kept = cache / f"models--{repository.replace('/', '--')}"
    (kept / "snapshots").mkdir(parents=True)
    shutil.copytree(folder, kept / "snapshots" / COMMIT)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text(COMMIT)


def test_models_of_the_hub_become_a_bundle_that_inspects_with_every_stage_trained(place: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    few = 'sensitivity = { per_cell = 1, images = 2, kinds = ["spot"] }'
    content = TINY_PRETRAINED_TOML.replace("sensitivity = { per_cell = 0 }", few)
    recipe.write_text(content + TUNING_TABLES, encoding="utf-8")
    _in_cache(place / "base", "acme/diffusion", tmp_path / "cache")
    _in_cache(place / "dino", "acme/dino", tmp_path / "cache")
    words = ["train", str(recipe), "--data", str(place / "ramp"), "--version", "1"]
    models = ["--set", "base=acme/diffusion", "--set", "dino=acme/dino"]
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "glad", *words, *models],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "stages: pairs, vae, latents, unet, reconstructions, dino, components, delta" in done.stdout
    bundle = open_bundle(tmp_path / "bundles/ramp/1")
    found = bundle.manifest
    assert (found.provenance.recipe["base"], found.provenance.recipe["dino"]) == ("acme/diffusion", "acme/dino")
    assert {component.licence for component in found.components.values()} == {"random weights"}
    assert found.thresholds.calibrated_for == calibration_digest(found.settings, found.components)
    assert found.settings.trigger.delta != 9.0
    assert {line["kind"] for line in found.quality["synthetic_sensitivity"]["lines"]} == {"spot"}
    condition = json.loads((bundle.component("condition") / "config.json").read_text(encoding="utf-8"))
    assert condition["prompt"] == "a photo of sks"
    published = UNet2DConditionModel.from_pretrained(place / "base" / "unet").state_dict()
    trained = _weights(bundle, "unet")
    assert all(not torch.equal(trained[name], weight.half()) for name, weight in published.items() if weight.ndim > 1)
    # Only the decoder was trained, so that the UNet knows the latents.
    before = AutoencoderKL.from_pretrained(place / "base" / "vae").state_dict()
    changed = {
        name for name, weight in _weights(bundle, "autoencoder").items() if not torch.equal(weight, before[name].half())
    }
    assert {name.partition(".")[0] for name in changed} <= {"decoder", "post_quant_conv"}
    records = read_records(tmp_path / "runs/ramp")
    assert all(records[name].finished for name in ("pairs", "vae", "latents", "unet", "dino", "components"))
    result = glad_inspect.load(bundle.path)(place / "ramp/test/hole/000.png")
    assert result.verdict in ("pass", "review", "fail")


@pytest.fixture(scope="module")
def adapted(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle of a training by LoRA."""
    return _train(_recipe(place, unet=LORA), place, tmp_path_factory.mktemp("lora"))


LORA = {"steps": 3, "batch": 4, "lora": {"rank": 2, "alpha": 6.0, "targets": ["to_q", "to_v"], "learning_rate": 1e-2}}


def test_lora_is_merged_into_the_bundles_weights_and_kept_as_a_small_file(place: Path, adapted: Bundle) -> None:
    published = UNet2DConditionModel.from_pretrained(place / "base" / "unet").state_dict()
    adapter = load_file(adapted.path.parent / "run/adapter/adapter_model.safetensors")
    expected = {name: weight.clone() for name, weight in published.items()}
    for name, down in adapter.items():
        if ".lora_A." in name:
            layer = name.removeprefix("base_model.model.").replace(".lora_A", "")
            up = adapter[name.replace(".lora_A.", ".lora_B.")]
            expected[layer] = published[layer] + 6.0 / 2 * up @ down  # W + alpha / rank B A
    assert len(adapter) == 2 * sum(name.endswith(("to_q.weight", "to_v.weight")) for name in published)
    found = _weights(adapted, "unet")
    for name, weight in found.items():
        torch.testing.assert_close(weight.float(), expected[name], atol=1e-3, rtol=1e-3)
        assert torch.equal(weight, published[name].half()) != name.endswith(("to_q.weight", "to_v.weight"))
    features = {name: component.content_hash for name, component in adapted.manifest.components.items()}
    assert set(features) == {"autoencoder", "unet", "features", "condition"}
    result = glad_inspect.load(adapted.path)(place / "ramp/test/good/000.png")
    assert result.verdict in ("pass", "review", "fail")


def test_an_interrupted_run_goes_on_to_the_same_bundle(
    place: Path, adapted: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, backward = 0, Accelerator.backward

    def interrupted(self: Accelerator, loss: Any, **others: Any) -> None:
        nonlocal taken
        taken += 1
        if taken == 3:  # the first half of the second step's batch
            signal.raise_signal(signal.SIGINT)
        backward(self, loss, **others)

    monkeypatch.setattr(Accelerator, "backward", interrupted)
    recipe = _recipe(place, unet=LORA)
    with pytest.raises(KeyboardInterrupt):
        _train(recipe, place, tmp_path)
    assert taken == 2 * 2
    shutil.rmtree(tmp_path / "run/pairs")  # the latents are there
    resumed = _train(recipe, place, tmp_path)
    assert taken == 3 * 2
    assert resumed.manifest.components == adapted.manifest.components
    assert resumed.manifest.settings == adapted.manifest.settings
    assert resumed.manifest.calibration == adapted.manifest.calibration


def test_classes_of_one_model_share_everything_but_their_prompts_and_thresholds(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("cable", "screw"):
        shutil.copytree(place / "ramp", tmp_path / "classes" / name)
    for name in ("base", "dino"):
        (tmp_path / name).symlink_to(place / name)
    lines = 'multi_class = true\nprompt = "a photo of sks{class}"\n'
    (tmp_path / "many.toml").write_text(lines + TINY_PRETRAINED_TOML, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command()(cli.train)
    words = ["many.toml", "--data", "classes", "--version", "1", "--set", "unet.steps=2"]
    refused = CliRunner().invoke(app, [*words, "--product", "cable"])
    assert "leave --product out" in " ".join(refused.output.split())
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    cable, screw = (open_bundle(tmp_path / "bundles" / name / "1") for name in ("cable", "screw"))
    shared = {
        name for name, one in cable.manifest.components.items()
        if one.content_hash == screw.manifest.components[name].content_hash
    }  # fmt: skip
    assert shared == {"autoencoder", "unet", "features"}
    prompts = [json.loads((one.component("condition") / "config.json").read_text())["prompt"] for one in (cable, screw)]
    assert prompts == ["a photo of skscable", "a photo of sksscrew"]
    assert cable.manifest.provenance.data["folder"] == "cable"
    # Said again, the command makes nothing anew.
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 0, again.output
    assert "bundles/screw/1 is there already" in " ".join(again.output.split())


def test_models_that_do_not_fit_are_refused_before_anything_long_begins(place: Path, tmp_path: Path) -> None:
    settings = {**tomllib.loads(TINY_PRETRAINED_TOML)["settings"], "score": {"layers": [1, 12]}}
    with pytest.raises(ValueError, match=r"names block \[12\]"):
        _train(_recipe(place, settings=settings), place, tmp_path)
    assert not (tmp_path / "run/pairs").exists()
    with pytest.raises(ImportRefused, match="scheduler_config"):
        _train(_recipe(place, base=str(tmp_path)), place, tmp_path / "other")


def test_targets_that_no_layer_has_are_told(place: Path, tmp_path: Path) -> None:
    lora = {"steps": 1, "batch": 2, "lora": {"targets": ["to_z"]}}
    with pytest.raises(ValueError, match=r"unet.lora.targets are to_z, and no layer .* such as to_q"):
        _train(_recipe(place, unet=lora), place, tmp_path)


def test_published_weights_without_a_table_are_calibrated_as_they_are(place: Path, tmp_path: Path) -> None:
    bundle = _train(_recipe(place, unet=None), place, tmp_path)
    published = UNet2DConditionModel.from_pretrained(place / "base" / "unet").state_dict()
    assert all(torch.equal(weight, published[name].half()) for name, weight in _weights(bundle, "unet").items())
    assert bundle.manifest.calibration is not None
    assert not (tmp_path / "run/latents").exists()


def test_a_shipped_recipe_takes_the_published_settings_of_the_data_folders_class() -> None:
    recipe = load_recipe("mvtec-ad", ("settings.guidance=1", "unet.lora.rank=4"), Path("mvtec/capsule"))
    assert isinstance(recipe, PretrainedRecipe)
    assert (recipe.settings.start, recipe.settings.t_min, recipe.settings.steps) == (600, 350, 25)
    assert recipe.settings.guidance == 1
    assert recipe.settings.trigger.calibrated_for is None  # the published delta belongs to guidance 9
    assert recipe.prompt == "a photo of sks"
    assert recipe.unet is not None
    assert (recipe.unet.anomaly_weight, recipe.unet.learning_rate, recipe.unet.batch) == ("t/1000", 5e-6, 32)
