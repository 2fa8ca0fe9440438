"""Checkpoints: whole or not at all, some deep, and never a step back further than the disk was damaged."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.training_utils import EMAModel

from tests.support.toy_training import BATCH, STEPS, ToyTraining, ctrl_c
from training.finetune.checkpoints import Checkpoint, CheckpointFolder
from training.finetune.stage import learning_rate_at
from training.recipe import LoopRecipe
from training.training_run import StageError

EACH_STEP = LoopRecipe(checkpoint_every_s=0)


def a_checkpoint(position: int) -> Checkpoint:
    return Checkpoint(position, {"model": {"weight": torch.full((1000,), float(position))}}, {"note": position})


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "stage", keep=2)
    shared = torch.arange(4.0)
    tensors = {"model": {"turned": torch.arange(6.0).reshape(2, 3).T}, "optimizer": {"a": shared, "b": shared}}
    folder.write(Checkpoint(3, tensors, {"steps": 5, "scale": 0.1}))
    found = folder.read()
    assert found is not None
    assert (found.position, found.values) == (3, {"steps": 5, "scale": 0.1})
    for group, named in tensors.items():
        for name, tensor in named.items():
            assert torch.equal(found.tensors[group][name], tensor)
    assert {path.suffix for path in (tmp_path / "stage").rglob("*") if path.is_file()} == {".safetensors", ".json"}


def test_the_last_checkpoints_stay(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=2)
    for position in (1, 2, 10):
        folder.write(a_checkpoint(position))
    assert [path.name for path in folder.found()] == ["step-00000010", "step-00000002"]


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("model.safetensors", _cut),
        ("model.safetensors", _flip),
        ("model.safetensors", Path.unlink),
        ("state.json", _cut),
        ("state.json", Path.unlink),
    ],
)
def test_a_damaged_checkpoint_gives_way_to_the_one_before_with_a_warning(tmp_path: Path, name: str, harm: Any) -> None:
    folder = CheckpointFolder(tmp_path, keep=2)
    folder.write(a_checkpoint(1))
    harm(folder.write(a_checkpoint(2)) / name)
    with pytest.warns(UserWarning, match="step-00000002 is damaged .* the one before it is used"):
        found = folder.read()
    assert found is not None
    assert found.position == 1
    folder.write(a_checkpoint(2))  # the step is taken again, and takes the damaged one's place
    again = folder.read()
    assert again is not None
    assert again.position == 2


def test_a_crash_while_saving_keeps_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = CheckpointFolder(tmp_path, keep=1)
    folder.write(a_checkpoint(4))

    def full(path: Path, *args: Any, **kwargs: Any) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="no space left"):
            folder.write(a_checkpoint(5))
    found = folder.read()
    assert found is not None
    assert found.position == 4
    folder.write(a_checkpoint(5))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000005"]  # the broken draft is gone


def test_a_finished_stage_keeps_its_weights_without_the_optimizers_memory(tmp_path: Path) -> None:
    ToyTraining(tmp_path, EACH_STEP).run()
    last, before = CheckpointFolder(tmp_path / "stages/toy", keep=2).found()
    assert {path.name for path in last.iterdir()} == {"model.safetensors", "average.safetensors", "state.json"}
    assert (before / "optimizer.safetensors").is_file()


def _former_run(path: Path, steps: int) -> None:
    """Train the toy as the loops before these did, and leave their checkpoint."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    draws = ToyTraining(path.parent / "draws").stage
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=1e-4)
    average = EMAModel(model.parameters(), decay=0.9, use_ema_warmup=True, power=0.75)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, STEPS, 0.1)
        inputs = torch.randn(BATCH, 3, generator=draws.generator(step))
        targets = torch.stack([inputs.sum(1), inputs.prod(1)], 1)
        (model(inputs) - targets).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.step(model.parameters())
    parts = {"model": model, "optimizer": optimizer, "average": average}
    torch.save({**{name: part.state_dict() for name, part in parts.items()}, "position": steps}, path)


def test_a_checkpoint_of_an_earlier_version_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    _former_run(tmp_path / "toy.ckpt", steps=5)
    toy = ToyTraining(tmp_path)
    assert toy.stage.position == 5
    unbroken = ToyTraining(tmp_path / "unbroken").run()
    assert all(torch.equal(weight, unbroken[name]) for name, weight in toy.run().items())


def test_a_damaged_checkpoint_of_an_earlier_version_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "toy.ckpt").write_bytes(b"PK, and then nothing")
    with pytest.raises(StageError, match=r"toy\.ckpt, a checkpoint that an earlier version wrote, cannot be read"):
        ToyTraining(tmp_path)


def test_a_checkpoint_of_another_loop_than_the_recipes_is_still_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        ToyTraining(tmp_path).run(4, ctrl_c)
    toy = ToyTraining(tmp_path, LoopRecipe(accumulate=2, precision="bf16"))
    assert toy.stage.position == 5
    toy.run()
    assert toy.taken == list(range(5, STEPS))
