"""A contact sheet of synthetic anomalies: for each kind a row, for people who choose a recipe's weights.

Every training draws one at its start, so that what the models learn from is seen before hours are spent.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from glad.image_codec import Pixels
from glad.settings.method import MethodSettings
from training.recipe import RecipeBase
from training.synthesis.anomalies import KINDS, fill_source, make_anomaly
from training.synthesis.overlays import COMPUTED, FillSource
from training.synthesis.pairs import TrainingSquare, read_squares
from training.synthesis_recipe import SynthesisRecipe

GAP = 6
"""Pixels between the pictures."""
LABEL = 14
"""Pixels above a row for its kind's name."""
OUTLINE = np.array([255, 40, 40], dtype=np.uint8)
SHEET_OF_RUN = Path("pictures") / "synthetic-anomalies.png"
"""In a run's folder."""
COLUMNS_OF_RUN = 6
LARGEST_PICTURE = 256
"""Side of a picture in a run's sheet: larger ones are made smaller, so that the sheet stays one that a viewer opens."""


def contact_sheet(
    paths: Sequence[Path],
    settings: MethodSettings,
    kinds: Sequence[str],
    *,
    columns: int,
    seed: int,
    outlined: bool = True,
    synthesis: SynthesisRecipe | None = None,
    largest: int | None = None,
) -> Image.Image:
    """Return a sheet: for each kind a row of anomalies on different good images, as the models will see them.

    Args:
        paths: of good images, at least one; used in turn.
        settings: whose framing and resolution decide how much of a flaw is seen.
        kinds: of `KINDS`.
        columns: anomalies of each kind.
        seed: another seed, other anomalies.
        outlined: below each row the same pictures again, with a line around what counts as anomalous.
        synthesis: says where anomalies lie and what fills them; None: where the score looks, procedural textures.
        largest: side of a picture, in pixels; None: that of the model image.

    Raises:
        DataError: for a file that does not decode, or a texture folder that does not exist.
        ValueError: without a kind, or for an unknown one.
    """
    if not kinds:
        raise ValueError(f"no kind of anomaly to draw: choose of {', '.join(KINDS)}")
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise ValueError(f"no kind of anomaly is called {unknown[0]!r}: choose of {', '.join(KINDS)}")
    cut = settings if synthesis is None else synthesis.settings(settings)
    source = COMPUTED if synthesis is None else fill_source(synthesis)
    squares = read_squares(list(paths)[:columns], cut, at_least=columns, seed=seed, workers=1)
    rows = [_row(kind, squares, columns, seed, source) for kind in kinds]
    return _laid_out(kinds, rows, min(settings.resolution, largest or settings.resolution), outlined)


def draw_sheet_of_run(recipe: RecipeBase, paths: Sequence[Path], run: Path) -> Path | None:
    """Draw the anomalies of a run into its folder, unless they lie there, and return where.

    None: the recipe makes no anomaly.

    Args:
        recipe: whose kinds with a weight are shown.
        paths: of good images.
        run: the run's folder.
    """
    kinds = [kind for kind, weight in recipe.synthesis.weights.items() if weight > 0]
    if not kinds or recipe.synthesis.none == 1:
        return None
    target = run / SHEET_OF_RUN
    if not target.is_file():
        sheet = contact_sheet(
            paths,
            recipe.settings,
            kinds,
            columns=COLUMNS_OF_RUN,
            seed=recipe.seed,
            synthesis=recipe.synthesis,
            largest=LARGEST_PICTURE,
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_suffix(".tmp")
        sheet.save(draft, format="PNG")
        draft.replace(target)
    return target


def _row(
    kind: str, squares: Sequence[TrainingSquare], columns: int, seed: int, source: FillSource
) -> list[tuple[Pixels, Pixels]]:
    """Return a kind's pictures, each without and with an outline."""
    number = KINDS.index(kind)
    return [
        _pictures(kind, squares[index % len(squares)], np.random.SeedSequence([seed, 7005, number, index]), source)
        for index in range(columns)
    ]


def _pictures(
    kind: str, square: TrainingSquare, seed: np.random.SeedSequence, source: FillSource
) -> tuple[Pixels, Pixels]:
    rng = np.random.Generator(np.random.Philox(seed))
    good = square.pixels.astype(np.float32) / 255
    try:
        pair = make_anomaly(kind, rng, good, square.valid, square.scale, where=square.inspected, source=source)
    except ValueError:  # too small to be seen at this scale: the good image stands there, without an outline
        return square.pixels, square.pixels
    plain = np.round(pair.anomalous * 255).astype(np.uint8)
    # Two pixels away, so that the line hides nothing of the flaw; one that closes the gaps between its pixels.
    near = ndimage.binary_dilation(ndimage.binary_closing(pair.mask, iterations=2) | pair.mask, iterations=2)
    outline = plain.copy()
    outline[ndimage.binary_dilation(near) & ~near] = OUTLINE
    return plain, outline


def _laid_out(
    kinds: Sequence[str], rows: Sequence[Sequence[tuple[Pixels, Pixels]]], side: int, outlined: bool
) -> Image.Image:
    each = LABEL + (2 if outlined else 1) * (side + GAP)
    sheet = Image.new("RGB", (len(rows[0]) * (side + GAP) + GAP, len(rows) * each + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (kind, pictures) in enumerate(zip(kinds, rows, strict=True)):
        draw.text((GAP, row * each + 1), kind, fill="black")
        for column, shown in enumerate(pictures):
            for line, pixels in enumerate(shown if outlined else shown[:1]):
                place = GAP + column * (side + GAP), row * each + LABEL + line * (side + GAP)
                picture = Image.fromarray(pixels)
                sheet.paste(picture if picture.width == side else picture.resize((side, side)), place)
    return sheet
