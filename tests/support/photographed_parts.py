"""Parts that differ, and photographs of them: what tells several photographs of one part from one of each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage


def photograph_parts(folder: Path, parts: int, times: int, *, side: int = 128, seed: int = 3) -> list[Path]:
    """Photographs `parts` parts `times` times each: their marks are their own, light, noise and place differ.

    The files are named by photograph, then by part, so that neighbours in the list show different parts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.Generator(np.random.Philox(seed))
    surfaces = [ndimage.gaussian_filter(rng.normal(0, 1, (side, side)), 5) * 700 for _ in range(parts)]
    written = []
    for time in range(times):
        for part, surface in enumerate(surfaces):
            moved = np.roll(surface, tuple(rng.integers(-1, 2, 2)), (0, 1))
            pixels = (120 + moved) * rng.uniform(0.85, 1.15) + rng.normal(0, 2, (side, side))
            written.append(folder / f"time{time}-part{part:02}.png")
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(written[-1])
    return written
