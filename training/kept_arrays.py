"""Results on disk, item by item, so that a training that was interrupted among them goes on where it stopped.

An item depends on its place alone, for one recipe, seed and set of images: those of one run. So the folder holds the
first items, in files of `PER_FILE` at most, and whoever goes on makes the rest. A file is written in one step; one that
cannot be read, because the disk was full or the power went, ends what counts as made.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.progress import progress_bar

PER_FILE = 64
PLAIN = "-plain"
"""Ends the name of a column of images whose channels come first in memory."""
Arrays = tuple[np.ndarray, ...]
"""Of one item, such as a pair: normal, anomalous, mask and valid; see `training.synthesis.pairs.PairSet`."""


class KeptArrays:
    """The first items of a run, in a folder of it."""

    def __init__(self, folder: Path, most: int, *, compressed: bool = True) -> None:
        """Look into a folder, which need not exist.

        Args:
            folder: for these items alone.
            most: so many items are made in all.
            compressed: for images; latents do not become smaller by it.
        """
        self._folder, self._most, self._compressed = folder, most, compressed
        self._waiting: list[Arrays] = []
        self._written = 0

    def read(self) -> Iterator[Arrays]:
        """Yield the items that are there, from the first one on."""
        while self._written < self._most and (found := _read(self._path(self._written))):
            self._written += len(found)
            yield from found[: self._most]

    def add(self, item: Arrays) -> None:
        """Keep the next item; it is on disk when its file is full, or the last item is there."""
        self._waiting.append(item)
        if len(self._waiting) == PER_FILE or self._written + len(self._waiting) == self._most:
            self.flush()

    def flush(self) -> None:
        """Write the items that wait for their file to be full: no more come today."""
        if self._waiting:
            self._folder.mkdir(parents=True, exist_ok=True)
            _write(self._path(self._written), self._waiting, np.savez_compressed if self._compressed else np.savez)
            self._written += len(self._waiting)
            self._waiting = []

    def _path(self, first: int) -> Path:
        return self._folder / f"{first:06d}.npz"


def made_once(
    items: Tensor, make: Callable[[Tensor], Tensor], keep: Path | None, *, at_once: int, title: str
) -> Tensor:
    """Return what `make` makes of items (N, ...), from the folder `keep` as far as it lies there: bit for bit the same.

    Args:
        items: of which each call takes so many, also after a stop: rounding depends on it.
        make: a batch of results from a batch of items.
        keep: for these results alone; None: they are not kept.
        at_once: items a call; divides `PER_FILE`.
        title: of the progress bar.
    """
    kept = None if keep is None else KeptArrays(keep, len(items), compressed=False)
    found = [] if kept is None else [array for (array,) in kept.read()]
    batches = [_as_batch(found)] if found else []
    with progress_bar() as bar:
        task = bar.add_task(title, total=len(items), completed=len(found), note="")
        for few in torch.split(items[len(found) :], at_once) if len(found) < len(items) else ():
            batches.append(make(few))
            if kept is not None:
                for one in batches[-1]:
                    kept.add((one.numpy(),))
            bar.update(task, advance=len(few))
    return torch.cat(batches)


def _as_batch(rows: Sequence[np.ndarray]) -> Tensor:
    """Return images (C, H, W) as a batch whose channels lie in memory where theirs do."""
    first = rows[0].ndim != 3 or rows[0].flags.c_contiguous
    batch = torch.from_numpy(np.stack(rows))
    return batch.contiguous(memory_format=torch.contiguous_format if first else torch.channels_last)


def _read(path: Path) -> list[Arrays]:
    """Return the items of a file; none if it is absent or damaged."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            columns = [_as_made(name, file[name]) for name in sorted(file.files)]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return []
    return list(zip(*columns, strict=True))


def _as_made(name: str, column: np.ndarray) -> np.ndarray:
    """Return images (N, C, H, W) with their channels where they were in memory: sums depend on the order."""
    if column.ndim != 4 or name.endswith(PLAIN):
        return column
    return np.ascontiguousarray(column.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def _write(path: Path, items: Sequence[Arrays], save: Callable[..., None]) -> None:
    draft = path.with_suffix(".tmp")
    with draft.open("wb") as stream:
        save(stream, allow_pickle=False, **dict(map(_named, range(len(items[0])), zip(*items, strict=True))))
    draft.replace(path)


def _named(number: int, column: Sequence[np.ndarray]) -> tuple[str, np.ndarray]:
    first = column[0].ndim == 3 and column[0].flags.c_contiguous
    return f"{number}{PLAIN if first else ''}", np.stack(column)
