"""Models under a stopwatch: how many calls each part of them takes, and how many seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from torch import Tensor

from glad.models import PixelModels
from glad.protocols import Autoencoder, Denoiser, Features

Answer = TypeVar("Answer")


@dataclass
class PartCost:
    """The calls and seconds of one part of the models so far. Mutated by the stopwatch only."""

    calls: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class Stopwatch:
    """A wrapper of models that counts and times every call."""

    parts: dict[str, PartCost] = field(default_factory=dict)

    def timed(self, name: str, call: Callable[[], Answer]) -> Answer:
        """Make the call, time it, and return its answer."""
        part, began = self.parts.setdefault(name, PartCost()), time.perf_counter()
        answer = call()
        part.seconds += time.perf_counter() - began
        part.calls += 1
        return answer

    def wrap(self, models: PixelModels) -> PixelModels:
        """Return the same models under this stopwatch."""
        return PixelModels(
            TimedAutoencoder(models.autoencoder, self),
            TimedDenoiser(models.denoiser, self),
            TimedFeatures(models.features, self),
            models.condition,
        )


@dataclass(frozen=True, eq=False)
class TimedAutoencoder:
    """An autoencoder under a stopwatch."""

    inner: Autoencoder
    watch: Stopwatch

    @property
    def latent_channels(self) -> int:
        """As the inner one."""
        return self.inner.latent_channels

    @property
    def factor(self) -> int:
        """As the inner one."""
        return self.inner.factor

    def encode(self, images: Tensor) -> Tensor:
        """As the inner one."""
        return self.watch.timed("encoder", lambda: self.inner.encode(images))

    def decode(self, latents: Tensor) -> Tensor:
        """As the inner one."""
        return self.watch.timed("decoder", lambda: self.inner.decode(latents))


@dataclass(frozen=True, eq=False)
class TimedDenoiser:
    """A denoiser under a stopwatch."""

    inner: Denoiser
    watch: Stopwatch

    def __call__(self, latents: Tensor, timesteps: Tensor, conditions: Tensor | None = None) -> Tensor:
        """As the inner one."""
        return self.watch.timed("unet", lambda: self.inner(latents, timesteps, conditions))


@dataclass(frozen=True, eq=False)
class TimedFeatures:
    """Features under a stopwatch."""

    inner: Features
    watch: Stopwatch

    @property
    def patch(self) -> int:
        """As the inner one."""
        return self.inner.patch

    @property
    def depth(self) -> int:
        """As the inner one."""
        return self.inner.depth

    def __call__(self, images: Tensor, layers: Sequence[int]) -> tuple[Tensor, ...]:
        """As the inner one."""
        return self.watch.timed("features", lambda: self.inner(images, layers))
