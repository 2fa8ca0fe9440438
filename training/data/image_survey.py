"""Every image of a data folder read once, whole: which ones cannot be read, their sizes, and small copies to compare.

Headers tell neither that a file is cut off nor that two files show one photograph. Reading thousands of images takes
minutes, a training that ends on the last of them takes hours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glad.image_codec import Pixels
from training.data.image_files import DataError, check_image, read_pixels
from training.process_pool import parallel_map
from training.progress import Count

THUMBNAIL = 32
"""Side of the small grey copies that photographs are compared by."""
LEAST_CONTRAST = 1.0
"""Grey levels. A picture of less contrast has no look of its own: it is compared with none."""
CHUNK = 32
"""Images handed to a process at once: fewer than two of these need no other process."""


@dataclass(frozen=True, eq=False)
class SurveyedImage:
    """An image as far as it could be read."""

    path: Path
    problem: str | None = None
    """Why it cannot be read; None: it can."""
    width: int = 0
    height: int = 0
    mode: str = ""
    """As Pillow names it: `L` is 8-bit grey, `RGB` colour, `I;16` 16-bit grey."""
    thumbnail: NDArray[np.float32] | None = None
    """(THUMBNAIL * THUMBNAIL,): grey, of mean 0 and standard deviation 1; None: unreadable, or without contrast."""
    square: Pixels | None = None
    """(S, S, 3): the whole picture, stretched to the side that was asked for; None: none was."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright image."""
        return self.width, self.height

    @property
    def without_square(self) -> SurveyedImage:
        """The same without its stretched copy."""
        return replace(self, square=None)


def survey_images(
    paths: Sequence[Path],
    *,
    squares: int | None = None,
    consume: Callable[[SurveyedImage], SurveyedImage] | None = None,
    progress: Count | None = None,
    workers: int | None = None,
) -> tuple[SurveyedImage, ...]:
    """Return what is known of each image, in their order, with every unreadable one among them.

    Args:
        paths: of the images.
        squares: side of a stretched copy of each; None: none is made.
        consume: takes each image as it comes, and returns what is to be kept of it, such as one without its square.
        progress: called after each image.
        workers: processes; None: one per core; 1: all in this one.
    """
    found = []
    for done, image in enumerate(
        parallel_map(partial(_survey, squares=squares), paths, workers=workers, chunk=CHUNK), start=1
    ):
        found.append(image if consume is None else consume(image))
        if progress is not None:
            progress(done, len(paths))
    return tuple(found)


def _survey(path: Path, squares: int | None) -> SurveyedImage:
    try:
        header = check_image(path)
        pixels = read_pixels(path)
    except DataError as error:
        return SurveyedImage(path, str(error))
    height, width = pixels.shape[:2]
    square = None if squares is None else stretched(pixels, squares)
    return SurveyedImage(path, None, width, height, header.mode, thumbnail_of(pixels), square)


def stretched(pixels: Pixels, side: int) -> Pixels:
    """Return an image (H, W, 3) stretched to a square (side, side, 3): two sizes of one part look alike then."""
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR))


def thumbnail_of(pixels: Pixels) -> NDArray[np.float32] | None:
    """Return the small copy that an image is compared by, the same in another light; None without any contrast."""
    # Averaged as floating point numbers: rounded to grey levels first, faint pictures would differ by the rounding.
    grey = Image.fromarray(pixels).convert("L").convert("F")
    small = np.asarray(grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX), dtype=np.float32).ravel()
    contrast = float(small.std())
    return None if contrast < LEAST_CONTRAST else (small - small.mean()) / np.float32(contrast)
