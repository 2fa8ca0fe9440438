"""Comparators decide how far a lane's generated and direct version differ. Here the paper's, by images (Sec. 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from glad.batching import call_in_batches
from glad.patch_matching import imagenet_normalised, match_map, resize_map, resize_valid, top_mean
from glad.protocols import Autoencoder, Features
from glad.settings.method import MethodSettings


@dataclass(frozen=True, eq=False)
class Observation:
    """The state of one lane at its step t, before it is decided whether it triggers."""

    settings: MethodSettings
    timestep: int
    latent: Tensor
    """z: (C, h, w), scaled."""
    x0_generated: Tensor
    """x^_{t->0}, Eq. 2 from the generated latent: (C, h, w)."""
    x0_direct: Tensor
    """x_{t->0}, from the directly noised input with the same predicted noise: (C, h, w)."""
    valid: Tensor | None = None
    """(h, w) bool, false on padding; None: all of it is image."""

    @property
    def difference(self) -> Tensor:
        """Return d_t = x^_{t->0} - x_{t->0} = (x^_t - x_t) / sqrt(alpha_bar_t): (C, h, w)."""
        return self.x0_generated - self.x0_direct


@dataclass(frozen=True, eq=False)
class Comparison:
    """The difference of the generated and the direct version of one image."""

    score: float
    map: Tensor
    """M_t on the latent's grid: (h, w) float32, 0 on padding."""


class Comparator(Protocol):
    """Compares lanes, each by its own settings. The result of one lane never depends on the others."""

    def __call__(self, observations: Sequence[Observation], buckets: Sequence[int]) -> tuple[Comparison, ...]:
        """Return one comparison per observation; models are called with batches of the sizes in `buckets` only."""
        ...


@dataclass(frozen=True)
class ImageComparator:
    """The paper's comparison: decode both versions, and match their features at the trigger's layer (Eq. 11)."""

    autoencoder: Autoencoder
    features: Features

    def __call__(self, observations: Sequence[Observation], buckets: Sequence[int]) -> tuple[Comparison, ...]:
        """Return one comparison per observation: two decodes and two feature passes each, of the trigger's layer only.

        Lanes whose features are read alike (same layer, same normalisation) share the calls of the models.
        """
        readings = [
            (observation.settings.trigger_layer, observation.settings.trigger.imagenet_normalise)
            for observation in observations
        ]
        compared: dict[int, Comparison] = {}
        for layer, normalise in dict.fromkeys(readings):
            members = [i for i, reading in enumerate(readings) if reading == (layer, normalise)]
            pairs = self._pairs([observations[i] for i in members], layer, normalise, buckets)
            compared |= {i: compare(*pair, observations[i]) for i, pair in zip(members, pairs, strict=True)}
        return tuple(compared[i] for i in range(len(observations)))

    def _pairs(
        self, observations: Sequence[Observation], layer: int, normalise: bool, buckets: Sequence[int]
    ) -> list[tuple[Tensor, Tensor]]:
        """Return per observation the features (h, w, D) of the direct and of the generated version."""

        def read_features(latents: Tensor) -> Tensor:
            images = self.autoencoder.decode(latents)
            return self.features(imagenet_normalised(images) if normalise else images, (layer,))[0]

        # Rows 2i and 2i + 1 are the two versions of observation i.
        latents = torch.stack([x0 for one in observations for x0 in (one.x0_direct, one.x0_generated)])
        features = call_in_batches(read_features, (latents,), buckets)
        return [(features[row], features[row + 1]) for row in range(0, len(features), 2)]


def compare(direct: Tensor, generated: Tensor, observation: Observation) -> Comparison:
    """Return the comparison of one lane's two versions by their features.

    Args:
        direct: features (h', w', D) of x_{t->0}, which takes the input's part in Eq. 11.
        generated: features (h', w', D) of x^_{t->0}, which takes the reconstruction's part.
        observation: the lane.
    """
    trigger = observation.settings.trigger
    grid = (direct.shape[0], direct.shape[1])
    valid = None if observation.valid is None else resize_valid(observation.valid, grid)
    patch_map = match_map(direct, generated, trigger.direction, trigger.window, valid)  # M_t, Eq. 11
    values = patch_map.flatten() if valid is None else patch_map[valid]
    score = top_mean(values, trigger.top.elements(values.numel(), least=trigger.least_top))
    size = (observation.latent.shape[1], observation.latent.shape[2])
    latent_map = resize_map(patch_map, size, valid)
    if observation.valid is not None:
        latent_map = torch.where(observation.valid, latent_map, 0.0)
    return Comparison(float(score), latent_map)
