"""A quality gate whose limits are easy to reckon with, and images on either side of them."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glad.quality_gate.limits import VIEW_SIDE, QualityGate

SIDE = 96


def a_part(level: float = 100.0, contrast: float = 40.0) -> NDArray[np.uint8]:
    """A disc with fine stripes on darker ground, (SIDE, SIDE, 3): the part that `a_gate` expects."""
    y, x = np.mgrid[:SIDE, :SIDE]
    disc = np.hypot(x - 36, y - 60) < 30
    stripes = np.where((x // 3 + y // 3) % 2, 0.3, -0.3)
    grey = level + contrast * np.where(disc, 1 + stripes, -0.5)
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def a_gate(**limits: Any) -> QualityGate:
    """Brightness 60 to 160, 10 % black or white, sharpness 0.05, likeness 0.8 to `a_part`."""
    own = a_part()[::2, ::2, 0]
    assert own.shape == (VIEW_SIDE, VIEW_SIDE)
    given = {
        "darkest": 60.0,
        "brightest": 160.0,
        "black_share": 0.1,
        "white_share": 0.1,
        "sharpness": 0.05,
        "likeness": 0.8,
        "view": base64.b64encode(own.tobytes()).decode(),
        "good_images": 100,
    }
    return QualityGate.model_validate(given | limits)
