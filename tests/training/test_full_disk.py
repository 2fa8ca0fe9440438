"""A disk that is full in the middle of a training: said in words, and nothing done is lost."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from model_store.bundle import Bundle
from tests.support.tiny_recipe import TINY_RECIPE, draw_parts
from training.package import Naming
from training.pipeline import train
from training.training_run import read_records


@contextmanager
def _files_of_at_most(kib: int) -> Iterator[None]:
    """Let no file become larger: as a full disk does, it stops whoever writes the first large one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kib << 10, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _train(data: Path, run: Path, target: Path, said: list[str]) -> Bundle:
    return train(TINY_RECIPE, data, run, target, Naming("part", "1"), command="", say=said.append, workers=1)


def test_a_training_that_a_full_disk_stopped_says_so_and_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    data, run = draw_parts(tmp_path / "parts"), tmp_path / "run"
    unbroken = _train(data, tmp_path / "other", tmp_path / "unbroken", [])
    # The checkpoint of the autoencoder takes 112 KiB, a component of the bundle 160, the checkpoint of the UNet 300.
    for kib, stage in ((100, "autoencoder"), (250, "unet")):
        with _files_of_at_most(kib), pytest.raises(OSError, match=r"a file became larger than this user's") as stopped:
            _train(data, run, tmp_path / "bundle", [])
        assert f"MiB are free at {run}" in str(stopped.value)
        assert str(stopped.value).endswith("Free some space; the same command goes on from there")
        assert [name for name, one in read_records(run).items() if not one.finished] == [stage]
    said: list[str] = []
    bundle = _train(data, run, tmp_path / "bundle", said)
    assert "stage 2 of 10: autoencoder, finished before" in said
    for name, component in unbroken.manifest.components.items():
        assert bundle.manifest.components[name].files == component.files
