"""Which anomalies are tried: as many of each kind in each cell of contrast and size, on different good images.

The size of an anomaly is known only when it is drawn. So anomalies of each kind are drawn, each as large as the cells
want that still lack some, faded to each contrast, and kept where a cell has room; some cells stay empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from glad.images.tiling import lay_out
from glad.settings.method import MethodSettings
from training.data.image_files import read_pixels
from training.process_pool import parallel_map
from training.progress import Count
from training.sensitivity.planting import AnomalyDraw, AnomalyMeasures, Planting, draw_anomaly
from training.synthesis.anomalies import FLAWS, KINDS
from training.synthesis.overlays import FillSource

CONTRASTS: dict[str, tuple[float, float]] = {"faint": (7, 16), "medium": (16, 40), "strong": (40, 255)}
"""Name -> from and to which mean change, in grey levels of 255."""
STRONGEST_WANTED = 90.0
"""Grey levels: hardly any kind changes an image more."""
MODEL_PIXELS = (1.5, 3, 6, 12, 24, 48)
"""Edges of the classes of size, in model pixels; the last class has no upper end."""
PATIENCE = 5
"""Draws in a row aimed at a class of size of which none had a place there, after which it is given up."""
STREAM = 7021
"""Of the random numbers, beside those of training and calibration."""


@dataclass(frozen=True)
class ChosenAnomaly:
    """An anomaly to be tried, and the cell that it lies in."""

    draw: AnomalyDraw
    path: Path
    contrast: str
    """Of `CONTRASTS`."""
    faded_to: float
    """Grey levels that were wanted."""
    size_class: int
    measures: AnomalyMeasures

    @property
    def size_px(self) -> float:
        """Return its size in pixels of the original."""
        return self.measures.size_px

    def planting(self, settings: MethodSettings) -> Planting:
        """Return the change of its image."""
        return Planting(self.draw, self.faded_to, settings)


@dataclass(frozen=True)
class WantedAnomalies:
    """What is to be chosen."""

    paths: tuple[Path, ...]
    """Good images."""
    settings: MethodSettings
    kinds: tuple[str, ...]
    per_cell: int
    seed: int
    source: FillSource

    def size_edges(self) -> tuple[float, ...]:
        """Return where classes of size begin, in pixels of the originals: those of `MODEL_PIXELS` in the first one."""
        pixels = read_pixels(self.paths[0])
        scale = lay_out(pixels.shape[1], pixels.shape[0], self.settings).placement.scale
        return tuple(_rounded(edge / scale) for edge in MODEL_PIXELS)


@dataclass(frozen=True)
class _Search:
    """One kind: what a process searches at a time."""

    wanted: WantedAnomalies
    edges: tuple[float, ...]
    kind: str


class _Cells:
    """The cells of one kind, as they are filled; one size that several draws in a row missed is given up."""

    def __init__(self, sizes: int, per_cell: int) -> None:
        places = [(contrast, size) for contrast in CONTRASTS for size in range(sizes)]
        self.kept: dict[tuple[str, int], list[ChosenAnomaly]] = {place: [] for place in places}
        self._per_cell = per_cell
        self._missed = [0] * sizes

    def lacking(self) -> list[int]:
        """Return the classes of size of which some contrast has room, and that are not given up."""
        return [size for size, missed in enumerate(self._missed) if missed < PATIENCE and self._has_room(size)]

    def _has_room(self, size: int) -> bool:
        return any(len(self.kept[contrast, size]) < self._per_cell for contrast in CONTRASTS)

    def add(self, aimed: int, found: Sequence[ChosenAnomaly]) -> None:
        """Keep what was found where there is room, for a draw that was aimed at a class of size."""
        fitting = [one for one in found if len(self.kept[one.contrast, one.size_class]) < self._per_cell]
        for one in fitting:
            self.kept[one.contrast, one.size_class].append(one)
            self._missed[one.size_class] = 0
        if not any(one.size_class == aimed for one in fitting):
            self._missed[aimed] += 1


def choose_anomalies(
    wanted: WantedAnomalies, edges: Sequence[float], *, progress: Count | None = None, workers: int | None = None
) -> tuple[ChosenAnomaly, ...]:
    """Return the anomalies to try, in rounds: one of each cell, then another of each, and so on.

    So that however many are tried, from the first on, cells have about equally many. The same seed chooses the same.

    Args:
        wanted: the kinds, and how many.
        edges: where classes of size begin, in pixels of the originals.
        progress: of the kinds.
        workers: processes; None: one per core; 1: all in this one.
    """
    searches = [_Search(wanted, tuple(edges), kind) for kind in wanted.kinds]
    cells: list[list[ChosenAnomaly]] = []
    for done, found in enumerate(parallel_map(_search, searches, workers=workers), start=1):
        cells += found
        if progress is not None:
            progress(done, len(searches))
    return tuple(_in_rounds(cells, wanted.per_cell))


def _in_rounds(cells: Sequence[Sequence[ChosenAnomaly]], per_cell: int) -> Iterator[ChosenAnomaly]:
    for turn in range(per_cell):
        yield from (kept[turn] for kept in cells if len(kept) > turn)


def _search(search: _Search) -> list[list[ChosenAnomaly]]:
    """Return the anomalies of each cell of a kind."""
    wanted = search.wanted
    number = (STREAM, wanted.seed, KINDS.index(search.kind))
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(number)))
    cells = _Cells(len(search.edges), wanted.per_cell)
    order = rng.permutation(len(wanted.paths))
    usual_sizes: list[float] = []  # at a magnification of 1, as far as it has been seen
    turn = 0
    while lacking := cells.lacking():
        path = wanted.paths[order[turn % len(order)]]
        aimed = lacking[turn % len(lacking)]
        magnification = _magnification(rng, search.kind, _size_in(rng, search.edges, aimed), usual_sizes)
        draw = AnomalyDraw(search.kind, (*number, turn), magnification, wanted.source)
        found = _at_each_contrast(rng, path, search, draw)
        usual_sizes += [one.size_px / magnification for one in found[-1:]]
        cells.add(aimed, found)
        turn += 1
    return list(cells.kept.values())


def _at_each_contrast(rng: np.random.Generator, path: Path, search: _Search, draw: AnomalyDraw) -> list[ChosenAnomaly]:
    """Return an anomaly at every contrast to which it can be faded."""
    wanted = [(name, _contrast_in(rng, name)) for name in CONTRASTS]
    drawn = draw_anomaly(read_pixels(path), search.wanted.settings, draw)
    if drawn is None:
        return []
    found = []
    for name, contrast in wanted:
        measures = drawn.measures(contrast)
        low, high = CONTRASTS[name]
        if measures is None or not low <= measures.contrast < high or measures.size_px < search.edges[0]:
            continue
        size_class = int(np.searchsorted(search.edges, measures.size_px, side="right")) - 1
        found.append(ChosenAnomaly(draw, path, name, contrast, size_class, measures))
    return found


def _size_in(rng: np.random.Generator, edges: Sequence[float], size_class: int) -> float:
    """Return a size inside a class; the last one is taken to be twice as large as it begins."""
    low = edges[size_class]
    high = edges[size_class + 1] if size_class + 1 < len(edges) else 2 * low
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _magnification(rng: np.random.Generator, kind: str, aimed: float, usual_sizes: Sequence[float]) -> float:
    """Return how much larger than usual an anomaly is to be drawn: by those that were drawn before."""
    low, high = (0.1, 6.0) if kind in FLAWS else (0.05, 1.0)
    if not usual_sizes:
        return float(np.exp(rng.uniform(np.log(low), np.log(min(high, 1.0)))))
    return float(np.clip(aimed / np.median(usual_sizes), low, high))


def _contrast_in(rng: np.random.Generator, contrast: str) -> float:
    low, high = CONTRASTS[contrast]
    return float(np.exp(rng.uniform(np.log(low), np.log(min(high, STRONGEST_WANTED)))))


def _rounded(size: float) -> float:
    """Return a size to two digits: what people read."""
    return float(f"{size:.2g}")
