"""A contact sheet of the sample product, for looking at."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.sample_product.flaws import DEFECTS, SEVERITIES
from training.sample_product.renderer import Sample, render

OUTLINE = np.array([255, 64, 200], dtype=np.float32)


def contact_sheet(seed: int) -> NDArray[np.uint8]:
    """Rows are defects, columns the good twin and severities 1, 2, 3, masks outlined: (6 * 512, 4 * 512, 3)."""
    good = render(seed).image
    rows = [
        np.hstack([good, *(_outlined(render(seed, defect, severity)) for severity in SEVERITIES)]) for defect in DEFECTS
    ]
    return np.vstack(rows)


def _outlined(sample: Sample) -> NDArray[np.uint8]:
    near, nearer = (ndimage.binary_dilation(sample.mask, iterations=steps) for steps in (4, 3))
    image = sample.image.astype(np.float32)
    image[near & ~nearer] = 0.4 * image[near & ~nearer] + 0.6 * OUTLINE
    return image.astype(np.uint8)
