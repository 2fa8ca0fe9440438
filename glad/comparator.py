"""Comparators: what a lane knows at its step -> a score and a map. Here the paper's: by images (Sec. 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from glad.batching import in_buckets
from glad.patch_matching import feature_input, match_map, resize_map, resize_valid, top_mean
from glad.protocols import Autoencoder, Features
from glad.settings.method import MethodSettings


@dataclass(frozen=True, eq=False)
class Observation:
    """What one lane knows at its step t, before it is decided."""

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
        """d_t = x^_{t->0} - x_{t->0} = (x^_t - x_t) / sqrt(alpha_bar_t): (C, h, w)."""
        return self.x0_generated - self.x0_direct


@dataclass(frozen=True, eq=False)
class Comparison:
    """How far the generated and the direct version of one image differ."""

    score: float
    map: Tensor
    """M_t on the latent's grid: (h, w) float32, 0 on padding."""


class Comparator(Protocol):
    """Compares lanes, each by its own settings. A lane's answer never depends on the others."""

    def __call__(self, observations: Sequence[Observation], buckets: Sequence[int]) -> tuple[Comparison, ...]:
        """One comparison per observation; models are called with batches of the sizes in `buckets` only."""
        ...


@dataclass(frozen=True)
class ImageComparator:
    """The paper's comparison: decode both versions, and match their features at the trigger's layer (Eq. 11)."""

    autoencoder: Autoencoder
    features: Features

    def __call__(self, observations: Sequence[Observation], buckets: Sequence[int]) -> tuple[Comparison, ...]:
        """See `Comparator`. Two decodes and two feature passes per observation, of the trigger's layer only."""
        compared: dict[int, Comparison] = {}
        for reading in dict.fromkeys(map(_reading, observations)):
            own = [i for i, seen in enumerate(observations) if _reading(seen) == reading]
            pairs = self._pairs([observations[i] for i in own], *reading, buckets)
            compared |= {i: compare(*pair, observations[i]) for i, pair in zip(own, pairs, strict=True)}
        return tuple(compared[i] for i in range(len(observations)))

    def _pairs(
        self, observations: Sequence[Observation], layer: int, normalise: bool, buckets: Sequence[int]
    ) -> list[tuple[Tensor, Tensor]]:
        """Per observation the features (h, w, D) of the direct and of the generated version."""

        def read(latents: Tensor) -> tuple[Tensor, ...]:
            return self.features(feature_input(self.autoencoder.decode(latents), normalise), (layer,))

        latents = torch.stack([part for seen in observations for part in (seen.x0_direct, seen.x0_generated)])
        (features,) = in_buckets(read, (latents,), buckets)
        return [(features[i], features[i + 1]) for i in range(0, len(features), 2)]


def _reading(observation: Observation) -> tuple[int, bool]:
    """What decides how the features are read: lanes that agree on it share calls."""
    return observation.settings.trigger_layer, observation.settings.trigger.imagenet_normalise


def compare(direct: Tensor, generated: Tensor, seen: Observation) -> Comparison:
    """Features (h', w', D) of x_{t->0}, which takes the input's part, and of x^_{t->0} -> the comparison."""
    trigger = seen.settings.trigger
    grid = (direct.shape[0], direct.shape[1])
    valid = None if seen.valid is None else resize_valid(seen.valid, grid)
    found = match_map(direct, generated, trigger.direction, trigger.window, valid)
    values = found.flatten() if valid is None else found[valid]
    score = top_mean(values, trigger.top.elements(values.numel(), least=trigger.least_top))
    size = (seen.latent.shape[1], seen.latent.shape[2])
    latent_map = resize_map(found, size, valid)
    return Comparison(float(score), latent_map if seen.valid is None else torch.where(seen.valid, latent_map, 0.0))
