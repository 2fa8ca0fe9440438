"""A camera that takes the same picture again: shot noise and read noise, seeded by file name and number."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from glad.settings import Frozen


class CameraNoise(Frozen):
    """Noise of a linear 8-bit camera, each pixel and channel by itself, as the EMVA 1288 standard models it.

    Light of v 8-bit values is v / gain electrons, whose number is Poisson-distributed: a standard deviation of
    sqrt(v gain) 8-bit values. Reading adds a Gaussian one of its own. Rounding to whole values comes last.

    The defaults are those of an ordinary industrial sensor with small pixels, in their order of magnitude and not of a
    certain model: about 10,000 electrons at 255 (gain 0.0255), so 2.5 values of shot noise in white and 1.1 in dark
    grey (50); read noise of 0.5 values, some 20 electrons, more than such sensors' own few, which leaves room for their
    electronics. The image that is noised has its own camera's noise already: this is the noise of one picture more.
    """

    gain: float = Field(default=0.0255, gt=0, description="8-bit values per electron")
    read_noise: float = Field(default=0.5, ge=0, description="standard deviation in 8-bit values")


@dataclass(frozen=True)
class Exposure:
    """Picture `number` of a file. file: a name that stays the same wherever the data lies."""

    camera: CameraNoise
    file: str
    number: int


def exposed(pixels: NDArray[np.uint8], exposure: Exposure) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 -> the same scene taken once more. Equal pixels and exposure, equal picture."""
    digest = hashlib.sha256(f"{exposure.file}:{exposure.number}".encode()).digest()
    rng = np.random.Generator(np.random.Philox(int.from_bytes(digest[:16], "little")))
    camera = exposure.camera
    values = rng.poisson(pixels / camera.gain) * camera.gain + rng.normal(0, camera.read_noise, pixels.shape)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
