"""Tiny models that misbehave for images of one colour, and a worker with them: `python -m` this.

white   kills the process          red    raises
black   gives NaN                  other  as the bundle has it

A bundle of the product ALLERGIC raises for every image, one of SLUGGISH is loaded no sooner
than a file `may-load` lies beside its store.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from glad.protocols import Autoencoder
from model_store.bundle import Bundle
from model_store.engines.loading import LoadedModels, load
from tests.support.tiny_bundle import pixel_models

ALLERGIC = "allergic"
SLUGGISH = "very-sluggish"


@dataclass(frozen=True, eq=False)
class OddAutoencoder:
    """An autoencoder with three allergies."""

    inner: Autoencoder
    allergic: bool = False

    @property
    def latent_channels(self) -> int:
        """As the bundle has it."""
        return self.inner.latent_channels

    @property
    def factor(self) -> int:
        """As the bundle has it."""
        return self.inner.factor

    def encode(self, images: Tensor) -> Tensor:
        """Looks at the colour first."""
        if self.allergic:
            raise RuntimeError("allergic to everything")
        darkest, brightest = images.amin((2, 3)), images.amax((2, 3))
        if bool((darkest > 0.99).all()):
            os.kill(os.getpid(), signal.SIGKILL)
        if bool((brightest < -0.99).all()):
            return self.inner.encode(images) * torch.nan
        if bool((darkest[:, 0] > 0.99).all() and (brightest[:, 1:] < -0.99).all()):
            raise RuntimeError("allergic to red")
        return self.inner.encode(images)

    def decode(self, latents: Tensor) -> Tensor:
        """As the bundle has it."""
        return self.inner.decode(latents)


def load_odd_models(bundle: Bundle, device: str) -> LoadedModels:
    """The bundle's models with the odd autoencoder."""
    if bundle.manifest.product == SLUGGISH:
        while not (bundle.path.parents[2] / "may-load").exists():
            time.sleep(0.05)
    loaded = load(bundle, device)
    parts = pixel_models(loaded.parts)
    odd = OddAutoencoder(parts.autoencoder, allergic=bundle.manifest.product == ALLERGIC)
    return replace(loaded, parts=replace(parts, autoencoder=odd))


if __name__ == "__main__":
    from service.settings import Settings
    from service.worker.main import run

    sys.exit(run(Settings(), load=load_odd_models))
