"""The tables of a recipe that fine-tunes published models: the autoencoder, DINO, and a small autoencoder beside them.

Each describes one stage that can be used alone. `training.recipe` joins them into a recipe.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from glad.settings import Frozen

HOLDOUT = Field(
    0.1,
    gt=0,
    lt=1,
    description="share of the good images to train on, whole parts together, that the stage measures itself on instead",
)


class VaeFinetuneRecipe(Frozen):
    """The published autoencoder (diffusers AutoencoderKL), fine-tuned on the product and on synthetic anomalies."""

    trained: Literal["decoder", "all"] = Field(
        "decoder", description="decoder: the latents stay those that the UNet knows; all: train the UNet after it"
    )
    steps: int = Field(ge=1)
    batch: int = Field(4, ge=1)
    crop: int = Field(256, ge=16, description="side of the random crops, px")
    learning_rate: float = Field(1e-5, gt=0)
    square_weight: float = Field(5.0, ge=0, description="weight of the squared error, beside L1")
    gradient_weight: float = Field(1.0, ge=0, description="weight of the L1 between image gradients")
    damage_weight: float = Field(4.0, ge=0, description="how much more a synthetically damaged pixel counts")
    features_weight: float = Field(
        0.1, ge=0, description="weight of the distance in the features of DINO, frozen, in the place of LPIPS; 0: none"
    )
    kl_weight: float = Field(1e-6, ge=0, description="acts only where the encoder is trained")
    validations: int = Field(10, ge=1, description="how often, evenly over the steps, it is measured; the best is kept")
    holdout: float = HOLDOUT


class DinoFinetuneRecipe(Frozen):
    """DINO, fine-tuned so that a good image and its reconstruction look alike to it (method of the paper: VisA)."""

    side: int = Field(256, ge=16, description="of the images, px; a multiple of the patch")
    blocks: tuple[int, ...] = Field((3, 6, 9, 12), min_length=1, description="whose MLPs are trained, and compared")
    epochs: int = Field(15, ge=1, description="one is a pass over the good images to train on")
    batch: int = Field(8, ge=1)
    learning_rate: float = Field(3e-4, gt=0)
    frozen_weight: float = Field(
        0.01, ge=0, description="weight of the distance to the network as it was; the paper has 0.01, or 0"
    )
    start: int = Field(200, ge=1, description="step that reconstructions start from")
    calls: int = Field(1, ge=1, description="of the UNet for each reconstruction")
    anomalies: int = Field(
        100, ge=8, description="synthetic anomalies on the good images held out, which choose the epoch with them"
    )
    holdout: float = HOLDOUT

    @model_validator(mode="after")
    def _blocks_rise(self) -> DinoFinetuneRecipe:
        if self.blocks[0] < 1 or any(a >= b for a, b in zip(self.blocks, self.blocks[1:], strict=False)):
            raise ValueError(f"blocks are {self.blocks}; give each once, in rising order, counted from 1")
        return self


class DistilRecipe(Frozen):
    """A small autoencoder (diffusers AutoencoderTiny) that does what the product's autoencoder does."""

    width: int = Field(64, ge=8, description="channels of every layer")
    blocks: int = Field(3, ge=1, description="residual blocks at every resolution but the image's, which has one")
    steps: int = Field(ge=1)
    batch: int = Field(4, ge=1)
    crop: int = Field(256, ge=16, description="side of the random crops, px")
    learning_rate: float = Field(1e-3, gt=0)
    latents_weight: float = Field(1.0, ge=0, description="of the encoder: squared error of the latents")
    pictures_weight: float = Field(1.0, ge=0, description="of the decoder: L1 and gradient distance of the pictures")
    holdout: float = HOLDOUT
