"""The tables of a recipe that only the feature form has: latents, comparators, doubtful images, pictures.

`training.recipe.FeatureRecipe` joins them with those that every recipe has, and checks that they fit together.
"""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from glad.settings import Frozen


class LatentRecipe(Frozen):
    """How the embedding of good images becomes the latent space."""

    channels: int | None = Field(None, ge=1, description="principal directions that are kept; None: all")
    modelled: int = Field(48, ge=1, description="of these, the first so many are the denoiser's")
    fold: int = Field(
        2, ge=1, description="places on a side that the denoiser takes as one: it works on a coarser grid"
    )


class ComparatorRecipe(Frozen):
    """The comparator that weighs the differences from memory and reconstruction."""

    window: int = Field(3, ge=1, description="side of the window over which differences are averaged, in places")
    shrinkage: float = Field(0.4, gt=0, le=1, description="share of either covariance replaced by its mean variance")
    least_changed: float = Field(0.0, ge=0, lt=1, description="a place of more changed pixels than this is anomalous")

    @model_validator(mode="after")
    def _window_has_a_middle(self) -> Self:
        if self.window % 2 == 0:
            raise ValueError(f"window is {self.window}; it needs a middle: give an odd number")
        return self


class DoubtfulRecipe(Frozen):
    """Which images walk: `settings.doubtful`, found from the first readings of the training's good images.

    Each of them is read by a memory without its own part, as a part that the memory has never seen.
    """

    low_quantile: float = Field(ge=0, le=1, description="of these readings: an image read below it is clearly good")
    high_ratio: float = Field(
        ge=1,
        allow_inf_nan=False,
        description="an image read above this many times the largest of them is clearly defective",
    )
    one_call: bool = Field(False, description="readings ask the denoiser too, by a single call from the first step")


class DecoderRecipe(Frozen):
    """The decoder of latents to pictures (diffusers AutoencoderTiny); only people look at them."""

    width: int = Field(32, ge=1)
    doublings: int = Field(2, ge=0, description="of the grid; what is missing to the image's side is interpolated")
    steps: int = Field(ge=1)
    batch: int = Field(8, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
