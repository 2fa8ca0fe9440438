"""The noise of a camera, as it would add it to a photograph taken once more.

Trainings see such photographs, so that a memory of good parts knows how noise moves features; repeatability is measured
with them (`training.evaluation.repeatability`).
"""

from __future__ import annotations

import hashlib

import numpy as np
from pydantic import Field

from glad.image_codec import Pixels
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


def add_camera_noise(pixels: Pixels, camera: CameraNoise, name: str) -> Pixels:
    """Return the same scene taken once more.

    Args:
        pixels: (H, W, 3) uint8.
        camera: that takes it.
        name: of the new photograph; equal pixels, camera and name give an equal picture.
    """
    digest = hashlib.sha256(name.encode()).digest()
    rng = np.random.Generator(np.random.Philox(int.from_bytes(digest[:16], "little")))
    values = rng.poisson(pixels / camera.gain) * camera.gain + rng.normal(0, camera.read_noise, pixels.shape)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
