"""`glad bench peers`: what it says where anomalib is missing, and anomalib's real models where it is installed."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from bench.accuracy.peers import PeerStudy, TimeBudget, inspect_with
from bench.cli import app
from glad.memory_bank import coreset
from model_store.backbones.loading import load_backbone
from training.data.dataset import good_split
from training.progress import silent
from training.yardstick.patch_memory import YARDSTICK

real = pytest.mark.filterwarnings("default")
"""anomalib and Lightning warn of what they will change: that is no error of ours."""
MINUTES = 0.2


def said(*words: str) -> str:
    """What the command says when it gives up, as one line."""
    done = CliRunner().invoke(app, ["peers", *words])
    assert done.exit_code == 1, done.output
    assert "Traceback" not in done.output
    return done.output.replace("\n", " ")


def test_without_anomalib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for package in ("torchvision", "lightning", "anomalib"):
        monkeypatch.setitem(sys.modules, package, None)  # Python's way to say that there is none
    message = said("--data", str(tmp_path))
    assert "torchvision is not installed: pip install 'glad-inspect[peers]'" in message
    assert "must be the release that was built for the installed torch" in message


def test_a_torchvision_of_another_torch_is_named_as_the_cause(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "torchvision.py").write_text('raise RuntimeError("operator torchvision::nms does not exist")\n')
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    message = said("--data", str(tmp_path))
    assert "does not start (operator torchvision::nms does not exist): pip install 'glad-inspect[peers]'" in message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--models", "efficient_ad"], "give --teacher FILE, pretrained_teacher_small.pth"),
        (["--models", "efficient_ad", "--teacher", "there.pth"], "--photographs DIR"),
        (["--models", "patchcore,padim"], "choose of patchcore, draem, efficient_ad"),
    ],
)
def test_what_cannot_be_trained_is_said_in_a_sentence(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.pth").touch()
    assert message in said("--data", str(tmp_path), *words)


@pytest.fixture(scope="module")
def models() -> Any:
    """The module that imports anomalib; without it the test skips."""
    pytest.importorskip("torchvision", reason="pip install 'glad-inspect[peers]'")
    pytest.importorskip("anomalib.models", reason="pip install 'glad-inspect[peers]'")
    from bench.accuracy import peer_models

    return peer_models


def study(parts: Path, side: int, minutes: float) -> PeerStudy:
    """Ten good images to train on and five held out."""
    backbone = load_backbone(YARDSTICK.backbone).backbone.cut(4)
    using = YARDSTICK.model_copy(update={"side": side})
    return PeerStudy(good_split(parts, 0.2, 0), using, backbone, minutes)


def budget(seconds: float) -> TimeBudget:
    return TimeBudget(seconds, time.monotonic())


@real
@pytest.mark.timeout(600)
def test_the_command_measures_what_was_trained_in_its_time_and_names_what_was_not(
    models: Any, parts: Path, tmp_path: Path
) -> None:
    file = tmp_path / "peers.json"
    words = ["--data", str(parts), "--side", "64", "--minutes", str(MINUTES), "--json", str(file)]
    done = CliRunner().invoke(app, ["peers", *words])
    assert done.exit_code == 0, done.output
    assert "EfficientAD is left out" in done.output
    figures = json.loads(file.read_text())["figures"]
    assert list(figures["left_out"]) == ["efficient_ad"]
    names = [one["name"] for one in figures["methods"]]
    assert names == ["patch memory", "Gaussian per place", "PatchCore", "DRAEM"]
    memory, _, patchcore, draem = figures["methods"]
    # A tenth of ten images of 8×8 places.
    assert {name: patchcore["about"][name] for name in ("images", "patches", "coreset")} == {
        "images": 10,
        "patches": 640,
        "coreset": 64,
    }
    assert patchcore["image"]["auroc"]["value"] == 1.0  # a black square among noisy grey parts
    assert draem["about"]["steps"] >= 1
    assert draem["about"]["textures"] == "Perlin noise"
    assert draem["cost"]["train_seconds"] >= 60 * MINUTES
    for one in (patchcore, draem):
        assert (one["about"]["calibration"]["good_images"], one["about"]["calibration"]["kind"]) == (5, "held_out")
        assert sorted(one["scores"]) == sorted(memory["scores"])
        gap = figures["minus_yardstick"][one["name"]]["image_auroc"]["value"]
        assert gap == pytest.approx(one["image"]["auroc"]["value"] - memory["image"]["auroc"]["value"])


@real
@pytest.mark.timeout(600)
def test_efficient_ad_trains_from_a_teacher_in_a_file(models: Any, parts: Path, tmp_path: Path) -> None:
    teacher = tmp_path / "teacher.pth"
    torch.manual_seed(0)
    torch.save(models.EfficientAd(**models.BARE).model.teacher.state_dict(), teacher)
    given = study(parts, side=256, minutes=0.01)
    given = replace(given, split=replace(given.split, train=given.split.train[:3]))
    # Any folder of folders of pictures will do as photographs: the parts' own.
    sources = models.EfficientAdSources(teacher, parts / "test")
    trained = models.train_efficient_ad(given, silent, sources=sources)
    assert trained.settings["steps"] >= 1
    quantiles = trained.network.quantiles
    assert quantiles["qb_st"] > quantiles["qa_st"]
    weights = torch.load(teacher, weights_only=True)
    kept = trained.network.teacher.state_dict()
    assert all(torch.equal(kept[name], weights[name]) for name in weights)
    result = inspect_with(trained, given, given.split.calibration[0])
    # Of 32×24 pixels: three quarters of the square show the image, and its score is the largest value of the square.
    assert result.map is not None
    assert result.map.shape == (256, 256)
    assert np.isfinite(result.score)
    assert result.score >= result.map_peak


@real
def test_efficient_ad_refuses_what_it_cannot_learn_from(models: Any, parts: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(2)}, other)
    sources = models.EfficientAdSources(other, parts / "test")
    with pytest.raises(ValueError, match="at least 256 pixels"):
        models.train_efficient_ad(study(parts, side=64, minutes=0.01), silent, sources=sources)
    with pytest.raises(ValueError, match="does not hold EfficientAD's small teacher"):
        models.read_teacher(other)
    with pytest.raises(ValueError, match="holds no folder with images"):
        models.check_photographs(tmp_path)


@real
def test_a_picture_is_cut_off_where_a_normalised_exposure_goes_beyond(models: Any) -> None:
    assert models.as_picture(torch.tensor([-2.0, -1.0, 0.0, 1.0, 3.0])).tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]


@real
def test_a_coreset_ends_with_its_time(models: Any) -> None:
    patches = cloud(400)
    torch.manual_seed(0)
    assert len(models.choose_coreset(patches, 0.1, budget(3600.0), silent)) == 40
    assert len(models.choose_coreset(patches, 0.1, budget(0.0), silent)) == 1


@real
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_our_coreset_covers_a_cloud_as_well_as_anomalibs(models: Any, seed: int) -> None:
    patches = cloud(2000)
    torch.manual_seed(seed)
    np.random.seed(seed)
    theirs = models.KCenterGreedy(embedding=patches, sampling_ratio=0.05).select_coreset_idxs()
    ours = coreset(patches, 100, seed)
    assert len(set(theirs)) == len(ours) == 100
    # Both are greedy in a projection, of 64 and of 187 dimensions, and begin at other patches.
    assert cover(patches, ours) == pytest.approx(cover(patches, torch.tensor(theirs)), rel=0.1)
    drawn = torch.from_numpy(np.random.Generator(np.random.Philox(seed)).permutation(2000)[:100])
    assert cover(patches, ours) < cover(patches, drawn) / 2  # chance misses the far patches


def cloud(count: int) -> Tensor:
    """Patches of 152 channels that vary in 6 directions, some of them far out."""
    rng = np.random.Generator(np.random.Philox(1))
    points = rng.standard_t(4, (count, 6)) @ rng.normal(0, 1, (6, 152))
    return torch.from_numpy(points.astype(np.float32))


def cover(patches: Tensor, chosen: Tensor) -> float:
    """The largest distance of any patch to its nearest chosen one."""
    return float(torch.cdist(patches, patches[chosen]).min(dim=1).values.max())
