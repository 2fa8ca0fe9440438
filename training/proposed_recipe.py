"""The recipe "my-product": `light`, with those settings changed that a product's own good images decide, and why.

Every rule below says what its numbers are; none of them was chosen by test results. What the images say about settings
that `light` does not have is told all the same.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
import tomlkit

from glad.image_codec import Pixels
from glad.images.tiling import lay_out
from glad.settings.framing import Stretch, Tiles
from glad.settings.method import Foreground, MethodSettings
from training.data.image_checks import ImageChecks, sizes_in_words
from training.product_views import Alignment, Ground, measure_alignment, measure_ground, read_sample
from training.recipe_file import SHIPPED, AnyRecipe, RecipeError, changed_content, load_recipe, recipe_from
from training.training_plan import ChangedSetting

MY_PRODUCT = "my-product"
RECIPE = "recipe.toml"
"""Its file in the run's folder."""
BASE = "light"
SEEN_SHARE = 32
"""A defect must be about 1/32 of the square's side to be seen (docs/tutorial.md)."""
GRID = 32
"""Tiles' sides are multiples of this."""
LONG = 3.0
"""Times as long as high: letterboxed, such an image would use a third of the square or less."""
MIXED_SHAPES, GAINED = 1.1, 0.1
"""Widths by heights that differ by less are of one shape; agreement that stretching must add to be worth it."""
NEARLY_WHOLE = 0.75
"""Of the longer side: a tile of so much or more gains less than its overlap costs."""
REGISTERED = 0.6
"""Agreement of edges from which on parts lie alike; nuts that lie turned reach 0.4, any two brushed surfaces 0.2."""
NEAR = 1 / 16
"""Of the longer side: parts that are shifted by more lie in no one place."""
PATCH = 8
"""Pixels of the model's square."""
COMMENT = 110
"""Characters of a line that says why."""
GROUND_SEEN, ALL_OF_PART, CLUTTERED = 0.9, 0.97, 0.5
"""A foreground hides whatever looks like the ground, defects too. So it is proposed only where nearly all images show a
ground, nearly all of the part stands out from it, and it is no plain one: half as cluttered as the part, or more."""


@dataclass(frozen=True)
class Proposal:
    """A recipe for a product's images, how it differs from the shipped one, and why."""

    recipe: AnyRecipe
    toml: str
    """The same as a file to edit."""
    changed: tuple[ChangedSetting, ...]
    observed: tuple[str, ...]
    """What was looked at and changed nothing."""


def propose_recipe(checks: ImageChecks, smallest_defect: int | None = None, changes: Sequence[str] = ()) -> Proposal:
    """Return the recipe for the images of a product.

    Args:
        checks: of its images.
        smallest_defect: that is to be found, in pixels of the original; None: it is told what will be seen.
        changes: of single values, which count more than what is proposed; see `load_recipe`.

    Raises:
        DataError: for an image that cannot be read.
        RecipeError: for a change of no value, or values that do not fit together.
        ValueError: for a smallest defect below 1.
    """
    if smallest_defect is not None and smallest_defect < 1:
        raise ValueError(f"the smallest defect is {smallest_defect} pixels: give its size in pixels, at least 1")
    settings = load_recipe(BASE).settings
    sample = read_sample([image.path for image in checks.images])
    framing = _framing(checks, sample, smallest_defect, settings)
    looked = [framing, _foreground(measure_ground(sample), isinstance(framing.value, Tiles))]
    observed = [*(one.why for one in looked if one.value is None)]
    if len(sample) > 1:
        observed.append(_window(measure_alignment(sample), settings))
    observed.append(_groups(checks))
    given = {change.partition("=")[0].strip() for change in changes}
    chosen = [one for one in looked if one.value is not None and one.key not in given]
    toml = _as_toml(chosen, changes, [*(f"{one.key}: {one.why}" for one in chosen), *observed])
    recipe = recipe_from(tomllib.loads(toml), MY_PRODUCT)
    changed = tuple(ChangedSetting(key=one.key, value=_inline(one.value), why=one.why) for one in chosen)
    return Proposal(recipe, toml, changed, tuple(observed))


def write_recipe(proposal: Proposal, run: Path) -> Path:
    """Write the recipe into a run's folder, and return the file.

    Raises:
        RecipeError: if another one lies there, which a person may have edited.
    """
    path = run / RECIPE
    if path.is_file() and path.read_text(encoding="utf-8") != proposal.toml:
        raise RecipeError(
            f"{path} differs from what the images propose now: give it as the recipe (`glad train {path} …`) to train "
            "with it, or remove it to have a new one"
        )
    run.mkdir(parents=True, exist_ok=True)
    path.write_text(proposal.toml, encoding="utf-8")
    return path


@dataclass(frozen=True)
class _Looked:
    """What one look at the images says of a setting."""

    key: str
    value: Tiles | Stretch | Foreground | None
    """None: it stays as it is."""
    why: str


def _framing(checks: ImageChecks, sample: Sequence[Pixels], smallest: int | None, settings: MethodSettings) -> _Looked:
    """Whole images, or tiles of such a side that the smallest defect is a 32nd of it."""
    key = "settings.framing"
    widths, heights = np.array([image.size for image in checks.images]).T
    width, height = int(np.median(widths)), int(np.median(heights))
    longer, shorter = max(width, height), min(width, height)
    seen = ceil(longer / SEEN_SHARE)
    side = _tile_side(shorter if smallest is None else SEEN_SHARE * smallest, settings)
    tiles_help = smallest < seen if smallest is not None else longer >= LONG * shorter
    if tiles_help and side < NEARLY_WHOLE * longer:
        return _tiles(key, (width, height), smallest, side, settings)
    whole = (
        f"framing: images of {sizes_in_words(checks.sizes)} are scaled whole into the square, which shows defects from "
        f"about {seen} pixels of the original on (1/{SEEN_SHARE} of the longer side)"
    )
    if smallest is None:
        whole += "; give --smallest-defect if yours are smaller"
    elif tiles_help:
        whole += f"; for {smallest} pixels take closer photographs, for tiles would be hardly smaller than these images"
    ratios = widths / heights
    if len(sample) < 2 or ratios.max() < MIXED_SHAPES * ratios.min():
        return _Looked(key, None, whole)
    return _stretched(key, sample, whole)


def _tiles(key: str, size: tuple[int, int], smallest: int | None, side: int, settings: MethodSettings) -> _Looked:
    longer, shorter = max(size), min(size)
    found = ceil(side / SEEN_SHARE)
    overlap = min(side // 4, max(PATCH, _up_to(2 * (smallest or found), PATCH)))
    tiles = Tiles(side=side, overlap=overlap)
    count = len(lay_out(*size, settings.changed(framing=tiles)).tiles)
    if smallest is not None:
        reason = f"whole in the square only defects from about {ceil(longer / SEEN_SHARE)} pixels on would be seen"
    else:
        reason = f"{size[0]}×{size[1]} is {longer / shorter:.1f} to 1, and would leave most of the square empty"
    closer = "; for smaller ones take closer photographs" if smallest is not None and smallest < found else ""
    return _Looked(
        key,
        tiles,
        f"{reason}; in tiles of {side} pixels it is about {found}{closer}; an image has {count} tiles then, and takes "
        f"about {count} times as long",
    )


def _stretched(key: str, sample: Sequence[Pixels], whole: str) -> _Looked:
    """Of images of mixed shapes: stretched, where that brings their parts into one place as nothing else does."""
    kept, stretched = measure_alignment(sample), measure_alignment(sample, stretch=True)
    numbers = (
        f"edges of two images agree by {stretched.agreement:.2f} of 1 when stretched, else by {kept.agreement:.2f}"
    )
    if stretched.agreement >= REGISTERED and stretched.agreement >= kept.agreement + GAINED:
        return _Looked(key, Stretch(), f"images of mixed shapes lie on each other when they are stretched ({numbers})")
    return _Looked(key, None, f"{whole}; their shapes are kept, though they differ ({numbers})")


def _tile_side(wanted: int, settings: MethodSettings) -> int:
    """Return a tile's side: no smaller than the square, for what is enlarged shows nothing new."""
    return max(settings.resolution, _up_to(wanted, GRID))


def _up_to(value: int, step: int) -> int:
    return step * ceil(value / step)


def _foreground(ground: Ground, tiled: bool) -> _Looked:
    """The part alone, where a cluttered ground would be inspected too; else the whole image."""
    key = "settings.score.foreground"
    side = max(ground.bright_parts, 1 - ground.bright_parts)
    if tiled:
        return _Looked(key, None, "foreground: the whole image, because a tile may lie within the part or beside it")
    if ground.seen < GROUND_SEEN or side < GROUND_SEEN:
        return _Looked(
            key,
            None,
            f"foreground: the whole image, because only {_percent(ground.seen)} of the images show a ground all around",
        )
    if ground.covered < ALL_OF_PART:
        return _Looked(
            key,
            None,
            f"foreground: the whole image, because up to {_percent(1 - ground.covered)} of the part is as "
            f"{'dark' if ground.bright_parts > 0.5 else 'bright'} as its ground, and would not be inspected",
        )
    if ground.clutter < CLUTTERED:
        return _Looked(
            key,
            None,
            f"foreground: the whole image, because the ground is plain ({ground.clutter:.1f} times the fine structure "
            "of the part): to leave it out would gain nothing, and hide defects that are as dark or bright as it",
        )
    chosen = Foreground.BRIGHT if ground.bright_parts > 0.5 else Foreground.DARK
    return _Looked(
        key,
        chosen,
        f"{_percent(ground.seen)} of the images show a {chosen.value} part, with at least {_percent(ground.covered)} "
        f"of its area, on a cluttered ground ({ground.clutter:.1f} times the fine structure of the part), which is not "
        'inspected then; nor is a large defect that looks like the ground: set it to "whole" if there are such',
    )


def _window(alignment: Alignment, settings: MethodSettings) -> str:
    """What the images say about a matching window, which `light` has none of."""
    numbers = f"edges of two images agree by {alignment.agreement:.2f} of 1"
    if alignment.agreement < REGISTERED:
        return f"matching window: none, because the parts do not lie alike ({numbers}, less than {REGISTERED})"
    if alignment.shift > NEAR:
        return (
            f"matching window: none, because the parts are shifted by up to {_percent(alignment.shift)} of the longer "
            f"side ({numbers})"
        )
    patches = ceil(alignment.shift * settings.resolution / PATCH) + 1
    return (
        f"matching window: the parts lie in one place, within {_percent(alignment.shift)} of the longer side "
        f"({numbers}); "
        f"{BASE} compares with good patches from everywhere and has no such setting, in a recipe of the pixel form "
        f"settings.score.window = {patches} would fit"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _groups(checks: ImageChecks) -> str:
    if checks.groups is None:
        return "groups: as the groups file says"
    found = checks.groups
    if found.suspicious:
        return (
            f"groups: none are used, though {found.grouped} of {len(found.images)} images look like several "
            "photographs of one part: see the warning"
        )
    return (
        f"groups: each image counts as a part of its own ({found.grouped} of {len(found.images)} stand in groups apart "
        "from all others)"
    )


def _as_toml(chosen: Sequence[_Looked], changes: Sequence[str], reasons: Sequence[str]) -> str:
    """Return the shipped recipe with values changed and the reasons at its top; its own comments stay."""
    document = tomlkit.parse((SHIPPED / f"{BASE}.toml").read_text(encoding="utf-8"))
    document["name"] = MY_PRODUCT
    for one in chosen:
        _set(document, one.key.split("."), _item(one.value))
    for change in changes:
        path = [part.strip() for part in change.partition("=")[0].split(".")]
        _set(document, path, _at(changed_content(document.unwrap(), change), path))
    schema, _, rest = tomlkit.dumps(document).partition("\n")
    because = [f"# {line}" for reason in ("Proposed from good images:", *reasons) for line in wrap(reason, COMMENT)]
    return "\n".join([schema, *because, "#", rest])


def _set(document: Any, path: Sequence[str], value: Any) -> None:
    table = document
    for parent in path[:-1]:
        table = table.setdefault(parent, tomlkit.table())
    table[path[-1]] = value


def _at(content: Any, path: Sequence[str]) -> Any:
    for key in path:
        content = content[key]
    return content


def _item(value: Tiles | Stretch | Foreground | None) -> Any:
    if isinstance(value, Tiles | Stretch):
        table = tomlkit.inline_table()
        table.update(value.model_dump(exclude_none=True))
        return table
    return tomlkit.item(str(value))


def _inline(value: Tiles | Stretch | Foreground | None) -> str:
    return str(_item(value).as_string())
