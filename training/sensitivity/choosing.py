"""Which anomalies are tried: as many of each kind in each cell of contrast and size, on different good images.

Size and contrast of an anomaly are known only when it is drawn. So for each kind and contrast anomalies are drawn, each
as large as the cells want that still lack some, and kept where a cell has room; some cells stay empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from glad.image_codec import Pixels
from glad.images.tiling import lay_out
from glad.settings.method import MethodSettings
from training.data.image_files import read_pixels
from training.process_pool import parallel_map
from training.progress import Count
from training.sensitivity.planting import AnomalyDraw, plant
from training.synthesis.anomalies import FLAWS, KINDS
from training.synthesis.overlays import FillSource

CONTRASTS: dict[str, tuple[float, float]] = {"faint": (7, 16), "medium": (16, 40), "strong": (40, 255)}
"""Name -> from and to which mean change, in grey levels of 255."""
STRONGEST_WANTED = 90.0
"""Grey levels: hardly any kind changes an image more."""
MODEL_PIXELS = (1.5, 3, 6, 12, 24, 48)
"""Edges of the classes of size, in model pixels; the last class has no upper end."""
TRIES_PER_PLACE = 4
"""Anomalies drawn, at most, for each that is wanted."""
STREAM = 7021
"""Of the random numbers, beside those of training and calibration."""


@dataclass(frozen=True)
class ChosenAnomaly:
    """An anomaly to be tried, and the cell that it lies in."""

    draw: AnomalyDraw
    path: Path
    contrast: str
    """Of `CONTRASTS`."""
    size_class: int
    size_px: float
    """In pixels of the original."""
    contrast_levels: float
    """As measured, in grey levels of 255."""


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
    """One kind at one contrast: what a process searches at a time."""

    wanted: WantedAnomalies
    edges: tuple[float, ...]
    kind: str
    contrast: str


@dataclass
class _Cells:
    """The cells of one kind at one contrast, as they are filled."""

    count: int
    per_cell: int
    kept: list[list[ChosenAnomaly]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.kept = [[] for _ in range(self.count)]

    def lacking(self) -> list[int]:
        """Return the cells with room."""
        return [number for number, kept in enumerate(self.kept) if len(kept) < self.per_cell]


def choose_anomalies(
    wanted: WantedAnomalies, edges: Sequence[float], *, progress: Count | None = None, workers: int | None = None
) -> tuple[ChosenAnomaly, ...]:
    """Return the anomalies to try, in rounds: one of each cell, then another of each, and so on.

    So that however many are tried, from the first on, cells have about equally many. The same seed chooses the same.

    Args:
        wanted: the kinds, and how many.
        edges: where classes of size begin, in pixels of the originals.
        progress: of the kinds and contrasts.
        workers: processes; None: one per core; 1: all in this one.
    """
    searches = [_Search(wanted, tuple(edges), kind, contrast) for kind in wanted.kinds for contrast in CONTRASTS]
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
    """Return the anomalies of each class of size."""
    wanted = search.wanted
    number = [STREAM, wanted.seed, KINDS.index(search.kind), list(CONTRASTS).index(search.contrast)]
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(number)))
    cells = _Cells(len(search.edges), wanted.per_cell)
    order = rng.permutation(len(wanted.paths))
    usual_sizes: list[float] = []  # at a magnification of 1, as far as it has been seen
    for turn in range(TRIES_PER_PLACE * cells.count * cells.per_cell):
        if not (lacking := cells.lacking()):
            break
        path = wanted.paths[order[turn % len(order)]]
        aimed = _aimed(rng, search.edges, lacking[turn % len(lacking)])
        draw = AnomalyDraw(
            search.kind,
            (*number, turn),
            _magnification(rng, search.kind, aimed, usual_sizes),
            _contrast_wanted(rng, search.contrast),
            wanted.source,
        )
        chosen = _tried(read_pixels(path), path, search, draw)
        if chosen is None:
            continue
        usual_sizes.append(chosen.size_px / draw.magnification)
        if chosen.contrast == search.contrast and chosen.size_class in lacking:
            cells.kept[chosen.size_class].append(chosen)
    return cells.kept


def _tried(pixels: Pixels, path: Path, search: _Search, draw: AnomalyDraw) -> ChosenAnomaly | None:
    planted = plant(pixels, search.wanted.settings, draw)
    if planted is None or planted.size_px < search.edges[0] or planted.contrast < CONTRASTS["faint"][0]:
        return None
    contrast = next(name for name, (_, high) in CONTRASTS.items() if planted.contrast < high or name == "strong")
    size_class = int(np.searchsorted(search.edges, planted.size_px, side="right")) - 1
    return ChosenAnomaly(draw, path, contrast, size_class, planted.size_px, planted.contrast)


def _aimed(rng: np.random.Generator, edges: Sequence[float], size_class: int) -> float:
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


def _contrast_wanted(rng: np.random.Generator, contrast: str) -> float:
    low, high = CONTRASTS[contrast]
    return float(np.exp(rng.uniform(np.log(low), np.log(min(high, STRONGEST_WANTED)))))


def _rounded(size: float) -> float:
    """Return a size to two digits: what people read."""
    return float(f"{size:.2g}")
