"""A denoiser of one product, made fit for a changed one: as it is, by low-rank adapters, by all weights, or anew.

The product is changed by its lamp alone, which stands on the other side. Autoencoder and features stay what they were;
every way sees the same pairs, in the same order, for as many steps.
"""

from __future__ import annotations

import copy
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import UNet2DModel
from torch import nn

from bench.accuracy.atp_rows import AtpRow, DenoiserStudy
from bench.accuracy.denoiser_reading import DenoiserReading
from glad.noise_schedule import NoiseSchedule
from model_store.bundle import Bundle
from training.denoiser_recipe import LoraRecipe, UnetFinetuneRecipe
from training.finetune.pretrained_unet import ADAPTER, PromptedLatents, finetune_unet, with_adapter
from training.finetune.unet import LatentPairs, draw_batch, noise_loss, train_unet
from training.package import Naming, TrainedModules, draft_bundle, provenance, save_rounded
from training.run_identity import claim_run
from training.training_run import TrainingRun

BASE = AtpRow("nano", "as `nano`")
"""How the base is trained."""
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
EVERY_LAYER = (*ATTENTION, "conv1", "conv2", "conv_shortcut", "conv", "conv_in", "conv_out", "time_emb_proj")
ALL_WEIGHTS_RATE = 2e-4
LORA_RATE = 1e-3
"""Constant rates. Adapters begin at no change at all and take some five times as much."""


@dataclass(frozen=True)
class Adaptation:
    """A way to make a denoiser fit for the changed product."""

    key: str
    title: str
    steps: bool = True
    """False: the base as it is."""
    from_base: bool = True
    lora: LoraRecipe | None = None


def _lora(rank: int, targets: tuple[str, ...]) -> LoraRecipe:
    return LoraRecipe(rank=rank, targets=targets, learning_rate=LORA_RATE)


ADAPTATIONS = (
    Adaptation("all", "all weights"),
    Adaptation("base", "the base as it is", steps=False),
    Adaptation("lora-attention-16", "LoRA, rank 16, attention alone", lora=_lora(16, ATTENTION)),
    Adaptation("lora-4", "LoRA, rank 4, every layer", lora=_lora(4, EVERY_LAYER)),
    Adaptation("lora-16", "LoRA, rank 16, every layer", lora=_lora(16, EVERY_LAYER)),
    Adaptation("anew", "trained anew, without the base", from_base=False),
)
"""The first is what the others are held against."""


@dataclass(frozen=True)
class AdaptationCost:
    """What a way costs."""

    trained_weights: int
    kept_bytes: int
    """Of what has to be kept for the changed product beside the base: the adapter, or the bundle's UNet."""
    bundle_bytes: int
    step_ratio: float | None
    """The time of a step, as a share of the first way's; None: no step is taken."""


class AdaptationStudy:
    """A base of one product, and what becomes of it on images of the changed one."""

    def __init__(
        self, base: DenoiserStudy, changed: DenoiserStudy, steps: int, ways: Sequence[Adaptation] = ADAPTATIONS
    ) -> None:
        """Take the studies of both products.

        Args:
            base: of the product before.
            changed: of the product now, by the networks of the first.
            steps: of every way.
            ways: the first is what the others are held against.
        """
        self._base, self.changed, self._steps, self._ways = base, changed, steps, tuple(ways)

    def folder(self, way: Adaptation, seed: int) -> Path:
        """Return where a way's training and reading lie."""
        return self.changed.folder / "ways" / f"{way.key}-{seed}"

    def unet(self, way: Adaptation, seed: int) -> UNet2DModel:
        """Return the UNet that a way leads to; what was trained before is not trained again."""
        plain, run = self.changed.recipe(BASE), TrainingRun(self.folder(way, seed))
        claim_run(run.folder, self.changed.recipe(BASE, seed), self.changed.split)
        if not way.from_base:
            recipe = plain.unet.model_copy(update={"steps": self._steps})
            return train_unet(self.changed.latents_for(run, plain), recipe, plain.settings, run, seed=seed)
        base = self._base.train(BASE, seed)
        if not way.steps:
            return base
        pairs = PromptedLatents.without_prompts(self.changed.latents_for(run, plain))
        return finetune_unet(base, pairs, self.finetuning(way), plain.settings, run, seed=seed)

    def finetuning(self, way: Adaptation) -> UnetFinetuneRecipe:
        """Return how a way trains: as the base was, but for a constant rate and the weights that move."""
        unet = self.changed.recipe(BASE).unet
        return UnetFinetuneRecipe(
            steps=self._steps,
            batch=unet.batch,
            learning_rate=ALL_WEIGHTS_RATE,
            anomaly_weight=unet.anomaly_weight,
            up_to_start=True,
            lora=way.lora,
        )

    def measure(self, seeds: Sequence[int], say: Callable[[str], None]) -> Mapping[str, Mapping[str, DenoiserReading]]:
        """Return the reading of every way and seed: title -> seed -> reading. What was read is not read again."""
        readings: dict[str, dict[str, DenoiserReading]] = {way.title: {} for way in self._ways}
        for seed in seeds:
            for way in self._ways:
                file = self.folder(way, seed) / "reading.npz"
                if not file.is_file():
                    unet = self.unet(way, seed)
                    self.changed.read(unet, f"{way.title}, seed {seed}").write(file)
                    say(f"{way.title}: seed {seed} is done")
                readings[way.title][str(seed)] = DenoiserReading.read(file)
        return readings

    def costs(self, seed: int, rounds: int) -> Mapping[str, AdaptationCost]:
        """Return what each way costs, by title; the steps of all ways are timed in turns."""
        times = self._step_times(seed, rounds)
        return {way.title: self._cost(way, seed, times) for way in self._ways}

    def _cost(self, way: Adaptation, seed: int, times: Mapping[str, float]) -> AdaptationCost:
        bundle, adapter = self._bundle(way, seed), self.folder(way, seed) / ADAPTER
        kept = 0 if not way.steps else total_bytes(adapter if way.lora else bundle.path / "unet")
        trained = self._learner(way, seed) if way.steps else []
        ratio = times[way.key] / next(iter(times.values())) if way.key in times else None
        return AdaptationCost(sum(one.numel() for one in trained), kept, total_bytes(bundle.path), ratio)

    def _bundle(self, way: Adaptation, seed: int) -> Bundle:
        networks, recipe = self.changed.networks, self.changed.recipe(BASE, seed)
        made = TrainedModules(networks.autoencoder, self.unet(way, seed), networks.features)
        sources = save_rounded(made, self.folder(way, seed) / "components")
        target, naming = self.folder(way, seed) / "bundle", Naming("bracket", way.key)
        shutil.rmtree(target, ignore_errors=True)  # of a call before
        return draft_bundle(target, naming, recipe, sources, provenance(recipe, {}, "glad bench lora"))

    def _learner(self, way: Adaptation, seed: int) -> list[nn.Parameter]:
        base = copy.deepcopy(self._base.train(BASE, seed)).requires_grad_(True)
        model: nn.Module = base if way.lora is None else with_adapter(base, way.lora, seed)
        return [weight for weight in model.parameters() if weight.requires_grad]

    def _step_times(self, seed: int, rounds: int) -> dict[str, float]:
        """Return the median seconds of a step of each way that takes any, timed in turns."""
        steppers = {way.key: self._steps_of(way, seed) for way in self._ways if way.steps}
        times: dict[str, list[float]] = {key: [] for key in steppers}
        for _ in range(rounds):
            for key, stepper in steppers.items():
                begun = time.perf_counter()
                next(stepper)
                times[key].append(time.perf_counter() - begun)
        return {key: statistics.median(taken[1:] or taken) for key, taken in times.items()}

    def _steps_of(self, way: Adaptation, seed: int) -> Iterator[None]:
        recipe, tuning = self.changed.recipe(BASE), self.finetuning(way)
        unet = copy.deepcopy(self._base.train(BASE, seed)).requires_grad_(True)
        model: nn.Module = unet if way.lora is None else with_adapter(unet, way.lora, seed)
        optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=1e-5)
        draw, side = torch.Generator().manual_seed(seed), recipe.settings.resolution // recipe.autoencoder.factor
        noise = torch.randn((tuning.batch, recipe.autoencoder.latent_channels, side, side), generator=draw)
        latents = LatentPairs(noise, noise)  # the time of a step does not depend on them
        loss = noise_loss(NoiseSchedule.from_settings(recipe.settings.schedule), tuning)
        while True:
            drawn = draw_batch(latents, tuning, recipe.settings, draw)
            torch.autograd.backward(loss(model, drawn.batch))
            optimizer.step()
            optimizer.zero_grad()
            yield


def total_bytes(folder: Path) -> int:
    """Return the size of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
