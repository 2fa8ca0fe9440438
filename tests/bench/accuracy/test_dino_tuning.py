"""What is measured of DINO's fine-tuning: the published network beside the tuned one, on every test image."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from bench.accuracy.dino_tuning import (
    PUBLISHED,
    DinoTuningPlan,
    evenly,
    read_by_memory,
    read_by_reconstruction,
    tune_networks,
)
from bench.accuracy.yardstick_figures import DetectorResult
from model_store.backbones.vit import VitBackbone
from tests.support.tiny_recipe import draw_parts
from tests.support.tiny_vit import tiny_vit
from training.data.dataset import good_split, open_dataset
from training.pretrained_recipe import DinoFinetuneRecipe
from training.progress import silent
from training.training_run import TrainingRun

PLAN = DinoTuningPlan(
    stand_in=(
        "settings.resolution=32", "synthesis.pairs=8", "autoencoder.steps=1", "autoencoder.batch=1",
        "autoencoder.crop=32", "unet.widths=[16, 16]", "unet.steps=1", "unet.batch=1",
    ),
    recipe=DinoFinetuneRecipe(side=32, blocks=(1, 3), epochs=1, batch=2, learning_rate=3e-3, anomalies=12),
    images=4,
    memory_levels=(1, 3),
)  # fmt: skip


def scores(result: DetectorResult) -> list[float]:
    return [image.score for image in result.images]


def test_both_reads_see_every_test_image_with_the_published_and_with_the_tuned_network(tmp_path: Path) -> None:
    data, network = draw_parts(tmp_path / "parts"), VitBackbone(tiny_vit("dinov2"))
    published = copy.deepcopy(network).state_dict()
    images, split = open_dataset(data).test, good_split(data, 0.2, 0)
    tuned = tune_networks(network, split, PLAN, TrainingRun(tmp_path / "run"))
    assert list(tuned.networks) == [PUBLISHED, "epoch 1"]
    assert all((weight == published[name]).all() for name, weight in tuned.networks[PUBLISHED].state_dict().items())
    assert sorted(tuned.choice.measured) == [0, 1]
    by_reconstruction = read_by_reconstruction(tuned, images, PLAN, silent)
    by_memory = read_by_memory(tuned, images, (data, split), PLAN, silent)
    for read in (by_reconstruction, by_memory):
        before, after = read
        assert [one.path for one in before.images] == [image.path for image in images]
        assert scores(before) != scores(after)


@pytest.mark.parametrize(("count", "kept"), [(2, [0, 2]), (4, [0, 1, 2, 3]), (9, [0, 1, 2, 3, 4])])
def test_few_of_the_images_are_taken_evenly_from_all(count: int, kept: list[int]) -> None:
    paths = [Path(f"{number}.png") for number in range(5)]
    assert evenly(paths, count) == tuple(paths[number] for number in kept)
