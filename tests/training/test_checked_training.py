"""`glad train --dry-run` and the recipe my-product: what is planned, why, and that nothing is trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner

from tests.support.photographed_parts import photograph_parts
from tests.support.tiny_recipe import TINY_FEATURE_TOML, TINY_RECIPE, TINY_TOML, draw_parts
from training.cli import train as cli
from training.needed_resources import Need, free_memory, pair_bytes
from training.recipe_file import load_recipe
from training.training_run import expected_seconds
from training.tried_steps import try_stages

Train = Callable[..., Any]


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Calls `glad train` in an empty working folder with two tiny recipes."""
    (tmp_path / "tiny.toml").write_text(TINY_TOML, encoding="utf-8")
    (tmp_path / "features.toml").write_text(TINY_FEATURE_TOML, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command()(cli.train)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def test_a_dry_run_prints_the_plan_and_writes_nothing(train: Train, tmp_path: Path) -> None:
    draw_parts(tmp_path / "ramp")
    before = sorted(tmp_path.rglob("*"))
    done = train("features.toml", "--data", "ramp", "--version", "1", "--dry-run")
    assert done.exit_code == 0, done.output
    assert "images: 10 to train on; calibration on 5 images of calibration/good; 5 labelled ones to test" in done.output
    assert "15 good images show 15 parts" in done.output
    assert "size: 32×24" in done.output
    # 1 - 0.98 takes 49 parts on average (49 / 50 = 0.98).
    assert "2 % false rejects cannot be promised; expect up to 16.7 %" in done.output
    assert (
        "49 parts would be needed. Where a share of 0.2 is held out, that takes 245 good parts in all." in done.output
    )
    assert all(f". {name}, " in done.output for name in ("pairs", "unet", "decoder"))
    assert "bundles/ramp/1: the bundle" in done.output
    assert "nothing was trained; nothing stands in the way" in done.output
    assert sorted(tmp_path.rglob("*")) == before


def test_the_plan_as_json_names_what_was_tried_and_is_nothing_but_json(train: Train, tmp_path: Path) -> None:
    draw_parts(tmp_path / "ramp")
    done = train("tiny.toml", "--data", "ramp", "--dry-run", "--json")
    assert done.exit_code == 0, done.output
    plan = json.loads(done.stdout)
    assert (plan["recipe"], plan["images"]["train"], plan["promise"]["needed"]) == ("tiny", 10, 49)
    assert set(plan["stage_seconds"]) == {"autoencoder", "unet", "features"}
    assert plan["problems"] == []
    alone = train("tiny.toml", "--data", "ramp", "--json")
    assert alone.exit_code == 1
    assert "--json prints the plan of a --dry-run" in alone.output


def test_a_dry_run_of_what_would_fail_says_why_and_ends_with_1(train: Train, tmp_path: Path) -> None:
    draw_parts(tmp_path / "ramp")
    run = tmp_path / "runs/ramp"
    run.mkdir(parents=True)
    (run / "run.json").write_text('{"recipe": {"name": "another"}, "images": ""}', encoding="utf-8")
    done = train("tiny.toml", "--data", "ramp", "--dry-run")
    assert done.exit_code == 1
    assert "problem: runs/ramp holds a run with another recipe and other images:" in done.output
    assert "nothing was trained; it would fail" in done.output
    broken = tmp_path / "ramp/train/good/003.png"
    broken.write_bytes(broken.read_bytes()[:-200])
    done = train("tiny.toml", "--data", "ramp", "--dry-run")
    assert (done.exit_code, "003.png" in done.output) == (1, True)


def test_a_batch_that_does_not_fit_is_a_problem_that_says_what_to_lower(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_parts(tmp_path / "ramp")

    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("Tried to allocate 40 GiB")

    monkeypatch.setattr(torch.Tensor, "backward", full)  # as a device without room for the gradients
    done = train("features.toml", "--data", "ramp", "--dry-run")
    assert done.exit_code == 1
    assert "a step of the stage unet with unet.batch 2 does not fit into the memory of the device" in done.output
    assert "training.accumulate higher" in done.output


def test_a_training_keeps_its_plan_and_tells_the_warnings_before_it_begins(train: Train, tmp_path: Path) -> None:
    photograph_parts(tmp_path / "parts/train/good", parts=6, times=3, side=64)
    done = train("tiny.toml", "--data", "parts", "--version", "1")
    assert done.exit_code == 0, done.output
    assert "look like several photographs of one part" in done.output
    plan = json.loads((tmp_path / "runs/parts/plan.json").read_text(encoding="utf-8"))
    assert any("several photographs" in warning for warning in plan["warnings"])
    assert (plan["product"], plan["version"], plan["resumes"]) == ("parts", "1", False)
    assert expected_seconds(tmp_path / "runs/parts") == plan["stage_seconds"]


def test_steps_that_are_tried_leave_the_training_as_it_was() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    tried = try_stages(TINY_RECIPE)
    assert torch.equal(torch.rand(3), expected)
    assert [stage.name for stage in tried] == ["autoencoder", "unet", "features"]
    assert all(stage.checkpoint_bytes > 0 for stage in tried)


def test_what_is_needed_is_held_against_what_is_free() -> None:
    # 12 pairs of two pictures and two masks of 32 x 32.
    assert pair_bytes(TINY_RECIPE) == 12 * (2 * 3 + 2) * 32 * 32
    assert free_memory() > 0
    enough = Need(what="memory", bytes=2**30, free_bytes=2**30, because="pairs 1.0 GiB")
    assert enough.problem is None
    short = enough.model_copy(update={"free_bytes": 2**29}).problem
    assert short is not None
    assert short.startswith("about 1.0 GiB of memory are needed (pairs 1.0 GiB), 0.5 GiB are free")


def test_my_product_is_light_with_what_the_images_propose_as_a_file_to_edit(train: Train, tmp_path: Path) -> None:
    photograph_parts(tmp_path / "parts/train/good", parts=12, times=1, side=48)
    (tmp_path / "parts/groups.csv").write_text("file,part_group\n", encoding="utf-8")
    tiny = ("synthesis.pairs=12", "unet.steps=1", "decoder.steps=1", "unet.widths=[16, 16]")
    small = ("settings.resolution=64", "memory.patches=200", "latent.channels=24", "memory.searched=24")
    changes = [word for change in (*tiny, *small) for word in ("--set", change)]
    words = ("my-product", "--data", "parts", "--no-export", *changes)
    done = train(*words, "--version", "1")
    assert done.exit_code == 0, done.output
    assert "framing: images of 48×48 are scaled whole into the square" in done.output
    assert "matching window: none, because the parts do not lie alike" in done.output
    assert "groups: as the groups file says" in done.output
    file = tmp_path / "runs/parts/recipe.toml"
    written, light = load_recipe(str(file)), load_recipe("light")
    assert (written.name, written.settings.resolution) == ("my-product", 64)
    assert written.settings.trigger == light.settings.trigger  # what was not proposed stays light's
    assert "# framing: images of 48×48 are scaled whole" in file.read_text("utf-8")
    file.write_text(file.read_text("utf-8").replace("start = 180", "start = 160"), encoding="utf-8")
    refused = train(*words, "--version", "2")
    assert refused.exit_code == 1
    assert "runs/parts/recipe.toml differs from what the images propose now: give it as the recipe" in refused.output


def test_a_smallest_defect_is_asked_of_my_product_alone(train: Train, tmp_path: Path) -> None:
    draw_parts(tmp_path / "ramp")
    done = train("tiny.toml", "--data", "ramp", "--smallest-defect", "5", "--dry-run")
    assert done.exit_code == 1
    assert "--smallest-defect is for the recipe my-product" in done.output
    done = train("my-product", "--data", "ramp", "--smallest-defect", "0", "--dry-run")
    assert "give its size in pixels, at least 1" in done.output
