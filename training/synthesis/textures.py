"""A folder of pictures whose texture fills anomalies, such as the Describable Textures Dataset (DTD) as downloaded.

DTD lies as images/<category>/*.jpg; any folder of pictures will do, with folders in it or without.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from glad.image_codec import SUFFIXES
from training.data.image_files import DataError, check_image, read_pixels
from training.process_pool import parallel_map
from training.progress import Count
from training.synthesis.patterns import Floats

SHOWN = 5
"""Unreadable files named in an error; the rest is counted."""
ALONE = 64
"""Pictures that are read in this process: starting others would take longer."""


@lru_cache(maxsize=4)
def texture_files(folder: str) -> tuple[Path, ...]:
    """Return the pictures below a folder, by path; hidden files are passed over.

    The order decides which picture a random number means, so it is that of the paths inside the folder.

    Raises:
        DataError: if there is no such folder, or no picture in it.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise DataError(f"synthesis.textures: there is no folder {folder}: give a folder of pictures, or leave it out")
    inside = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.suffix.lower() in SUFFIXES)
    found = tuple(root / name for name in inside if not any(part.startswith(".") for part in Path(name).parts))
    if not found:
        raise DataError(
            f"synthesis.textures: {folder} holds no picture ({', '.join(sorted(SUFFIXES))}), in its folders neither: "
            "give the folder of a texture data set, such as DTD's images/, or leave it out"
        )
    return found


def check_textures(folder: str | None, *, progress: Count | None = None, workers: int | None = None) -> int:
    """Read every picture of a texture folder once, and return how many there are: 0 without a folder.

    Raises:
        DataError: names the folder that does not exist, or the pictures that cannot be read.
    """
    if folder is None:
        return 0
    files = texture_files(folder)
    processes = 1 if len(files) <= ALONE else workers
    problems = []
    for done, problem in enumerate(parallel_map(_problem_of, files, workers=processes, chunk=32), start=1):
        if problem is not None:
            problems.append(problem)
        if progress is not None:
            progress(done, len(files))
    if problems:
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise DataError(
            f"{len(problems)} of {len(files)} texture pictures cannot be read: {'; '.join(problems[:SHOWN])}{more}. "
            "Copy them again, or remove them"
        )
    return len(files)


def texture_digest(folder: str) -> str:
    """Return the SHA-256 over the pictures' names and sizes: with other ones, the same seed draws other anomalies."""
    digest = hashlib.sha256()
    root = Path(folder).expanduser()
    for path in texture_files(folder):
        digest.update(f"{path.relative_to(root).as_posix()} {path.stat().st_size}\n".encode())
    return digest.hexdigest()


def _problem_of(path: Path) -> str | None:
    try:
        check_image(path)
        read_pixels(path)
    except DataError as error:
        return str(error)
    return None


def folder_texture(rng: np.random.Generator, side: int, folder: str) -> Floats:
    """Return a random picture of the folder, resized to a square whatever its shape: (side, side, 3) in [0, 1]."""
    files = texture_files(folder)
    return _as_square(files[int(rng.integers(len(files)))], side)


def _as_square(path: Path, side: int) -> Floats:
    picture = Image.fromarray(read_pixels(path)).resize((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(np.asarray(picture, dtype=np.float32) / 255, dtype=np.float32)
