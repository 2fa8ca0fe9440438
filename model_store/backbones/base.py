"""What the backbones have in common: they check what they are given, normalise it, and answer in float32."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias

import torch
from torch import Tensor, nn

from model_store.manifest import Kind

Colours: TypeAlias = tuple[float, float, float]
"""One number per colour: red, green, blue."""


class FrozenBackbone(nn.Module, ABC):
    """glad.protocols.Backbone on torch: the base of every backbone here.

    Its weights take no gradient; what it is called with may have one.
    """

    @property
    @abstractmethod
    def kind(self) -> Kind:
        """Return what it is called in a manifest."""

    @property
    @abstractmethod
    def levels(self) -> int:
        """Return the number of levels; valid levels are 1 ... levels."""

    @property
    @abstractmethod
    def mean(self) -> Colours:
        """Return the mean per colour, of images in [0, 1], that the weights were trained with."""

    @property
    @abstractmethod
    def std(self) -> Colours:
        """Return the standard deviation per colour, of images in [0, 1], that the weights were trained with."""

    @property
    @abstractmethod
    def stored(self) -> nn.Module:
        """Return the module that `save_pretrained` writes; its weights are this one's."""

    @abstractmethod
    def stride(self, level: int) -> int:
        """Return the pixels per place of a level on a side."""

    @abstractmethod
    def channels(self, level: int) -> int:
        """Return the channels D of a level."""

    @abstractmethod
    def cut(self, up_to: int) -> FrozenBackbone:
        """Return the same backbone without what lies above a level."""

    @abstractmethod
    def compute(self, normalised: Tensor, levels: Sequence[int]) -> tuple[Tensor, ...]:
        """Return per level the features (B, D, h, w) of normalised images (B, 3, H, W) in the weights' type."""

    def forward(self, images: Tensor, levels: Sequence[int]) -> tuple[Tensor, ...]:
        """Return per level the features (B, D, h, w), float32, of images (B, 3, H, W) in [-1, 1].

        Args:
            images: on the backbone's device.
            levels: ascending.

        Raises:
            ValueError: if there is no such level, or if the images do not fit.
        """
        self.check_levels(levels)
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images have the shape {tuple(images.shape)}; a backbone takes (B, 3, H, W)")
        taps = self.compute(self._normalised(images), levels)
        return tuple(tap.float().contiguous() for tap in taps)

    def check_levels(self, levels: Sequence[int]) -> None:
        """Check that these levels are there, and ascend.

        Raises:
            ValueError: if not.
        """
        ascending = all(lower < higher for lower, higher in pairwise(levels))
        if not levels or not ascending or any(not 1 <= level <= self.levels for level in levels):
            raise ValueError(
                f"levels are {tuple(levels)}; this backbone has levels 1 ... {self.levels}: name at least one of them, "
                "each once, in ascending order"
            )

    def _normalised(self, images: Tensor) -> Tensor:
        # ((x + 1) / 2 - mean) / std in float32: in half precision the mean alone would be off by a grey level.
        mean, std = (torch.tensor(colours, device=images.device).reshape(3, 1, 1) for colours in (self.mean, self.std))
        return ((images.float() * 0.5 + (0.5 - mean)) / std).to(next(self.parameters()).dtype)


def freeze(backbone: FrozenBackbone) -> FrozenBackbone:
    """Return the backbone in evaluation mode, its weights without gradient."""
    return backbone.eval().requires_grad_(False)
