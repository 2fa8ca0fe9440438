"""Rendered parts for a study of denoisers: images to learn from, test images, and of each defective one its good twin.

The renderer draws part, lamp, camera and noise from streams of their own, so the picture of a defective part without
its defect exists: what a perfect repair would give. No photograph has that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor
from torch.nn import functional

from glad.settings.method import MethodSettings
from training.data.dataset import TestImage, test_images
from training.evaluation.rows import GOOD
from training.progress import Count
from training.sample_product import DEFECTS, SEVERITIES, Lamp, render, write_dataset
from training.sample_product.dataset import DatasetImage
from training.synthesis.pairs import read_squares, to_unit

VISIBLE = 4
"""Grey levels of 255 by which a pixel must change to count as changed; noise follows the light a little."""
ENCODED_AT_ONCE = 8


@dataclass(frozen=True)
class StudySize:
    """How many images are rendered, and from which seed."""

    seed: int = 9601
    train: int = 160
    good: int = 60
    defects: int = 3
    """Of each of six kinds and three severities."""


@dataclass(frozen=True)
class StudyImages:
    """The images of a study on disk."""

    parts: Path
    """In MVTec-AD's layout."""
    tests: tuple[TestImage, ...]
    twins: tuple[Path, ...]
    """The good twin of each defective test image, in their order."""

    @property
    def defective(self) -> tuple[bool, ...]:
        """Whether each test image shows a defect."""
        return tuple(image.defect != GOOD for image in self.tests)


def render_study(folder: Path, size: StudySize, lamp: Lamp, progress: Count) -> StudyImages:
    """Render what is not there yet, and return all of it; progress counts all but the twins."""
    parts = folder / "parts"
    write_dataset(
        parts, seed=size.seed, train=size.train, good=size.good, defects=size.defects, lamp=lamp, progress=progress
    )
    pictures = [
        DatasetImage("test", index, defect, severity)
        for defect in DEFECTS
        for severity in SEVERITIES
        for index in range(size.defects)
    ]
    write_twins(folder / "twins", pictures, size.seed, lamp)
    tests = test_images(parts)
    defects = [image.path for image in tests if image.defect != GOOD]
    return StudyImages(parts, tests, tuple(folder / "twins" / path.parent.name / path.name for path in defects))


def write_twins(folder: Path, pictures: Sequence[DatasetImage], seed: int, lamp: Lamp) -> None:
    """Write the good twin of each defective picture of a dataset as DEFECT/NAME, but for those that are there."""
    for picture in pictures:
        twin = folder / picture.image_path.relative_to("test")
        if not twin.is_file():
            twin.parent.mkdir(parents=True, exist_ok=True)
            whole = twin.with_name(f".{twin.name}")
            Image.fromarray(render(picture.entropy(seed), lamp=lamp).image).save(whole, format="PNG")
            whole.replace(twin)


@dataclass(frozen=True, eq=False)
class EncodedTwins:
    """Defective test images and their good twins as an autoencoder sees them, (D, C, h, w) each, scaled."""

    defective: Tensor
    good: Tensor
    alike: Tensor
    """(D, h, w) bool: places that the defect did not change."""


def encode_twins(images: StudyImages, autoencoder: AutoencoderKL, settings: MethodSettings) -> EncodedTwins:
    """Return the latents of each defective image and of its twin."""
    shown = [image.path for image, defect in zip(images.tests, images.defective, strict=True) if defect]
    damaged, good = _squares(shown, settings), _squares(images.twins, settings)
    changed = (damaged.int() - good.int()).abs().amax(1) > VISIBLE
    factor = 2 ** (len(autoencoder.config.block_out_channels) - 1)
    alike = functional.max_pool2d(changed.float()[:, None], factor)[:, 0] == 0
    return EncodedTwins(_encoded(autoencoder, damaged), _encoded(autoencoder, good), alike)


def _squares(paths: Sequence[Path], settings: MethodSettings) -> Tensor:
    squares = read_squares(paths, settings, at_least=len(paths), seed=0, workers=1)
    return torch.from_numpy(np.stack([one.pixels for one in squares])).permute(0, 3, 1, 2)


@torch.no_grad()
def _encoded(autoencoder: AutoencoderKL, pixels: Tensor) -> Tensor:
    parts = torch.split(pixels, ENCODED_AT_ONCE)
    scale: float = autoencoder.config.scaling_factor
    return torch.cat([autoencoder.encode(to_unit(part)).latent_dist.mean * scale for part in parts])
