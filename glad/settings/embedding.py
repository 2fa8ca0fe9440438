"""How an image is prepared for a backbone, how its features become one embedding, and what a memory of them does."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from glad.settings import Frozen


class Padding(StrEnum):
    """The colour around an image that does not fill its square."""

    BORDER_MEDIAN = "border_median"
    """The median colour of the image's border: the least edge."""
    MEAN_GREY = "mean_grey"
    """The mean that the backbone subtracts: its input is 0 there, as in its own zero padding."""


class Exposure(StrEnum):
    """What is done about light and contrast that change from photograph to photograph."""

    AS_IS = "as_is"
    NORMALISED = "normalised"
    """Every image gets the same mean and the same standard deviation, over all channels together."""


class ImagePreparation(Frozen):
    """How an image becomes a backbone's input. The defaults are what bundles without this setting do."""

    padding: Padding = Padding.BORDER_MEDIAN
    exposure: Exposure = Exposure.AS_IS


class BundlePreparation(ImagePreparation):
    """The same in a bundle's settings, where no backbone is at hand yet when images are prepared."""

    mean: tuple[float, float, float] = Field(
        (0.5, 0.5, 0.5), description="per colour, of images in [0, 1]: what `mean_grey` pads with; the backbone's"
    )


class AverageOver(StrEnum):
    """The places over which a local average runs."""

    ALL = "all"
    """Whatever lies in the window, padding included."""
    IMAGE = "image"
    """Only places that show some of the image: border places then average fewer, and are noisier."""


class EmbeddingSettings(Frozen):
    """How the levels of a backbone become one embedding of the image.

    Each level is averaged locally at its own stride, brought to one grid, and divided by one number, its standard
    deviation on good images. That number is no setting: it is learnt, and stored beside.
    """

    levels: tuple[int, ...] = Field((3, 4), min_length=1, description="of the backbone; 3 and 4: strides 8 and 16")
    averages: tuple[int, ...] = Field((3, 3), description="side of each level's window, in places at its own stride")
    stride: int = Field(8, ge=1, description="of the grid that the levels are brought to, in pixels")
    average_over: AverageOver = AverageOver.ALL

    @model_validator(mode="after")
    def _levels_ascend(self) -> Self:
        if list(self.levels) != sorted(set(self.levels)) or self.levels[0] < 1:
            raise ValueError(f"levels are {self.levels}; give ascending level numbers from 1, each once")
        return self

    @model_validator(mode="after")
    def _averages_fit(self) -> Self:
        if len(self.averages) != len(self.levels):
            raise ValueError(
                f"averages are {self.averages}, levels {self.levels}: give one window per level; 1 averages nothing"
            )
        if wrong := [side for side in self.averages if side < 1 or side % 2 == 0]:
            raise ValueError(f"averages are {self.averages}; {wrong[0]} has no middle: give odd numbers from 1")
        return self


class Selection(StrEnum):
    """How a memory bank chooses the patches that it keeps."""

    RANDOM = "random"
    CORESET = "coreset"
    """Greedy k-centre: each next patch is the one farthest from all those chosen (PatchCore)."""


class Density(StrEnum):
    """What a distance is divided by."""

    NONE = "none"
    SQRT = "sqrt"
    """The square root of the local spacing of good patches."""
    FULL = "full"
    """The local spacing itself."""


class MemoryBankSettings(Frozen):
    """Which good patches a memory bank keeps, and how it judges by them."""

    patches: int = Field(15_000, ge=1, description="kept at most")
    selection: Selection = Selection.RANDOM
    seed: int = Field(0, ge=0, description="of the selection")
    density: Density = Density.NONE
    neighbours: int = Field(3, ge=1, description="nearest patches whose spacing is averaged for the density")
    top: float = Field(0.02, gt=0, le=1, description="share of the judged places whose mean is the score")
    searched: int | None = Field(
        None, ge=1, description="channels, the first so many, by which the nearest patch is looked for; None: by all"
    )
