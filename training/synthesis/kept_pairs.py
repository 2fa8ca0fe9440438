"""Pairs on disk, so that a training that was interrupted among them goes on where it stopped.

A pair depends on its index alone, for one recipe, seed and set of images: those of one run. So the folder holds the
first pairs, in files of `PER_FILE` at most, and whoever goes on makes the rest. A file is written in one step; one that
cannot be read, because the disk was full or the power went, ends what counts as made.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

PER_FILE = 64
Arrays = tuple[np.ndarray, ...]
"""Of one pair: normal, anomalous, mask and valid; see `training.synthesis.pairs.PairSet`."""


class KeptPairs:
    """The first pairs of a run, in its folder."""

    def __init__(self, folder: Path, most: int) -> None:
        """Look into a folder, which need not exist.

        Args:
            folder: the run's, for its pairs alone.
            most: so many pairs are made in all.
        """
        self._folder, self._most = folder, most
        self._waiting: list[Arrays] = []
        self._written = 0

    def read(self) -> Iterator[Arrays]:
        """Yield the pairs that are there, from the first one on."""
        while self._written < self._most and (found := _read(self._path(self._written))):
            self._written += len(found)
            yield from found[: self._most]

    def add(self, pair: Arrays) -> None:
        """Keep the next pair; it is on disk when its file is full, or the last pair is there."""
        self._waiting.append(pair)
        if len(self._waiting) == PER_FILE or self._written + len(self._waiting) == self._most:
            self.flush()

    def flush(self) -> None:
        """Write the pairs that wait for their file to be full: no more come today."""
        if self._waiting:
            self._folder.mkdir(parents=True, exist_ok=True)
            _write(self._path(self._written), self._waiting)
            self._written += len(self._waiting)
            self._waiting = []

    def _path(self, first: int) -> Path:
        return self._folder / f"{first:06d}.npz"


def _read(path: Path) -> list[Arrays]:
    """Return the pairs of a file; none if it is absent or damaged."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            columns = [_as_made(file[name]) for name in sorted(file.files)]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return []
    return list(zip(*columns, strict=True))


def _as_made(column: np.ndarray) -> np.ndarray:
    """Return images (N, 3, S, S) with their channels last in memory, as they are made: sums depend on the order."""
    return np.ascontiguousarray(column.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) if column.ndim == 4 else column


def _write(path: Path, pairs: Sequence[Arrays]) -> None:
    draft = path.with_suffix(".tmp")
    with draft.open("wb") as stream:
        columns = {f"{number}": np.stack(column) for number, column in enumerate(zip(*pairs, strict=True))}
        np.savez_compressed(stream, allow_pickle=False, **columns)
    draft.replace(path)
