"""What `keep_freed_memory` gains: the same work in fresh processes, with it and without, in turn."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROUNDS = 5
REPEATS = 12


@dataclass(frozen=True)
class Gain:
    """Seconds per call, medians over the processes, and their ratio."""

    work: str
    default_s: float
    kept_s: float

    @property
    def ratio(self) -> float:
        """Time with kept memory over time without: below 1 is a gain."""
        return self.kept_s / self.default_s


def measure_allocator(
    rounds: int = ROUNDS, progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[Gain, ...]:
    """Times the nano recipe's training steps and passes, `rounds` processes of each kind in turn."""
    seen: dict[str, list[Mapping[str, float]]] = {"default": [], "kept": []}
    for number in range(2 * rounds):
        how = ("default", "kept")[number % 2]
        command = [sys.executable, "-m", "bench.allocator", how]
        ran = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
        seen[how].append(json.loads(ran.stdout))
        progress(number + 1, 2 * rounds)
    return tuple(
        Gain(work, *(statistics.median(times[work] for times in seen[how]) for how in ("default", "kept")))
        for work in seen["kept"][0]
    )


def time_work(keep: bool, repeats: int = REPEATS) -> dict[str, float]:
    """Work -> median seconds per call, in this process."""
    import torch

    from model_store.engines.allocator import keep_freed_memory
    from training.finetune.features import block_features, new_extractor
    from training.finetune.unet import new_unet
    from training.finetune.vae import new_autoencoder
    from training.recipe import load_recipe

    if keep:
        keep_freed_memory()
    recipe = load_recipe("nano")
    torch.manual_seed(0)
    side, channels, crop = recipe.settings.resolution, recipe.vae.latent_channels, recipe.vae.crop
    latent_side = side // recipe.vae.factor
    autoencoder, unet = new_autoencoder(recipe.vae, side), new_unet(recipe.unet, channels, latent_side)
    features = new_extractor(recipe.features, side)
    crops, image = torch.rand(recipe.vae.batch, 3, crop, crop), torch.rand(1, 3, side, side)
    latent = torch.randn(1, channels, latent_side, latent_side)
    latents, steps = latent.repeat(recipe.unet.batch, 1, 1, 1), torch.full((recipe.unet.batch,), 250)

    def train_autoencoder() -> None:
        autoencoder.decode(autoencoder.encode(crops).latent_dist.mean).sample.abs().mean().backward()

    def train_unet() -> None:
        unet(latents, steps).sample.square().mean().backward()

    @torch.inference_mode()
    def decode() -> None:
        autoencoder.decode(latent)

    @torch.inference_mode()
    def read_features() -> None:
        block_features(features, image, recipe.settings.score.layers, latent_side)

    works: dict[str, Callable[[], None]] = {
        "autoencoder training step": train_autoencoder,
        "UNet training step": train_unet,
        "decode one image": decode,
        "features of one image": read_features,
    }
    return {name: _median_s(work, repeats) for name, work in works.items()}


def _median_s(work: Callable[[], None], repeats: int) -> float:
    work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


if __name__ == "__main__":
    print(json.dumps(time_work(sys.argv[1] == "kept")))
