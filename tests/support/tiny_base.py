"""Published models as they lie in folders, tiny and random: Stable Diffusion 1.x and DINO in Hugging Face layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, ViTConfig, ViTModel

from tests.support.tiny_bundle import tiny_conditional_unet

TOKENS, WIDTH, POSITIONS = 77, 8, 4
SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
}


def write_base(folder: Path, seed: int = 0) -> Path:
    """unet/, vae/, text_encoder/, tokenizer/ and scheduler/ of a tiny Stable Diffusion."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        base_unet().save_pretrained(folder / "unet")
        base_autoencoder().save_pretrained(folder / "vae")
        text_encoder().save_pretrained(folder / "text_encoder")
    write_tokenizer(folder / "tokenizer")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER))
    return folder


def write_dino(folder: Path, seed: int = 1) -> Path:
    """A ViT of 4 x 4 patches, with the wrong epsilon that the published configuration has."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vit().save_pretrained(folder)
    return folder


def base_unet() -> UNet2DConditionModel:
    """Attends to prompts of width 8."""
    unet: UNet2DConditionModel = tiny_conditional_unet(64).eval()
    return unet


def base_autoencoder() -> AutoencoderKL:
    """Four levels, two of them with another width, attention in the middle: every kind of weight that SD's has."""
    autoencoder: AutoencoderKL = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=64,
        scaling_factor=0.18215,
    ).eval()
    return autoencoder


def text_encoder() -> CLIPTextModel:
    """Two layers of width 8 over 77 tokens."""
    config = CLIPTextConfig(
        vocab_size=len(_vocabulary()),
        hidden_size=WIDTH,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        initializer_range=0.5,
    )
    return CLIPTextModel(config).eval()


def vit(**changes: Any) -> ViTModel:
    """Two blocks of width 16 with two heads, trained at 32 px."""
    config = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "image_size": 8 * POSITIONS,
        "patch_size": 8,
        "layer_norm_eps": 1e-12,
        "initializer_range": 0.2,
    }
    return ViTModel(ViTConfig(**{**config, **changes}), add_pooling_layer=False).eval()


def write_tokenizer(folder: Path) -> None:
    """CLIP's tokenizer with one token a letter and no merges."""
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(_vocabulary())}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "model_max_length": TOKENS,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def _vocabulary() -> list[str]:
    letters = "abcdefghijklmnopqrstuvwxyz0123456789_"
    return ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
