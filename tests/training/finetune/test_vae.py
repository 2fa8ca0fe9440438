"""A published autoencoder learns the product and its anomalies; the latents stay unless the recipe says otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from model_store.backbones.vit import VitBackbone
from tests.support.tiny_base import base_autoencoder
from tests.support.tiny_vit import tiny_vit
from training.finetune.vae import (
    MEASURED_CROPS,
    TunedVae,
    finetune_vae,
    held_out_crops,
    measure_vae,
    picture_distance,
)
from training.pretrained_recipe import VaeFinetuneRecipe
from training.recipe import LoopRecipe
from training.synthesis.pairs import PairSet
from training.training_run import TrainingRun

RECIPE = VaeFinetuneRecipe(steps=24, batch=4, crop=32, learning_rate=3e-3, features_weight=0.0, validations=2)


def pairs(count: int, seed: int) -> PairSet:
    """Soft colours of 64 x 64, whose counterparts hold a red square of 8 x 8."""
    drawn = torch.Generator().manual_seed(seed)
    coarse = torch.randint(60, 196, (count, 3, 4, 4), generator=drawn).float()
    normal = torch.nn.functional.interpolate(coarse, (64, 64), mode="bilinear").round().to(torch.uint8)
    mask = torch.zeros(count, 64, 64, dtype=torch.bool)
    mask[:, 24:32, 24:32] = True
    anomalous = normal.clone()
    anomalous[:, 0, 24:32, 24:32], anomalous[:, 1:, 24:32, 24:32] = 255, 0
    return PairSet(normal, anomalous, mask, torch.ones_like(mask))


def published() -> AutoencoderKL:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return base_autoencoder()


def tune(folder: Path, recipe: VaeFinetuneRecipe = RECIPE, training: LoopRecipe | None = None) -> TunedVae:
    return finetune_vae(published(), pairs(12, 0), pairs(6, 1), recipe, TrainingRun(folder), seed=0, training=training)


def parts_changed(module: AutoencoderKL) -> set[str]:
    before = published().state_dict()
    return {name.split(".")[0] for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


def errors(tuned: TunedVae) -> tuple[dict[str, float], dict[str, float]]:
    measured = tuned.choice.measured
    return dict(measured[0]), dict(measured[RECIPE.steps])


def test_with_a_frozen_encoder_pictures_of_parts_held_out_come_nearer_and_latents_stay(tmp_path: Path) -> None:
    tuned = tune(tmp_path)
    before, after = errors(tuned)
    assert after["good_error"] < 0.9 * before["good_error"]
    assert after["damage_error"] < before["damage_error"]
    assert parts_changed(tuned.module) == {"decoder", "post_quant_conv"}
    assert tuned.module.config.scaling_factor == published().config.scaling_factor
    assert list(tuned.choice.measured) == [0, 12, 24]


def test_a_recipe_that_trains_all_of_it_changes_the_latents_too(tmp_path: Path) -> None:
    tuned = tune(tmp_path, RECIPE.model_copy(update={"trained": "all", "steps": 6}))
    assert parts_changed(tuned.module) == {"encoder", "quant_conv", "decoder", "post_quant_conv"}


def test_checkpointed_gradients_and_parts_of_a_batch_end_in_the_same_weights(tmp_path: Path) -> None:
    few = RECIPE.model_copy(update={"steps": 3})
    plain = tune(tmp_path / "plain", few).module.state_dict()
    thrifty = tune(tmp_path / "thrifty", few, LoopRecipe(gradient_checkpointing=True, accumulate=2)).module.state_dict()
    for name, weight in plain.items():
        torch.testing.assert_close(thrifty[name], weight, rtol=0, atol=1e-4, msg=name)


def test_what_does_not_help_is_not_kept(tmp_path: Path) -> None:
    tuned = tune(tmp_path, RECIPE.model_copy(update={"learning_rate": 3.0, "steps": 2}))
    assert tuned.choice.chosen == 0
    assert not parts_changed(tuned.module)


def test_the_distance_in_features_is_nothing_of_equal_pictures_and_counts_in_the_loss() -> None:
    features = VitBackbone(tiny_vit("vit"))
    distance = picture_distance(features, torch.device("cpu"))
    shown = torch.rand(2, 3, 36, 36, generator=torch.Generator().manual_seed(0)) * 2 - 1  # no multiple of the patch
    assert float(distance(shown, shown)) == pytest.approx(0.0, abs=1e-6)
    assert float(distance(shown, -shown)) > 0.01
    with_features = RECIPE.model_copy(update={"features_weight": 10.0})

    def loss(recipe: VaeFinetuneRecipe) -> float:
        return measure_vae(published(), pairs(6, 1), recipe, distance)["loss"]

    whole, half = loss(with_features), loss(RECIPE.model_copy(update={"features_weight": 5.0}))
    assert whole > half > loss(RECIPE)
    assert whole - half == pytest.approx(half - loss(RECIPE), rel=1e-3)


def test_the_distance_in_features_teaches_the_autoencoder(tmp_path: Path) -> None:
    features, held_out = VitBackbone(tiny_vit("vit")), pairs(6, 1)
    distance = picture_distance(features, torch.device("cpu"))
    recipe = RECIPE.model_copy(update={"features_weight": 20.0, "square_weight": 0.0, "gradient_weight": 0.0})
    tuned = finetune_vae(published(), pairs(12, 0), held_out, recipe, TrainingRun(tmp_path), seed=0, features=features)

    def apart(module: AutoencoderKL) -> float:
        images: Tensor = held_out.normal.float() / 127.5 - 1
        with torch.no_grad():
            return float(distance(module.decode(module.encode(images).latent_dist.mean).sample, images))

    assert apart(tuned.module) < 0.9 * apart(published())


def test_of_few_pairs_held_out_no_more_crops_are_measured_than_they_have_images() -> None:
    few, many = (held_out_crops(pairs(count, 1), RECIPE)[0] for count in (3, 40))
    assert (len(few), len(many)) == (2 * 3, MEASURED_CROPS)


def test_crops_that_are_no_whole_latents_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"crop is 36.* such as 32"):
        tune(tmp_path, RECIPE.model_copy(update={"crop": 36}))
