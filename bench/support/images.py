"""Which images a measurement takes of a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from service.client.camera import find_images
from training.data.dataset import test_images


def some_images(folder: Path, count: int) -> tuple[Path, ...]:
    """At most so many images, evenly spread over all that the folder has, in their order.

    folder: labelled images (those of test/), or any folder of images, subfolders too. DataError, or ValueError where
    there are none.
    """
    return spread(_all_images(folder), count)


def _all_images(folder: Path) -> Sequence[Path]:
    labelled = (folder / "test").is_dir() or (folder / "Data" / "Images").is_dir()
    return [image.path for image in test_images(folder)] if labelled else find_images(folder)


def spread(files: Sequence[Path], count: int) -> tuple[Path, ...]:
    """`count` of the files, evenly spread; all of them where they are no more. ValueError for a count below 1."""
    if count < 1:
        raise ValueError(f"count is {count}; at least one image is needed")
    places = np.linspace(0, len(files) - 1, min(count, len(files))).round().astype(int)
    return tuple(files[place] for place in places)
