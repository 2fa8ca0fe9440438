"""Synthetic anomalies on good images: pairs of a good image and the same image with one kind of anomaly.

Two families: what is laid over the image (`overlays`: the paper's, MemSeg's and CutPaste's kinds, sized by the model
image), and flaws as materials and lines have them (`material`, `content`), sized in pixels of the original. Images are
float (S, S, 3) in [0, 1], float32 in a finished pair; masks are bool (S, S) and hold only pixels that changed visibly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from training.synthesis.content import missing, shifted, uneven
from training.synthesis.material import chip, crack, fray, pores
from training.synthesis.overlays import COMPUTED, FillSource, paste, shuffle, spot, stroke, texture, warp
from training.synthesis.patterns import Floats, Mask, Unit
from training.synthesis.surface import Surface
from training.synthesis_recipe import SynthesisRecipe

VISIBLE = 0.025  # mean absolute change over the channels from which a pixel counts as anomalous
LEAST_VISIBLE = 8  # pixels that an anomaly must have changed to count as one
TRIES = 50


@dataclass(frozen=True)
class Pair:
    """A good image and an anomaly of it: both (S, S, 3) in [0, 1]; mask (S, S), empty if nothing was done."""

    normal: Floats
    anomalous: Floats
    mask: Mask
    kind: str


FILLS: dict[str, Callable[[np.random.Generator, Unit, FillSource], Unit]] = {"texture": texture, "shuffle": shuffle}
OVERLAYS: dict[str, Callable[[np.random.Generator, Unit], Unit]] = {
    "paste": paste,
    "stroke": stroke,
    "spot": spot,
    "warp": warp,
}
FLAWS: dict[str, Callable[[np.random.Generator, Unit, Surface], Unit]] = {
    "crack": crack,
    "chip": chip,
    "pores": pores,
    "missing": missing,
    "shifted": shifted,
    "uneven": uneven,
    "fray": fray,
}
KINDS = (*FILLS, *OVERLAYS, *FLAWS)
"""In this order a random number chooses among them: new ones come last."""


def synthesise(
    rng: np.random.Generator,
    image: Unit,
    valid: Mask,
    recipe: SynthesisRecipe,
    where: Mask | None = None,
    *,
    scale: float = 1.0,
) -> Pair:
    """Return a pair from one good image: shifted and scaled together, one of them damaged inside the valid area.

    Args:
        image: (S, S, 3) in [0, 1].
        valid: (S, S); letterbox padding is False and stays untouched.
        where: (S, S); only there it is damaged, such as on the object; None: all that is valid.
        scale: model pixels per pixel of the original (`Placement.scale`), in whose pixels flaws are sized.
    """
    # Both images move and brighten alike: what a line varies from part to part must not look like an anomaly.
    shift = rng.integers(-recipe.shift_px, recipe.shift_px + 1, 2)
    moved = ndimage.shift(image, (*shift, 0), order=0, mode="nearest") if shift.any() else image
    inside = ndimage.shift(valid, shift, order=0, mode="constant", cval=False) & valid if shift.any() else valid
    normal = np.clip(moved * rng.uniform(1 - recipe.gain, 1 + recipe.gain), 0, 1).astype(np.float32)
    normal = np.where(valid[..., None], normal, image).astype(np.float32)
    if rng.random() < recipe.none:
        return Pair(normal, normal, np.zeros_like(valid), "none")
    kinds, weights = zip(*recipe.weights.items(), strict=True)
    kind = str(rng.choice(kinds, p=np.array(weights) / sum(weights)))
    reached = inside if where is None else inside & where
    return _pair(rng, kind, normal, Surface(valid, reached, scale), fill_source(recipe))


def fill_source(recipe: SynthesisRecipe) -> FillSource:
    """Return how a recipe's `texture` and `shuffle` are drawn."""
    return FillSource(recipe.overlays == "memseg", recipe.textures)


def make_anomaly(
    kind: str,
    rng: np.random.Generator,
    image: Unit,
    valid: Mask,
    scale: float = 1.0,
    *,
    where: Mask | None = None,
    least_visible: int = LEAST_VISIBLE,
    tries: int = TRIES,
    source: FillSource = COMPUTED,
) -> Pair:
    """Return a pair with an anomaly of one named kind that can be seen; the good image is neither moved nor brightened.

    Args:
        kind: one of `KINDS`.
        rng: what is drawn depends on its state alone.
        image: (S, S, 3) in [0, 1].
        valid: (S, S); letterbox padding is False and stays untouched.
        scale: model pixels per pixel of the original (`Placement.scale`), in whose pixels flaws are sized.
        where: (S, S); only there it is damaged, such as on the object; None: all that is valid.
        least_visible: pixels that must have changed visibly.
        tries: anomalies drawn before giving up.
        source: of what `texture` and `shuffle` fill in, see `fill_source`.

    Raises:
        ValueError: for an unknown kind, or if no try changed enough.
    """
    if kind not in KINDS:
        raise ValueError(f"no kind of anomaly is called {kind!r}: choose one of {', '.join(KINDS)}")
    normal = np.clip(image, 0, 1).astype(np.float32)
    surface = Surface(valid, valid if where is None else valid & where, scale)
    for _ in range(tries):
        pair = _pair(rng, kind, normal, surface, source)
        if pair.mask.sum() >= least_visible:
            return pair
    raise ValueError(
        f"no {kind} changed {least_visible} pixels visibly in {tries} tries on {int(surface.reach.sum())} pixels at "
        f"{scale:.3g} model pixels per pixel of the original: enlarge the model image or its share of the original "
        "(resolution, tiles), or use another kind"
    )


def _pair(rng: np.random.Generator, kind: str, normal: Floats, surface: Surface, source: FillSource) -> Pair:
    anomalous = np.where(surface.reach[..., None], _damaged(rng, kind, normal, surface, source), normal)
    # Not the drawn shape: where a fill happens to equal the product nothing is wrong, and nothing may be learnt there.
    mask = np.asarray(np.abs(anomalous - normal).mean(-1) > VISIBLE)
    return Pair(normal, anomalous, mask, kind)


def _damaged(rng: np.random.Generator, kind: str, normal: Floats, surface: Surface, source: FillSource) -> Floats:
    if kind in FILLS:
        damaged = FILLS[kind](rng, normal, source)
    elif kind in OVERLAYS:
        damaged = OVERLAYS[kind](rng, normal)
    elif surface.reach.any():
        damaged = FLAWS[kind](rng, normal, surface)
    else:
        return normal
    return np.clip(damaged, 0, 1).astype(np.float32)
