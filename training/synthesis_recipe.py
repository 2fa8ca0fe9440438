"""The parts of a recipe about synthetic anomalies: those that models learn from, and those that the finished one finds.

`training.recipe.RecipeBase` joins them with the others.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from glad.settings import Frozen
from glad.settings.method import Foreground, MethodSettings
from training.data.camera_noise import CameraNoise

OVERLAY_KINDS = ("texture", "shuffle", "paste", "stroke", "spot", "warp")
FLAW_KINDS = ("crack", "chip", "pores", "missing", "shifted", "uneven", "fray")


class SynthesisRecipe(Frozen):
    """Synthetic anomalies and the pairs (x, x^a) made once before training (Sec. 3.5; MemSeg and CutPaste).

    Flaws of material and content (`crack` and what follows) are sized in pixels of the original; their weights are 0
    unless given, so that recipes from before they existed make the pairs that they always made.
    """

    pairs: int = Field(ge=8, description="pairs kept in memory; each good image is used about equally often")
    none: float = Field(0.3, ge=0, le=1, description="share of pairs without anomaly")
    texture: float = Field(0.25, ge=0, description="weight: Perlin shape filled with a procedural texture (MemSeg)")
    shuffle: float = Field(0.20, ge=0, description="weight: Perlin shape filled with the shuffled product (MemSeg)")
    paste: float = Field(0.20, ge=0, description="weight: a patch of the product pasted elsewhere (CutPaste)")
    stroke: float = Field(0.15, ge=0, description="weight: a thin curved stroke (CutPaste's scar)")
    spot: float = Field(0.15, ge=0, description="weight: a soft spot, darker, brighter, tinted or embossed")
    warp: float = Field(0.15, ge=0, description="weight: the product locally displaced")
    crack: float = Field(0.0, ge=0, description="weight: a jagged, branching line")
    chip: float = Field(0.0, ge=0, description="weight: a bite out of the part's or the picture's edge")
    pores: float = Field(0.0, ge=0, description="weight: one to three dozen pits, close together or spread")
    missing: float = Field(0.0, ge=0, description="weight: a piece replaced by its surroundings")
    shifted: float = Field(0.0, ge=0, description="weight: a compact piece moved, its old place filled")
    uneven: float = Field(0.0, ge=0, description="weight: other light, gloss or sharpness in a large soft region")
    fray: float = Field(0.0, ge=0, description="weight: a stretch of an edge roughened into fibres")
    shift_px: int = Field(2, ge=0, description="both images of a pair are shifted together by up to this many pixels")
    gain: float = Field(0.05, ge=0, lt=1, description="... and their brightness is scaled by up to this share")
    noisy: float = Field(
        0.0, ge=0, le=1, description="share of pairs made of the photograph taken once more, with the camera's noise"
    )
    camera: CameraNoise = Field(CameraNoise(), description="that takes it")
    textures: str | None = Field(
        None,
        description="folder of pictures that `texture` is filled with, such as the Describable Textures Dataset; "
        "None: textures are computed",
    )
    overlays: Literal["varied", "memseg"] = Field(
        "varied",
        description="how `texture` and `shuffle` are drawn; varied: half of their shapes cut to a window, after ten "
        "quick changes; memseg: whole Perlin shapes and the ten changes of the published code",
    )
    foreground: Foreground | None = Field(
        None, description="where anomalies lie: on the whole image, a dark or a bright object; None: as it is scored"
    )

    def settings(self, base: MethodSettings) -> MethodSettings:
        """Return the settings with which images are cut for anomalies: the base with this recipe's foreground."""
        if self.foreground is None:
            return base
        return base.model_copy(update={"score": base.score.model_copy(update={"foreground": self.foreground})})

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each kind of anomaly."""
        return {kind: getattr(self, kind) for kind in (*OVERLAY_KINDS, *FLAW_KINDS)}


class SensitivityRecipe(Frozen):
    """What share of synthetic anomalies the finished model finds: how many are tried, and for how long at most."""

    per_cell: int = Field(
        4,
        ge=0,
        description="anomalies of each kind, contrast and size; more take longer and say it more surely; 0: none",
    )
    seconds: float = Field(
        180, gt=0, description="after these no more are inspected; all kinds, contrasts and sizes lose equally many"
    )
    images: int = Field(60, ge=1, description="good images, at most, of those for the thresholds")
    kinds: tuple[str, ...] | None = Field(None, description="None: all, those without a weight in synthesis too")

    @model_validator(mode="after")
    def _kinds_exist(self) -> Self:
        known = (*OVERLAY_KINDS, *FLAW_KINDS)
        if unknown := [kind for kind in self.kinds or () if kind not in known]:
            raise ValueError(f"no kind of anomaly is called {unknown[0]!r}: choose of {', '.join(known)}")
        return self
