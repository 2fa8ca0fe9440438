"""Stages that make results image by image, in a process that is killed among them: imported by that process too."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from glad.settings.embedding import BundlePreparation, EmbeddingSettings
from glad.settings.method import MethodSettings
from tests.support.grey_yardstick import GreyBackbone
from training.feature_recipe import LatentRecipe
from training.finetune.autoencoder import new_autoencoder
from training.finetune.features import Reconstructions, reconstruct_pairs
from training.finetune.latent_space import EncodedPairs, cached_pairs
from training.finetune.unet import LatentPairs, encode_pairs, new_unet
from training.recipe import AutoencoderRecipe, UnetRecipe
from training.synthesis.pairs import PairSet

SIDE, COUNT = 16, 150
"""Pairs: two full files of results, and a part of one; no multiple of a batch of 8."""
AUTOENCODER = AutoencoderRecipe(
    widths=(8, 8), latent_channels=4, norm_groups=4, steps=1, batch=1, crop=16, learning_rate=1e-3
)
SETTINGS = MethodSettings.model_validate({"resolution": SIDE, "start": 500, "trigger": {"delta": 0.0}})


def draw_pairs() -> PairSet:
    """Return pairs of noise, their channels last in memory, as pairs are made."""
    drawn = torch.Generator().manual_seed(0)
    normal, anomalous = (
        torch.randint(256, (COUNT, SIDE, SIDE, 3), dtype=torch.uint8, generator=drawn).permute(0, 3, 1, 2)
        for _ in range(2)
    )
    valid = torch.ones(COUNT, SIDE, SIDE, dtype=torch.bool)
    return PairSet(normal, anomalous, ~valid, valid)


@dataclass
class Fuse:
    """Kills its process at one of the calls that it counts."""

    at: int = 0
    calls: int = 0

    def burn(self) -> None:
        """Count a call."""
        self.calls += 1
        if self.calls == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


class FusedAutoencoder(AutoencoderKL):  # type: ignore[misc]
    """Random weights."""

    fuse: Fuse

    def encode(self, *given: Tensor) -> object:
        """Count it."""
        self.fuse.burn()
        return super().encode(*given)

    def decode(self, *given: Tensor) -> object:
        """Count it."""
        self.fuse.burn()
        return super().decode(*given)


@dataclass(frozen=True)
class FusedBackbone(GreyBackbone):
    """Looks at images of one at a time."""

    fuse: Fuse = field(default_factory=Fuse)

    def __call__(self, images: Tensor, levels: Sequence[int]) -> tuple[Tensor, ...]:
        """Count it."""
        self.fuse.burn()
        return super().__call__(images, levels)


def encode_by_autoencoder(folder: Path | None, fuse: Fuse) -> list[Tensor]:
    """Return the latents of the pixel form: 19 calls for a side."""
    torch.set_num_threads(1)  # more of them add up in another order
    latents = encode_pairs(_autoencoder(fuse), draw_pairs(), keep=folder)
    return [latents.normal, latents.anomalous]


def rebuild(folder: Path | None, fuse: Fuse) -> list[Tensor]:
    """Return reconstructions of the pixel form: 19 calls."""
    torch.set_num_threads(1)  # more of them add up in another order
    drawn = torch.Generator().manual_seed(1)
    latents = LatentPairs(*(torch.randn(COUNT, 4, 8, 8, generator=drawn) for _ in range(2)))
    torch.manual_seed(2)
    unet = new_unet(UnetRecipe(widths=(8, 8), norm_groups=4, steps=1, batch=1, learning_rate=1e-3), channels=4, side=8)
    made: Reconstructions = reconstruct_pairs(
        draw_pairs(), latents, _autoencoder(fuse), unet, SETTINGS, count=COUNT, seed=3, keep=folder
    )
    return [made.images, made.indices]


def encode_by_backbone(folder: Path, fuse: Fuse) -> list[Tensor]:
    """Return the latents and the space of the feature form: 8 calls for the space, 292 for the others."""
    torch.set_num_threads(1)  # more of them add up in another order
    made: EncodedPairs = cached_pairs(
        FusedBackbone(fuse=fuse),
        draw_pairs(),
        EmbeddingSettings(levels=(1,), averages=(1,)),
        folder,
        recipe=LatentRecipe(modelled=1),
        using=BundlePreparation(),
        good=8,
    )
    return [made.pairs.normal, made.pairs.anomalous, made.judged, made.space.mean, made.space.directions]


def _autoencoder(fuse: Fuse) -> FusedAutoencoder:
    torch.manual_seed(4)
    made: Any = new_autoencoder(AUTOENCODER, SIDE)
    made.__class__ = FusedAutoencoder
    made.fuse = fuse
    return cast("FusedAutoencoder", made)
