"""A text-conditioned UNet: told of its product, guided, and each lane by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from glad.batching import BatchSizes
from glad.models import Models
from glad.protocols import Condition
from glad.reconstruct import reconstruct
from glad.seeded_noise import image_noise
from glad.settings.method import MethodSettings
from model_store.bundle import Bundle, open_bundle
from model_store.compatibility import ModelsDoNotFit, check_fit
from model_store.engines.torch import load_models, models_from_modules, shapes_of
from model_store.errors import ModelLoadError
from tests.support.bundles import agree
from tests.support.tiny_bundle import TINY_SETTINGS, make_tiny_bundle, tiny_condition, tiny_modules

SIDE = 64


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_bundle(make_tiny_bundle(tmp_path_factory.mktemp("told"), prompt=1))


@pytest.fixture(scope="module")
def models(bundle: Bundle) -> Models:
    return load_models(bundle).assemble()


def settings(**changes: Any) -> MethodSettings:
    return MethodSettings.model_validate({**TINY_SETTINGS, "resolution": SIDE, **changes})


def images(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    pixels = torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(5)) * 2 - 1
    noise = [image_noise((one.numpy() * 127).astype("uint8").transpose(1, 2, 0), 0, (4, 8, 8)) for one in pixels]
    return pixels, torch.stack([torch.from_numpy(one) for one in noise])


@torch.no_grad()
def test_each_lane_is_told_its_own_prompt_at_its_own_step(models: Models, bundle: Bundle) -> None:
    direct = UNet2DConditionModel.from_pretrained(bundle.component("unet"), torch_dtype=torch.float32)
    latents = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    steps, prompts = torch.tensor([1, 250, 999]), torch.stack([tiny_condition(seed).product for seed in range(3)])
    side_by_side = models.denoiser(latents, steps, prompts)
    assert side_by_side.dtype == torch.float32
    for lane in range(3):
        own = slice(lane, lane + 1)
        alone = direct(latents[own], steps[lane], encoder_hidden_states=prompts[own]).sample
        torch.testing.assert_close(side_by_side[own], alone, atol=1e-5, rtol=1e-4)


def test_a_bundle_gives_back_its_condition_to_the_bit(models: Models) -> None:
    assert models.condition is not None
    assert torch.equal(models.condition.product, tiny_condition(1).product)
    assert torch.equal(models.condition.empty, tiny_condition(1).empty)


def test_a_text_conditioned_unet_that_is_told_nothing_is_an_error(models: Models) -> None:
    with pytest.raises(ValueError, match="give the embedded prompt of every lane"):
        models.denoiser(torch.zeros(1, 4, 8, 8), torch.tensor([1]))


def test_guidance_changes_the_reconstruction_and_is_the_formula(models: Models) -> None:
    pixels, noise = images(1)
    plain, guided = (reconstruct(pixels, noise, models, settings(guidance=weight)) for weight in (1.0, 9.0))
    assert (plain.lanes[0].unet_evaluations, guided.lanes[0].unet_evaluations) == (5, 10)
    assert (plain.images - guided.images).abs().max() > 1e-3
    assert models.condition is not None
    # Guided by its own product's prompt against the same prompt: e + 9 (e - e) = e.
    same = replace(models, condition=Condition(models.condition.product, models.condition.product))
    again = reconstruct(pixels, noise, same, settings(guidance=9.0))
    torch.testing.assert_close(again.images, plain.images, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("guidance", [1.0, 9.0])
def test_an_image_comes_out_the_same_alone_or_in_a_batch(models: Models, guidance: float) -> None:
    pixels, noise = images(3)
    chosen, shapes = settings(guidance=guidance), BatchSizes(denoiser=(8,))
    side_by_side = reconstruct(pixels, noise, models, chosen, batch_sizes=shapes)
    for i in range(3):
        alone = reconstruct(pixels[i : i + 1], noise[i : i + 1], models, chosen, batch_sizes=shapes)
        assert torch.equal(side_by_side.latents[i], alone.latents[0])  # one call shape: to the bit
        assert side_by_side.lanes[i] == alone.lanes[0]


def test_half_precision_is_loaded_as_the_caller_asks(bundle: Bundle) -> None:
    half = load_models(bundle, dtype=torch.bfloat16)
    predicted = half.denoiser(torch.zeros(1, 4, 8, 8), torch.tensor([1]), tiny_condition(1).product[None])
    assert predicted.dtype == torch.float32
    assert torch.isfinite(predicted).all()


def test_every_misfit_of_condition_and_unet_names_value_rule_and_fix() -> None:
    told, plain = tiny_modules(told=True), tiny_modules()
    wide = Condition(torch.zeros(5, 12), torch.zeros(5, 12))
    for modules, condition, complaint in (
        (told, wide, r"condition has width 12; the unet's cross_attention_dim is 8: use the text encoder"),
        (told, None, r"unet attends to prompts of width 8; there is no condition: embed the prompt"),
        (plain, wide, r"condition has width 12; the unet takes none: leave the condition away"),
    ):
        with pytest.raises(ModelsDoNotFit, match=complaint):
            models_from_modules(*modules, settings(), condition)
    with pytest.raises(ModelsDoNotFit, match=r"guidance is 9\.0; the unet takes no prompt to guide by: set guidance"):
        models_from_modules(*plain, settings(guidance=9.0))


def test_a_resolution_that_the_conditional_unet_cannot_halve_is_refused() -> None:
    with pytest.raises(ModelsDoNotFit, match=r"resolution is 72 px; it must be a multiple of 16 .*: use 64 or 80"):
        models_from_modules(*tiny_modules(told=True), settings(resolution=72), tiny_condition(1))


def test_a_unet_of_another_family_is_refused() -> None:
    shapes = replace(shapes_of(*tiny_modules(told=True), tiny_condition(1)), unet_extras=("addition_embed_type",))
    with pytest.raises(ModelsDoNotFit, match=r"unet needs addition_embed_type; .*use a Stable Diffusion 1\.x UNet"):
        check_fit(shapes, settings())


def test_a_condition_of_other_tensors_is_refused(tmp_path: Path) -> None:
    folder = make_tiny_bundle(tmp_path, prompt=1)
    weights = folder / "condition/model.safetensors"
    save_file({"product": load_file(weights)["product"]}, weights)
    agree(folder)
    with pytest.raises(ModelLoadError, match=r"\{'product': \(5, 8\)\}; a condition is 'product' and 'empty'"):
        load_models(open_bundle(folder))
