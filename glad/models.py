"""The models that one product runs on, independent of their form, and the form that the paper gives them.

A form decides what images become, how two of them are compared, and how they become a picture. The lane engine knows
`Models` only; what works on the networks one by one (export, parity, timing) knows the form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

from glad.comparator import Comparator, ImageComparator
from glad.first_reading import FirstReader
from glad.protocols import Autoencoder, Condition, Denoiser, Features, LatentDecoder, LatentEncoder
from glad.scoring import ImageScorer, Scorer


@dataclass(frozen=True)
class Models:
    """The models that one product runs on, whatever their form."""

    encoder: LatentEncoder
    """What images become."""
    denoiser: Denoiser
    comparator: Comparator
    """How x^_{t->0} and x_{t->0} are compared on the way: it decides when a lane triggers."""
    scorer: Scorer
    """How an image and its reconstruction are compared at the end: it gathers the evidence for the score."""
    decoder: LatentDecoder
    """How latents become a picture."""
    condition: Condition | None = None
    """None: the denoiser takes no condition."""
    first_reader: FirstReader | None = None
    """Reads an image before it walks; None: this form cannot, and every image walks."""

    def latent_shape(self, resolution: int) -> tuple[int, int, int]:
        """Return (C, h, w) of the latent of a model image whose side is `resolution` pixels."""
        side = resolution // self.encoder.factor
        return self.encoder.latent_channels, side, side


class ComponentModels(Protocol):
    """A product's networks one by one, as the components of its bundle make them, in one form."""

    @property
    def condition(self) -> Condition | None:
        """Return the product's embedded prompts; None: the denoiser takes no condition."""
        ...

    @property
    def components(self) -> Mapping[str, object]:
        """Return every network by the name of its component in the manifest; the condition is not among them."""
        ...

    def with_components(self, components: Mapping[str, Any]) -> Self:
        """Return the same form with these networks, all of `components`, such as equal ones that are loaded already."""
        ...

    def assemble(self) -> Models:
        """Return the models that the lane engine runs on."""
        ...


@dataclass(frozen=True)
class PixelModels:
    """The paper's form: latents are an autoencoder's, and both comparison and score match features of pictures."""

    autoencoder: Autoencoder
    denoiser: Denoiser
    features: Features
    condition: Condition | None = None
    """None: the denoiser takes no condition."""

    @property
    def components(self) -> Mapping[str, object]:
        """Return autoencoder, unet and features."""
        return {"autoencoder": self.autoencoder, "unet": self.denoiser, "features": self.features}

    def with_components(self, components: Mapping[str, Any]) -> PixelModels:
        """Return the same form with these networks; the condition stays."""
        return PixelModels(components["autoencoder"], components["unet"], components["features"], self.condition)

    def assemble(self) -> Models:
        """Return the models that the lane engine runs on."""
        return Models(
            encoder=self.autoencoder,
            denoiser=self.denoiser,
            comparator=ImageComparator(self.autoencoder, self.features),
            scorer=ImageScorer(self.features),
            decoder=self.autoencoder,
            condition=self.condition,
        )
