"""Other libraries' names of weights, against what other people's code says of them."""

from __future__ import annotations

import re

import pytest
import torch
from diffusers import AutoencoderKL
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from torch import Tensor, nn
from torch.nn import functional

from glad.protocols import Features
from model_store.engines.torch_modules import TorchFeatures
from model_store.importing.names import autoencoder_weights, unet_weights, vit_weights
from tests.support.tiny_base import base_autoencoder, base_unet, vit

LEVELS = 4


def ldm_names(autoencoder: AutoencoderKL) -> dict[str, Tensor]:
    """A tiny autoencoder's weights as LDM calls them, written down level by level as its source builds them."""
    weights, ldm = autoencoder.state_dict(), {}
    for name, tensor in weights.items():
        new = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        new = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", new)
        new = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", new)
        for level in range(LEVELS):
            new = new.replace(f"up_blocks.{level}.resnets", f"up.{LEVELS - 1 - level}.block")
            new = new.replace(f"up_blocks.{level}.upsamplers.0", f"up.{LEVELS - 1 - level}.upsample")
        new = new.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
        new = new.replace("mid_block.attentions.0", "mid.attn_1").replace("group_norm", "norm")
        for theirs, ours in (("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
            new = new.replace(f".{theirs}.", f".{ours}.")
        convolution = "attn_1" in new and tensor.ndim == 2
        ldm[new] = tensor[:, :, None, None] if convolution else tensor
    return ldm


def test_ldm_names_become_what_diffusers_own_converter_makes_of_them() -> None:
    autoencoder = base_autoencoder()
    ldm = ldm_names(autoencoder)
    theirs = convert_ldm_vae_checkpoint(dict(ldm), autoencoder.config)
    ours = autoencoder_weights(ldm, LEVELS)
    expected = autoencoder.state_dict()
    assert set(ours) == set(theirs) == set(expected)
    assert len(ldm) == len(expected)
    for name, tensor in ours.items():
        assert tensor.shape == expected[name].shape
        assert torch.equal(tensor, theirs[name])


@pytest.mark.parametrize("prefix", ["", "first_stage_model.", "module."])
def test_an_autoencoder_comes_out_of_every_wrapper_without_its_losses(prefix: str) -> None:
    wrapped = {f"{prefix}{name}": tensor for name, tensor in ldm_names(base_autoencoder()).items()}
    wrapped[f"{prefix}loss.logvar"] = torch.zeros(1)
    if prefix == "first_stage_model.":
        wrapped["model.diffusion_model.out.2.bias"] = torch.zeros(4)
    assert set(autoencoder_weights(wrapped, LEVELS)) == set(base_autoencoder().state_dict())


def test_diffusers_names_of_before_and_now_are_the_same_weights() -> None:
    now = base_autoencoder().state_dict()
    old_names = (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn"))
    before = {}
    for name, tensor in now.items():
        for new, old in old_names:
            name = name.replace(new, old)  # noqa: PLW2901
        before[name] = tensor
    assert before.keys() != now.keys()
    for names in (before, now):
        found = autoencoder_weights(names, LEVELS)
        assert set(found) == set(now)
        assert all(torch.equal(found[name], now[name]) for name in now)


def test_a_unet_keeps_its_names_in_or_out_of_a_wrapper() -> None:
    weights = base_unet().state_dict()
    assert set(unet_weights({f"module.{name}": tensor for name, tensor in weights.items()})) == set(weights)


class DinoBlock(nn.Module):
    """A pre-norm block of DINO's vision_transformer.py: fused query, key and value, then a two-layer MLP with GELU."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, hidden), "fc2": nn.Linear(hidden, width)})

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        fused = self.attn["qkv"](self.norm1(x)).reshape(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = fused.permute(2, 0, 3, 1, 4)
        weights = ((q @ k.transpose(-2, -1)) * (width // self.heads) ** -0.5).softmax(-1)
        x = x + self.attn["proj"]((weights @ v).transpose(1, 2).reshape(batch, tokens, width))
        out: Tensor = x + self.mlp["fc2"](functional.gelu(self.mlp["fc1"](self.norm2(x))))
        return out


class Dino(nn.Module):
    """DINO's ViT in plain torch: 8 x 8 patches, positions of a 4 x 4 grid interpolated bicubically."""

    def __init__(self, width: int = 16, depth: int = 2) -> None:
        super().__init__()
        self.cls_token, self.pos_embed = nn.Parameter(torch.randn(1, 1, width)), nn.Parameter(torch.randn(1, 17, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, 8, 8)})
        self.blocks = nn.ModuleList(DinoBlock(width, 2, 32) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Per block its output before the final norm, without CLS: (B, h, w, D)."""
        patches = self.patch_embed["proj"](images)
        height, width = patches.shape[-2:]
        x = torch.cat([self.cls_token.expand(len(images), -1, -1), patches.flatten(2).transpose(1, 2)], 1)
        x = x + torch.cat([self.pos_embed[:, :1], self.positions(height, width)], 1)
        taps = []
        for block in self.blocks:
            x = block(x)
            taps.append(x[:, 1:].reshape(len(images), height, width, -1))
        return taps

    def positions(self, height: int, width: int) -> Tensor:
        grid = self.pos_embed[:, 1:].reshape(1, 4, 4, -1).permute(0, 3, 1, 2)
        resized = functional.interpolate(grid, (height, width), mode="bicubic", align_corners=False)
        return resized.flatten(2).transpose(1, 2)


@pytest.fixture(scope="module")
def dino() -> Dino:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return Dino().eval()


def features_from(weights: dict[str, Tensor], epsilon: float = 1e-6) -> Features:
    module = vit(layer_norm_eps=epsilon)
    module.load_state_dict(vit_weights(weights))  # strict: every name once, no leftover
    return TorchFeatures(module)


@torch.no_grad()
@pytest.mark.parametrize("side", [32, 64, 40])
def test_dinos_weights_give_dinos_features_at_the_trained_and_other_sides(dino: Dino, side: int) -> None:
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(side))
    found = features_from(dino.state_dict())(images, (1, 2))
    for tap, expected in zip(found, dino(images), strict=True):
        torch.testing.assert_close(tap, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_epsilon_of_the_published_configuration_is_not_dinos(dino: Dino) -> None:
    # On a nearly constant input the variance is about as small as epsilon, and the two differ widely.
    images = torch.full((1, 3, 32, 32), 0.5)
    small = {
        name: tensor * (1e-4 if "embed" in name or "cls" in name else 1) for name, tensor in dino.state_dict().items()
    }
    quiet = Dino().eval()
    quiet.load_state_dict(small)
    (right,), (wrong,) = (features_from(small, epsilon)(images, (1,)) for epsilon in (1e-6, 1e-12))
    torch.testing.assert_close(right, quiet(images)[0], atol=1e-5, rtol=1e-5)
    assert (wrong - right).abs().max() > 0.1


@torch.no_grad()
@pytest.mark.parametrize("prefix", ["module.", "backbone.", "module.backbone."])
def test_a_wrapped_dino_with_a_head_is_the_same(dino: Dino, prefix: str) -> None:
    wrapped = {f"{prefix}{name}": tensor for name, tensor in dino.state_dict().items()}
    wrapped[f"{prefix}head.mlp.0.weight"] = torch.zeros(1)
    assert set(vit_weights(wrapped)) == set(vit_weights(dino.state_dict()))


def test_transformers_names_of_before_and_now_are_the_same_weights() -> None:
    now = vit().state_dict()
    pairs = (
        ("layers.", "encoder.layer."),
        ("attention.q_proj", "attention.attention.query"),
        ("attention.k_proj", "attention.attention.key"),
        ("attention.v_proj", "attention.attention.value"),
        ("attention.o_proj", "attention.output.dense"),
        ("mlp.fc1", "intermediate.dense"),
        ("mlp.fc2", "output.dense"),
    )
    before = {}
    for name, tensor in now.items():
        for new, old in pairs:
            name = name.replace(new, old)  # noqa: PLW2901
        before[f"vit.{name}"] = tensor
    for names in (before, now):
        found = vit_weights(names)
        assert set(found) == set(now)
        assert all(torch.equal(found[name], now[name]) for name in now)
