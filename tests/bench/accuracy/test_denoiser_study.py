"""Small denoisers trained in several ways: what of a defect they leave, and that nothing is done twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from bench.accuracy.adapted_rows import ADAPTATIONS, AdaptationStudy
from bench.accuracy.atp_rows import EVERY_KIND, DenoiserStudy, atp_rows, measure_rows, study_recipe
from bench.accuracy.denoiser_reading import learn_networks, repaired
from bench.accuracy.denoiser_table import compare_denoisers, denoiser_table
from bench.accuracy.twin_images import VISIBLE, EncodedTwins, StudyImages, write_twins
from glad.noise_schedule import NoiseSchedule
from tests.support.tiny_recipe import draw_parts
from training.data.dataset import good_split, open_dataset, read_pixels
from training.progress import silent
from training.sample_product import Lamp, render
from training.sample_product.dataset import DatasetImage

TINY = (
    "settings.resolution=32", "synthesis.pairs=8",
    "autoencoder.widths=[8, 8, 8, 8]", "autoencoder.steps=1", "autoencoder.batch=1", "autoencoder.crop=32",
    "unet.widths=[16, 16]", "unet.steps=2", "unet.batch=2",
    "features.width=16", "features.heads=2", "features.mlp=16", "features.steps=1", "features.batch=2",
)  # fmt: skip
SETTINGS = study_recipe(TINY).settings


def small_study(folder: Path) -> DenoiserStudy:
    """A study of tiny networks; each twin of its two defects is a ramp without the square."""
    parts = draw_parts(folder / "parts")
    twins = tuple(folder / f"twin-{number}.png" for number in range(2))
    for twin, image in zip(twins, sorted((parts / "test/hole").iterdir()), strict=True):
        pixels = np.array(Image.open(image))
        pixels[pixels == 0] = 128
        Image.fromarray(pixels).save(twin)
    recipe = study_recipe((*TINY, *EVERY_KIND))
    split = good_split(parts, recipe.calibration.holdout, recipe.seed)
    networks = learn_networks(recipe, split, folder / "shared", 4)
    return DenoiserStudy(folder, StudyImages(parts, open_dataset(parts).test, twins), networks, TINY, silent)


@pytest.mark.parametrize(
    ("leaves", "share"),
    [
        (lambda twins: twins.good, 0.0),
        (lambda twins: twins.defective, 1.0),
        (lambda twins: 2 * twins.defective - twins.good, 2.0),
    ],
    ids=["repaired", "left", "doubled"],
)
def test_a_repaired_defect_is_gone_and_a_doubled_one_is_there_twice(
    leaves: Callable[[EncodedTwins], Tensor], share: float
) -> None:
    draw, schedule = torch.Generator().manual_seed(3), NoiseSchedule.from_settings(SETTINGS.schedule)
    good = torch.randn((2, 4, 4, 4), generator=draw)
    damage = torch.zeros_like(good)
    damage[:, :, 1:3, 1:3] = 3.0
    twins = EncodedTwins(good + damage, good, damage[:, 0] == 0)

    def knowing(noisy: Tensor, steps: Tensor) -> Tensor:
        return (noisy - schedule.signal(steps) * leaves(twins)) / schedule.noise(steps)  # Eq. 2 then gives it

    kept, squares, elsewhere = repaired(knowing, SETTINGS, twins)
    # At the last step, 0, sqrt(beta_0) = 0.029 of the noise is left, and of the defect that the noise holds.
    assert kept / squares == pytest.approx([share] * 2, abs=0.03)
    assert elsewhere == pytest.approx([0.029**2] * 2, rel=0.5)


def test_each_row_is_trained_and_read_once_and_another_seed_is_another_reading(tmp_path: Path) -> None:
    study, rows, said = small_study(tmp_path), atp_rows(None), list[str]()
    chosen = [row for row in rows if row.key in ("nano", "minus")]
    first = measure_rows(study, chosen, (1, 2), said.append)
    again = measure_rows(study, chosen, (1, 2), said.append)
    assert len(said) == 4
    scores = {(title, seed): tuple(one.scores) for title, of_seeds in first.items() for seed, one in of_seeds.items()}
    assert len(set(scores.values())) == 4
    assert all((again[title][seed].scores == scores[title, seed]).all() for title, seed in scores)
    table = denoiser_table(compare_denoisers(again, study.images))
    assert [row[0] for row in table.rows] == [row.title for row in chosen]


def test_a_base_as_it_is_trains_nothing_and_adapters_train_little_and_are_small(tmp_path: Path) -> None:
    base = small_study(tmp_path / "base")
    changed = DenoiserStudy(tmp_path / "changed", base.images, base.networks, TINY, silent)
    study = AdaptationStudy(base, changed, steps=1)
    readings = study.measure((1,), lambda text: None)
    # The adapters have taken a step, so that no two ways say the same.
    assert len({tuple(of_seeds["1"].scores) for of_seeds in readings.values()}) == len(ADAPTATIONS)
    of_titles = study.costs(1, rounds=1)
    costs = {way.key: of_titles[way.title] for way in ADAPTATIONS}
    assert costs["base"].trained_weights == costs["base"].kept_bytes == 0
    assert 0 < costs["lora-attention-16"].trained_weights < costs["all"].trained_weights
    assert costs["lora-4"].trained_weights * 4 == costs["lora-16"].trained_weights  # rank by rank
    assert costs["anew"].trained_weights == costs["all"].trained_weights
    # Merged adapters leave no trace in a bundle but other numbers: the manifest differs by a few bytes.
    assert costs["lora-16"].bundle_bytes == pytest.approx(costs["all"].bundle_bytes, rel=1e-3)


@pytest.mark.parametrize("defect", ["scratch", "wrong_label"])
def test_a_twin_shows_the_same_part_without_its_defect(tmp_path: Path, defect: str) -> None:
    picture = DatasetImage("test", 0, defect, 3)
    write_twins(tmp_path, [picture], 5, Lamp.OPPOSITE)
    damaged = render(picture.entropy(5), defect, 3, Lamp.OPPOSITE)
    changed = np.abs(damaged.image.astype(int) - read_pixels(tmp_path / defect / "s3_0000.png")).max(2)
    assert changed[damaged.mask].mean() > 10
    assert (changed[~damaged.mask] <= VISIBLE).mean() > 0.95  # shadows and blur reach a little further
