"""A contact sheet of synthetic anomalies: for each kind a row, for people who choose a recipe's weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from glad.image_codec import Pixels
from glad.settings.method import MethodSettings
from training.synthesis.anomalies import KINDS, make_anomaly
from training.synthesis.pairs import TrainingSquare, read_squares

GAP = 6
"""Pixels between the pictures."""
LABEL = 14
"""Pixels above a row for its kind's name."""
OUTLINE = np.array([255, 40, 40], dtype=np.uint8)


def contact_sheet(
    paths: Sequence[Path],
    settings: MethodSettings,
    kinds: Sequence[str],
    *,
    columns: int,
    seed: int,
    outlined: bool = True,
) -> Image.Image:
    """Return a sheet: for each kind a row of anomalies on different good images, as the models will see them.

    Args:
        paths: of good images, at least one; used in turn.
        settings: whose framing and resolution decide how much of a flaw is seen.
        kinds: of `KINDS`.
        columns: anomalies of each kind.
        seed: another seed, other anomalies.
        outlined: below each row the same pictures again, with a line around what counts as anomalous.

    Raises:
        DataError: for a file that does not decode.
        ValueError: without a kind, or for an unknown one.
    """
    if not kinds:
        raise ValueError(f"no kind of anomaly to draw: choose of {', '.join(KINDS)}")
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise ValueError(f"no kind of anomaly is called {unknown[0]!r}: choose of {', '.join(KINDS)}")
    squares = read_squares(list(paths)[:columns], settings, at_least=columns, seed=seed, workers=1)
    rows = [_row(kind, squares, columns, seed) for kind in kinds]
    return _laid_out(kinds, rows, settings.resolution, outlined)


def _row(kind: str, squares: Sequence[TrainingSquare], columns: int, seed: int) -> list[tuple[Pixels, Pixels]]:
    """Return a kind's pictures, each without and with an outline."""
    number = KINDS.index(kind)
    return [
        _pictures(kind, squares[index % len(squares)], np.random.SeedSequence([seed, 7005, number, index]))
        for index in range(columns)
    ]


def _pictures(kind: str, square: TrainingSquare, seed: np.random.SeedSequence) -> tuple[Pixels, Pixels]:
    rng = np.random.Generator(np.random.Philox(seed))
    good = square.pixels.astype(np.float32) / 255
    try:
        pair = make_anomaly(kind, rng, good, square.valid, square.scale, where=square.inspected)
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
                sheet.paste(Image.fromarray(pixels), place)
    return sheet
