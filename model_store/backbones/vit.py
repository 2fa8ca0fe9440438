"""Vision transformers as backbones: transformers' ViTModel (DINO), Dinov2Model, and Dinov2WithRegistersModel.

A level is a block. Its features are what the block puts out, before the final norm, without the CLS token and without
registers. For images of another size than the one trained on, positions are interpolated bicubically, as transformers
does it for each of the three.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from model_store.backbones.base import Colours, FrozenBackbone, freeze
from model_store.manifest import Kind

IMAGENET_MEAN: Colours = (0.485, 0.456, 0.406)
IMAGENET_STD: Colours = (0.229, 0.224, 0.225)
"""What DINO and DINOv2 were trained with."""

VIT_KINDS: tuple[Kind, ...] = ("vit", "dinov2", "dinov2_with_registers")
"""Names in a manifest, and at once transformers' `model_type`."""

_OF_DEPTH = ("stage_names", "out_features", "out_indices")
"""Entries of a configuration that transformers derives from the number of blocks."""


def _is_vit(module: Any) -> bool:
    """Return whether a module is a ViTModel: asked of its configuration, without importing transformers."""
    return bool(module.config.model_type == "vit")


def blocks(module: Any) -> nn.ModuleList:
    """Return the blocks of a vision transformer of transformers."""
    found: nn.ModuleList = module.layers if _is_vit(module) else module.encoder.layer
    return found


def block_outputs(module: Any, images: Tensor, layers: Sequence[int]) -> tuple[Tensor, ...]:
    """Return per layer the block's output (B, h, w, D), float32, of normalised images (B, 3, H, W).

    Blocks beyond the deepest one asked for are not computed. Differentiable: what an exporter traces.

    Args:
        module: of transformers.
        images: in the module's type.
        layers: in any order, in which the outputs come.
    """
    batch, _, height, width = images.shape
    patch = module.config.patch_size
    grid = (batch, height // patch, width // patch, -1)
    hidden = _embedded(module, images)
    prefix = 1 + getattr(module.config, "num_register_tokens", 0)
    taps: dict[int, Tensor] = {}
    for number, block in enumerate(blocks(module)[: max(layers)], start=1):
        hidden = block(hidden)
        if number in layers:
            taps[number] = hidden[:, prefix:].reshape(grid).float()
    return tuple(taps[layer] for layer in layers)


def _embedded(module: Any, images: Tensor) -> Tensor:
    options = {}
    if _is_vit(module):  # the others look at the size themselves
        size = module.config.image_size
        trained = (size, size) if isinstance(size, int) else (size[0], size[1])
        options = {"interpolate_pos_encoding": tuple(images.shape[-2:]) != trained}
    embedded: Tensor = module.embeddings(images, **options)
    return embedded


class VitBackbone(FrozenBackbone):
    """A vision transformer of transformers. Its normalisation is `image_mean` and `image_std` of the configuration.

    Without these two in the configuration it is ImageNet's.
    """

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module
        freeze(self)

    @property
    def kind(self) -> Kind:
        """Return what it is called in a manifest."""
        kind: Kind = self.module.config.model_type
        return kind

    @property
    def levels(self) -> int:
        """Return the number of blocks."""
        return len(blocks(self.module))

    @property
    def mean(self) -> Colours:
        """Return the mean per colour, of images in [0, 1]."""
        return _colours(getattr(self.module.config, "image_mean", IMAGENET_MEAN))

    @property
    def std(self) -> Colours:
        """Return the standard deviation per colour, of images in [0, 1]."""
        return _colours(getattr(self.module.config, "image_std", IMAGENET_STD))

    @property
    def stored(self) -> nn.Module:
        """Return transformers' module."""
        module: nn.Module = self.module
        return module

    def stride(self, level: int) -> int:
        """Return the pixels per patch on a side: the same at every level."""
        self.check_levels((level,))
        return int(self.module.config.patch_size)

    def channels(self, level: int) -> int:
        """Return the width: the same at every level."""
        self.check_levels((level,))
        return int(self.module.config.hidden_size)

    def compute(self, normalised: Tensor, levels: Sequence[int]) -> tuple[Tensor, ...]:
        """Return per level the block's output (B, D, h, w) of normalised images.

        Raises:
            ValueError: if a side is not a multiple of the patch.
        """
        patch = self.stride(1)
        for side in normalised.shape[-2:]:
            if side % patch:
                lower = side // patch * patch
                raise ValueError(
                    f"images have a side of {side} px; this backbone needs a multiple of its patch, {patch} px: use "
                    f"{lower or patch} or {lower + patch}"
                )
        return tuple(tap.permute(0, 3, 1, 2) for tap in block_outputs(self.module, normalised, levels))

    def cut(self, up_to: int) -> VitBackbone:
        """Return the same network up to a block; the two share their weights.

        Raises:
            ValueError: if there is no such block.
        """
        self.check_levels((up_to,))
        known = {name: value for name, value in self.module.config.to_dict().items() if name not in _OF_DEPTH}
        config = type(self.module.config).from_dict({**known, "num_hidden_layers": up_to})
        return VitBackbone(_shorter(self.module, config))


def _shorter(module: Any, config: Any) -> Any:
    options = {"add_pooling_layer": False} if _is_vit(module) else {}
    with torch.device("meta"):
        shorter = type(module)(config, **options)
    state = module.state_dict()
    shorter.load_state_dict({name: state[name] for name in shorter.state_dict()}, assign=True)
    return shorter


def _colours(values: Sequence[float]) -> Colours:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
