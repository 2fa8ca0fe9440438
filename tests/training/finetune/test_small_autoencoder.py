"""A small autoencoder learns the product's latents and pictures, and takes its place in a bundle and in its export."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderTiny
from torch import Tensor

from glad.models import PixelModels
from glad.settings.method import MethodSettings
from model_store.bundle import BundleParts, open_bundle, write_bundle
from model_store.engines.torch import load_models, save_components
from model_store.engines.torch_modules import TorchAutoencoder
from model_store.manifest import Provenance
from tests.support.tiny_bundle import CREATED_AT, TINY_SETTINGS, tiny_modules
from tests.training.finetune.test_vae import pairs
from training.export.pixel_form import pixel_pieces, pixel_shapes
from training.finetune.small_autoencoder import SmallAutoencoder, distil_autoencoder, new_small_autoencoder
from training.pretrained_recipe import DistilRecipe
from training.recipe import LoopRecipe
from training.training_run import TrainingRun

RECIPE = DistilRecipe(width=8, blocks=1, steps=30, batch=4, crop=32, learning_rate=1e-2, validations=2)
SETTINGS = MethodSettings.model_validate({**TINY_SETTINGS, "resolution": 64})


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallAutoencoder:
    """Distilled from the tiny bundle's autoencoder, whose factor is 8 and whose scaling factor is 0.5."""
    run = TrainingRun(tmp_path_factory.mktemp("run"))
    return distil_autoencoder(tiny_modules()[0], pairs(12, 0), pairs(6, 1), RECIPE, run, seed=0)


@pytest.fixture(scope="module")
def models(small: SmallAutoencoder, tmp_path_factory: pytest.TempPathFactory) -> PixelModels:
    """Those of a bundle that has the small autoencoder."""
    folder = tmp_path_factory.mktemp("bundle")
    _, unet, features = tiny_modules()
    sources = save_components(folder / "made", small.module, unet, features, licence="none", dtype="float32")
    origin = Provenance(created_at=CREATED_AT, command="test", recipe={}, data={}, software={}, seed=0)
    bundle = write_bundle(folder / "toy" / "1", BundleParts("toy", "1", SETTINGS, None, origin), sources)
    assert open_bundle(bundle.path).manifest.components["autoencoder"].kind == "autoencoder_tiny"
    return load_models(bundle)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return pairs(2, 2).normal.float() / 127.5 - 1


def test_latents_and_pictures_of_parts_held_out_come_nearer_to_the_teachers(small: SmallAutoencoder) -> None:
    first, last = small.choice.measured[0], small.choice.measured[RECIPE.steps]
    assert last["latent_error"] < first["latent_error"]
    assert last["picture_error"] < 0.7 * first["picture_error"]
    assert small.choice.chosen > 0


def test_checkpointed_gradients_change_nothing(tmp_path: Path) -> None:
    def weights(checkpointed: bool) -> dict[str, Tensor]:
        run, recipe = TrainingRun(tmp_path / str(checkpointed)), RECIPE.model_copy(update={"steps": 2})
        loop = LoopRecipe(gradient_checkpointing=checkpointed)
        made = distil_autoencoder(tiny_modules()[0], pairs(4, 0), pairs(6, 1), recipe, run, seed=0, training=loop)
        state: dict[str, Tensor] = made.module.state_dict()
        return state

    plain = weights(checkpointed=False)
    assert all(torch.equal(weight, plain[name]) for name, weight in weights(checkpointed=True).items())


def test_an_untrained_one_has_the_teachers_latents() -> None:
    teacher = tiny_modules()[0]
    made = TorchAutoencoder(new_small_autoencoder(teacher, RECIPE).eval())
    known = TorchAutoencoder(teacher)
    assert (made.factor, made.latent_channels, made.scale) == (known.factor, known.latent_channels, 1.0)
    assert made.encode(torch.zeros(1, 3, 64, 64)).shape == known.encode(torch.zeros(1, 3, 64, 64)).shape


def test_a_bundle_gives_back_what_was_distilled(models: PixelModels, small: SmallAutoencoder, images: Tensor) -> None:
    module: AutoencoderTiny = small.module
    latents = models.autoencoder.encode(images)
    assert latents.shape == (2, *models.assemble().latent_shape(64))
    torch.testing.assert_close(latents, module.encode(images).latents)
    torch.testing.assert_close(models.autoencoder.decode(latents), module.decode(latents).sample)


def test_what_an_export_traces_says_what_the_bundle_says(models: PixelModels, images: Tensor) -> None:
    pieces = pixel_pieces(models, pixel_shapes(models, SETTINGS))
    latents = models.autoencoder.encode(images).clone()
    with torch.no_grad():
        torch.testing.assert_close(pieces["encoder"].module(images), latents)
        torch.testing.assert_close(pieces["decoder"].module(latents), models.autoencoder.decode(latents))
