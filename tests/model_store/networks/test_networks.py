"""Networks in plain PyTorch answer as diffusers' do, to the bit, and say when they cannot be built."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderTiny, UNet2DModel
from safetensors.torch import load_file, save_file

from model_store.errors import ModelLoadError
from model_store.networks.loading import load_network
from model_store.networks.tiny_decoder import TinyDecoder
from model_store.networks.unet2d import UNet2D

UNETS: dict[str, dict[str, Any]] = {
    "light": {
        "block_out_channels": (16, 32), "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    },
    "deep": {
        "block_out_channels": (16, 24, 32), "layers_per_block": 2,
        "down_block_types": ("AttnDownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D", "AttnUpBlock2D"),
    },
    "one block without attention": {
        "block_out_channels": (16,), "layers_per_block": 1, "add_attention": False,
        "down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",),
    },
    "other time": {
        "block_out_channels": (16, 16), "layers_per_block": 1, "flip_sin_to_cos": False, "freq_shift": 1,
        "down_block_types": ("DownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "UpBlock2D"),
        "attention_head_dim": 4, "norm_eps": 1e-3,
    },
}  # fmt: skip


def draw(module: torch.nn.Module) -> None:
    """Give every weight a value of its own; those of norms are 1 and 0 in a new network."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(0.2 * torch.randn(weight.shape, generator=generator))


def unet_of(options: dict[str, Any], folder: Path) -> UNet2DModel:
    module = UNet2DModel(sample_size=8, in_channels=6, out_channels=4, norm_num_groups=8, **options).eval()
    draw(module)
    module.save_pretrained(folder)
    return module


@pytest.mark.parametrize("name", UNETS)
def test_a_unet_answers_as_that_of_diffusers(name: str, tmp_path: Path) -> None:
    theirs = unet_of(UNETS[name], tmp_path)
    ours = load_network("unet2d", tmp_path, torch.float32)
    assert isinstance(ours, UNet2D)
    assert not ours.training
    latents, timesteps = (
        torch.randn(3, 6, 16, 8, generator=torch.Generator().manual_seed(1)),
        torch.tensor([1, 61, 999]),
    )
    with torch.inference_mode():
        assert torch.equal(ours(latents, timesteps)[0], theirs(latents, timesteps, return_dict=False)[0])
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())


def test_a_decoder_answers_as_that_of_diffusers(tmp_path: Path) -> None:
    theirs = AutoencoderTiny(
        encoder_block_out_channels=(1,), num_encoder_blocks=(1,), decoder_block_out_channels=(8, 8, 8),
        num_decoder_blocks=(2, 1, 0), latent_channels=5, scaling_factor=4.0,
    ).eval()  # fmt: skip
    draw(theirs)
    theirs.save_pretrained(tmp_path)
    ours = load_network("autoencoder_tiny", tmp_path, torch.float32)
    assert isinstance(ours, TinyDecoder)
    latents = 3 * torch.randn(2, 5, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.equal(ours.decode(latents)[0], theirs.decode(latents, return_dict=False)[0])


@pytest.mark.parametrize(
    "options",
    [
        {"down_block_types": ("ResnetDownsampleBlock2D", "DownBlock2D")},
        {"time_embedding_type": "fourier"},
        {"resnet_time_scale_shift": "scale_shift"},
        {"downsample_padding": 0},
        {"num_class_embeds": 3},
        {"mid_block_type": None},
        {"mid_block_scale_factor": 2},
        {"center_input_sample": True},
    ],
)
def test_what_cannot_be_built_is_left_to_diffusers(options: dict[str, Any], tmp_path: Path) -> None:
    unet_of(UNETS["other time"], tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **options}))
    assert load_network("unet2d", tmp_path, torch.float32) is None


def test_other_kinds_are_left_to_their_libraries(tmp_path: Path) -> None:
    assert load_network("vit", tmp_path, torch.float32) is None


def test_weights_are_computed_with_in_the_type_that_is_asked_for(tmp_path: Path) -> None:
    unet_of(UNETS["light"], tmp_path)
    network = load_network("unet2d", tmp_path, torch.float16)
    assert isinstance(network, UNet2D)
    assert {weight.dtype for weight in network.parameters()} == {torch.float16}
    assert network.dtype == torch.float16


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda w: w.pop("conv_in.bias"), r"missing.*conv_in\.bias"),
        (lambda w: w.update(surprise=torch.zeros(1)), r"left over.*surprise"),
        (lambda w: w.update({"conv_in.bias": torch.zeros(3)}), r"of another shape.*conv_in\.bias"),
    ],
)
def test_weights_of_another_configuration_are_refused(change: Any, told: str, tmp_path: Path) -> None:
    unet_of(UNETS["light"], tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file)
    with pytest.raises(ModelLoadError, match=rf"(?s)weights and configuration differ: .*{told}.*Save both together"):
        load_network("unet2d", tmp_path, torch.float32)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"config\.json cannot be read"):
        load_network("unet2d", tmp_path, torch.float32)
    unet_of(UNETS["light"], tmp_path)
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    with pytest.raises(ModelLoadError, match="does not load"):
        load_network("unet2d", tmp_path, torch.float32)
