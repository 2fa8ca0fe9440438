"""The torch engine says what diffusers and transformers say, and refuses models that do not fit."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DModel
from safetensors.torch import load_file, save_file
from transformers import ViTModel

from glad.models import PixelModels
from model_store.bundle import Bundle, open_bundle
from model_store.compatibility import ModelsDoNotFit, check_fit
from model_store.engines.loading import device_of_environment
from model_store.engines.torch import (
    component_hashes,
    load_models,
    models_from_modules,
    round_to_stored_precision,
    save_components,
    shapes_of,
)
from model_store.errors import ModelLoadError
from tests.support.bundles import agree, new_version
from tests.support.tiny_bundle import make_tiny_bundle, tiny_modules

SIDE = 64
Modules = tuple[AutoencoderKL, Any, ViTModel]


@pytest.fixture(scope="module")
def bundle(sound_bundle: Path) -> Bundle:
    return open_bundle(sound_bundle)


@pytest.fixture(scope="module")
def models(bundle: Bundle) -> PixelModels:
    return load_models(bundle)


@pytest.fixture(scope="module")
def direct(bundle: Bundle) -> Modules:
    """The same folders, loaded as their libraries' users would."""
    return (
        AutoencoderKL.from_pretrained(bundle.component("autoencoder"), torch_dtype=torch.float32),
        UNet2DModel.from_pretrained(bundle.component("unet"), torch_dtype=torch.float32),
        ViTModel.from_pretrained(bundle.component("features"), dtype=torch.float32, add_pooling_layer=False),
    )


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1


@torch.no_grad()
def test_encode_is_the_posterior_mean_times_the_scaling_factor(
    models: PixelModels, direct: Modules, images: torch.Tensor
) -> None:
    expected = direct[0].encode(images).latent_dist.mean * direct[0].config.scaling_factor
    encoded = models.autoencoder.encode(images)
    assert encoded.shape == (2, models.autoencoder.latent_channels, SIDE // 8, SIDE // 8)
    torch.testing.assert_close(encoded, expected)


@torch.no_grad()
def test_decode_takes_the_scaling_off_and_does_not_clamp(
    models: PixelModels, direct: Modules, images: torch.Tensor
) -> None:
    latents = models.autoencoder.encode(images) * 100
    expected = direct[0].decode(latents / direct[0].config.scaling_factor).sample
    assert expected.abs().max() > 1
    torch.testing.assert_close(models.autoencoder.decode(latents), expected)


@torch.no_grad()
def test_a_shift_is_taken_off_before_scaling_and_put_back_after(images: torch.Tensor, bundle: Bundle) -> None:
    plain, unet, features = tiny_modules()
    config = {name: value for name, value in plain.config.items() if not name.startswith("_")}
    shifted = AutoencoderKL(**{**config, "shift_factor": 0.25}).eval()
    shifted.load_state_dict(plain.state_dict())
    settings = bundle.manifest.settings
    with_shift = models_from_modules(shifted, unet, features, settings).autoencoder
    without = models_from_modules(plain, unet, features, settings).autoencoder
    scale = plain.config.scaling_factor
    torch.testing.assert_close(with_shift.encode(images), without.encode(images) - 0.25 * scale)
    torch.testing.assert_close(
        with_shift.decode(with_shift.encode(images)), without.decode(without.encode(images)), atol=1e-5, rtol=1e-4
    )


@torch.no_grad()
def test_the_denoiser_takes_a_timestep_of_its_own_for_every_lane(models: PixelModels, direct: Modules) -> None:
    latents = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    steps = torch.tensor([1, 250, 999])
    side_by_side = models.denoiser(latents, steps)
    for lane in range(3):
        alone = direct[1](latents[lane : lane + 1], steps[lane]).sample
        torch.testing.assert_close(side_by_side[lane : lane + 1], alone, atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("side", [SIDE, 96, 40])
def test_feature_taps_are_the_hidden_states_without_the_cls_token(
    models: PixelModels, direct: Modules, side: int
) -> None:
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(3))
    hidden = direct[2](images, output_hidden_states=True, interpolate_pos_encoding=side != SIDE).hidden_states
    taps = models.features(images, (1, 2))
    assert len(taps) == 2
    for layer, tap in zip((1, 2), taps, strict=True):
        assert tap.shape == (2, side // 8, side // 8, 16)
        torch.testing.assert_close(tap.flatten(1, 2), hidden[layer][:, 1:])


def test_taps_come_in_the_order_asked_for(models: PixelModels, images: torch.Tensor) -> None:
    first, second = models.features(images, (1, 2))
    assert all(map(torch.equal, models.features(images, (2, 1)), (second, first)))


def test_no_block_beyond_the_deepest_one_asked_for_is_computed(bundle: Bundle, images: torch.Tensor) -> None:
    autoencoder, unet, features = tiny_modules()
    models = models_from_modules(autoencoder, unet, features, bundle.manifest.settings)
    computed: list[int] = []
    for number, block in enumerate(features.layers, start=1):
        block.register_forward_hook(lambda *_, number=number: computed.append(number))
    models.features(images, (1,))
    assert computed == [1]


@pytest.mark.parametrize("layers", [(), (0,), (1, 3)])
def test_a_block_that_is_not_there_is_refused(
    models: PixelModels, images: torch.Tensor, layers: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"blocks 1 \.\.\. 2"):
        models.features(images, layers)


def test_outputs_are_contiguous_float32_without_gradient(models: PixelModels, images: torch.Tensor) -> None:
    latents = models.autoencoder.encode(images)
    outputs = [
        latents,
        models.autoencoder.decode(latents),
        models.denoiser(latents, torch.tensor([1, 2])),
        *models.features(images, (1, 2)),
    ]
    for output in outputs:
        assert (output.dtype, output.is_contiguous(), output.requires_grad) == (torch.float32, True, False)


def test_the_same_call_gives_the_same_bits(models: PixelModels, images: torch.Tensor) -> None:
    latents = models.autoencoder.encode(images)
    steps = torch.tensor([5, 500])
    assert torch.equal(latents, models.autoencoder.encode(images))
    assert torch.equal(models.denoiser(latents, steps), models.denoiser(latents, steps))
    assert torch.equal(models.features(images, (2,))[0], models.features(images, (2,))[0])


def test_rounded_weights_are_exactly_what_a_bundle_gives_back(tmp_path: Path) -> None:
    modules = tiny_modules(seed=7)
    for module in modules:
        round_to_stored_precision(module)
    sources = save_components(tmp_path, *modules, licence="none")
    again = (
        AutoencoderKL.from_pretrained(sources["autoencoder"].folder, torch_dtype=torch.float32),
        UNet2DModel.from_pretrained(sources["unet"].folder, torch_dtype=torch.float32),
        ViTModel.from_pretrained(sources["features"].folder, dtype=torch.float32, add_pooling_layer=False),
    )
    for rounded, loaded in zip(modules, again, strict=True):
        expected = rounded.state_dict()
        assert all(tensor.dtype == torch.float32 for tensor in expected.values())
        assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())


def test_saving_leaves_the_modules_as_they_are(tmp_path: Path) -> None:
    modules = tiny_modules()
    before = [{name: tensor.clone() for name, tensor in module.state_dict().items()} for module in modules]
    save_components(tmp_path, *modules, licence="none")
    for module, kept in zip(modules, before, strict=True):
        assert all(torch.equal(tensor, kept[name]) for name, tensor in module.state_dict().items())


def test_a_weight_beyond_float16_is_refused(tmp_path: Path) -> None:
    autoencoder, unet, features = tiny_modules()
    with torch.no_grad():
        unet.conv_in.weight[0, 0, 0, 0] = 1e6
    with pytest.raises(ValueError, match=r"conv_in\.weight reaches 1e\+06; float16 holds at most 65504"):
        round_to_stored_precision(unet)
    with pytest.raises(ValueError, match="bfloat16 or float32"):
        save_components(tmp_path, autoencoder, unet, features, licence="none")


def test_equal_models_have_equal_bytes_wherever_they_were_loaded_from(bundle: Bundle, tmp_path: Path) -> None:
    shutil.copytree(bundle.path, tmp_path / "elsewhere")
    loaded = AutoencoderKL.from_pretrained(tmp_path / "elsewhere" / "autoencoder", torch_dtype=torch.float32)
    _, unet, features = tiny_modules()
    saved = save_components(tmp_path / "saved", loaded, unet, features, licence="none")["autoencoder"].folder
    for file in saved.iterdir():
        assert file.read_bytes() == (bundle.component("autoencoder") / file.name).read_bytes()


def test_equal_arguments_make_an_equal_tiny_bundle(bundle: Bundle, tmp_path: Path) -> None:
    assert open_bundle(make_tiny_bundle(tmp_path)).hash == bundle.hash
    other = open_bundle(make_tiny_bundle(tmp_path, product="other", seed=1))
    assert set(component_hashes(other).values()).isdisjoint(component_hashes(bundle).values())


def test_loading_never_reaches_for_the_network(bundle: Bundle, network_calls: list[str]) -> None:
    load_models(bundle)
    assert network_calls == []


def test_a_missing_weight_is_refused_and_does_not_stay_random(bundle_folder: Path) -> None:
    weights = bundle_folder / "features/model.safetensors"
    tensors = load_file(weights)
    lost = next(name for name in tensors if name.endswith("bias"))
    save_file({name: tensor for name, tensor in tensors.items() if name != lost}, weights, metadata={"format": "pt"})
    agree(bundle_folder)
    with pytest.raises(ModelLoadError, match="missing_keys"):
        load_models(open_bundle(bundle_folder))


def test_an_unexpected_weight_is_refused(bundle_folder: Path) -> None:
    weights = bundle_folder / "unet/diffusion_pytorch_model.safetensors"
    tensors = {**load_file(weights), "surprise": torch.zeros(1, dtype=torch.float16)}
    save_file(tensors, weights, metadata={"format": "pt"})
    agree(bundle_folder)
    with pytest.raises(ModelLoadError, match="surprise"):
        load_models(open_bundle(bundle_folder))


def test_a_configuration_that_fits_no_weights_is_refused(bundle_folder: Path) -> None:
    config = bundle_folder / "unet/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "block_out_channels": [32, 32]}))
    agree(bundle_folder)
    with pytest.raises(ModelLoadError, match=r"unet.*weights and configuration differ: .* of another shape"):
        load_models(open_bundle(bundle_folder))


def test_a_module_in_training_mode_is_refused(bundle: Bundle) -> None:
    autoencoder, unet, features = tiny_modules()
    unet.train()
    with pytest.raises(ValueError, match=r"unet in training mode.*\.eval\(\)"):
        models_from_modules(autoencoder, unet, features, bundle.manifest.settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resolution": 100}, "resolution is 100 px; it must be a multiple of 8 .*use 96 or 104"),
        ({"resolution": 72}, "must be a multiple of 16 .*stride.*use 64 or 80"),
        ({"score": {"layers": [1, 5]}}, r"score.layers names block \[5\]; the features have 2 blocks"),
        ({"trigger": {"delta": 0.1, "layer": 9}}, r"trigger.layer names block \[9\]"),
    ],
)
def test_settings_that_do_not_fit_the_models_are_refused(
    bundle: Bundle, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    settings = type(bundle.manifest.settings).model_validate({**bundle.manifest.settings.model_dump(), **change})
    other = new_version(bundle.path, tmp_path / "toy" / "2", settings=settings)
    with pytest.raises(ModelsDoNotFit, match=message):
        load_models(other)


def test_models_that_do_not_fit_each_other_are_refused_with_every_reason(bundle: Bundle) -> None:
    shapes = replace(shapes_of(*tiny_modules()), latent_channels=8, patch=16)
    with pytest.raises(ModelsDoNotFit) as caught:
        check_fit(shapes, bundle.manifest.settings)
    message = str(caught.value)
    assert "unet has 4 input channels; the autoencoder's latents have 8" in message
    assert "patches of 16 px, the autoencoder's factor is 8" in message


def test_a_device_that_is_not_there_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLAD_DEVICE", "no-such-device")
    with pytest.raises(ValueError, match=r"GLAD_DEVICE is 'no-such-device', which cannot be used .*use auto or cpu"):
        device_of_environment()
    monkeypatch.setenv("GLAD_DEVICE", "cpu")
    assert device_of_environment() == "cpu"
