"""Translate the names that other libraries give the weights into those of diffusers and transformers."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from model_store.checkpoints import without_prefixes

_VAE_WRAPPERS = ("module.", "first_stage_model.", "vae.")
_VIT_WRAPPERS = ("module.", "backbone.", "vit.")
_UNET_WRAPPERS = ("module.", "unet.")
_VAE_ATTENTION = {
    "norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0",
    "query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0",
}  # fmt: skip
"""The middle block's attention in LDM, and in diffusers before 0.15."""
_VIT_NAMES = (
    (r"^cls_token$", "embeddings.cls_token"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^norm\.", "layernorm."),
    (r"^(blocks|encoder\.layer)\.", "layers."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.proj\.", ".attention.o_proj."),
    (r"\.attn\.", ".attention."),
    (r"\.attention\.attention\.query\.", ".attention.q_proj."),
    (r"\.attention\.attention\.key\.", ".attention.k_proj."),
    (r"\.attention\.attention\.value\.", ".attention.v_proj."),
    (r"\.attention\.output\.dense\.", ".attention.o_proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"(layers\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
)
"""timm and DINO, and transformers before 5, in the order in which they are applied."""


def unet_weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a UNet2DConditionModel's weights, which have kept their names since the first diffusers."""
    return without_prefixes(tensors, _UNET_WRAPPERS)


def autoencoder_weights(tensors: Mapping[str, Tensor], levels: int) -> dict[str, Tensor]:
    """Return an AutoencoderKL's weights, from the names of LDM or of diffusers. levels: resolutions of its decoder.

    LDM counts the decoder's levels from the image, diffusers from the latent; its attention has 1 x 1 convolutions
    where diffusers has linear layers. Its losses (`loss.`) and averages (`model_ema.`) are no part of the model.
    """
    inner = without_prefixes(tensors, _VAE_WRAPPERS)
    named = {_autoencoder_name(name, levels): tensor for name, tensor in inner.items() if not _of_training(name)}
    return {name: _linear(name, tensor) for name, tensor in named.items()}


def vit_weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a ViTModel's weights, from the names of timm, DINO or any transformers; without heads and poolers."""
    inner = without_prefixes(tensors, _VIT_WRAPPERS)
    named = {_vit_name(name): tensor for name, tensor in inner.items() if not name.startswith(("head.", "pooler."))}
    return {split: part for name, tensor in named.items() for split, part in _apart(name, tensor)}


def _of_training(name: str) -> bool:
    return name.startswith(("loss.", "model_ema."))


def _autoencoder_name(name: str, levels: int) -> str:
    name = re.sub(r"^(encoder|decoder)\.norm_out\.", r"\1.conv_norm_out.", name)
    name = re.sub(r"\.nin_shortcut\.", ".conv_shortcut.", name)
    name = re.sub(r"^encoder\.down\.(\d+)\.block\.", r"encoder.down_blocks.\1.resnets.", name)
    name = re.sub(r"^encoder\.down\.(\d+)\.downsample\.", r"encoder.down_blocks.\1.downsamplers.0.", name)
    if found := re.match(r"decoder\.up\.(\d+)\.(block|upsample)\.(.*)", name):
        level, part, rest = levels - 1 - int(found[1]), found[2], found[3]
        name = f"decoder.up_blocks.{level}.{'resnets' if part == 'block' else 'upsamplers.0'}.{rest}"
    if found := re.match(r"(encoder|decoder)\.mid\.block_(\d+)\.(.*)", name):
        name = f"{found[1]}.mid_block.resnets.{int(found[2]) - 1}.{found[3]}"
    name = re.sub(r"\.mid\.attn_1\.", ".mid_block.attentions.0.", name)
    if found := re.match(r"(.*\.mid_block\.attentions\.0)\.(\w+)\.(weight|bias)$", name):
        name = f"{found[1]}.{_VAE_ATTENTION.get(found[2], found[2])}.{found[3]}"
    return name


def _linear(name: str, tensor: Tensor) -> Tensor:
    one_by_one = ".attentions." in name and tensor.ndim > 2
    return tensor.flatten(1) if one_by_one else tensor


def _vit_name(name: str) -> str:
    for pattern, replacement in _VIT_NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _apart(name: str, tensor: Tensor) -> list[tuple[str, Tensor]]:
    """Return query, key and value, which timm and DINO keep in one matrix, each by itself."""
    if ".attention.qkv." not in name:
        return [(name, tensor)]
    parts = zip(("q_proj", "k_proj", "v_proj"), tensor.chunk(3), strict=True)
    return [(name.replace("qkv", projection), part.contiguous()) for projection, part in parts]
