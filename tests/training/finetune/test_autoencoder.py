"""The autoencoder's training: what it sees, what an error costs, how it begins."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.finetune.autoencoder import gradient_distance, new_autoencoder, random_crops, reconstruction_loss
from training.recipe import AutoencoderRecipe
from training.synthesis.pairs import PairSet

RECIPE = AutoencoderRecipe(
    widths=(8, 8), latent_channels=4, steps=1, batch=4, crop=16, learning_rate=1e-3,
    square_weight=5.0, gradient_weight=1.0, damage_weight=4.0,
)  # fmt: skip


def _pairs() -> PairSet:
    """Two black images of 64 x 64 whose counterparts hold a white square of 8 x 8."""
    normal = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    mask = torch.zeros(2, 64, 64, dtype=torch.bool)
    mask[:, 40:48, 8:16] = True
    anomalous = torch.where(mask[:, None], torch.tensor(255, dtype=torch.uint8), normal)
    return PairSet(normal, anomalous, mask, torch.ones_like(mask))


@pytest.mark.parametrize("seed", range(10))
def test_every_fourth_crop_holds_damage_and_the_mask_marks_it_in_anomalous_crops_alone(seed: int) -> None:
    images, damaged = random_crops(_pairs(), np.random.default_rng(seed), RECIPE)
    assert images.shape == (4, 3, 16, 16)
    assert damaged.shape == (4, 16, 16)
    assert damaged[1].any()
    assert not damaged[0].any()
    assert not damaged[2].any()
    assert torch.equal(images[:, 0] > 0, damaged)  # white exactly where the square is


def test_a_damaged_pixel_costs_five_times_as_much() -> None:
    recipe = RECIPE.model_copy(update={"gradient_weight": 0.0})
    images, off = torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.5)
    nowhere, everywhere = torch.zeros(1, 4, 4, dtype=torch.bool), torch.ones(1, 4, 4, dtype=torch.bool)
    plain = 0.5 + 5.0 * 0.25  # L1 + square_weight * squared error
    assert float(reconstruction_loss(off, images, nowhere, recipe)) == pytest.approx(plain)
    assert float(reconstruction_loss(off, images, everywhere, recipe)) == pytest.approx((1 + 4.0) * plain)


def test_a_constant_offset_has_no_gradient_distance_and_a_lost_line_has() -> None:
    image = torch.zeros(1, 1, 4, 4)
    line = image.clone()
    line[..., 2] = 1.0  # a vertical line: of 3 horizontal steps a row two are 1, none of the vertical ones
    assert float(gradient_distance(image + 0.3, image)) == pytest.approx(0.0, abs=1e-7)
    assert float(gradient_distance(line, image)) == pytest.approx(2 / 3)


def test_an_untrained_posterior_is_as_narrow_as_the_recipe_says() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = new_autoencoder(RECIPE, 32)
        posterior = model.encode(torch.randn(2, 3, 32, 32)).latent_dist
    assert torch.equal(posterior.logvar, torch.full_like(posterior.logvar, -6.0))
    assert float(posterior.mean.detach().std()) > 0
