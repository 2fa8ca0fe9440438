"""Training at full size with random weights: what two steps of each part take, and whether a resume is exact.

Each measurement is a process of its own, so that one part's memory is free when the next begins, and a part that the
system ends for want of memory ends alone.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors import safe_open

from bench.speed.fullsize import TOKENS, Architecture, dino_vit, fullsize_settings, sd_autoencoder, sd_unet
from bench.support.child_call import in_child
from glad.noise_schedule import NoiseSchedule
from model_store.backbones.vit import VitBackbone
from training.denoiser_recipe import LoraRecipe, UnetFinetuneRecipe
from training.finetune.curves import read_curve
from training.finetune.dino import finetune_dino
from training.finetune.pretrained_unet import PromptedLatents, finetune_unet
from training.finetune.reconstructions import RebuiltImages
from training.finetune.stage import Stage
from training.finetune.tuning_split import HeldOutImages
from training.finetune.unet import LatentPairs, draw_batch, noise_loss
from training.finetune.vae import finetune_vae
from training.peak_memory import peak_memory_bytes
from training.pretrained_recipe import DinoFinetuneRecipe, VaeFinetuneRecipe
from training.progress import Progress
from training.recipe import LoopRecipe
from training.synthesis.pairs import PairSet
from training.training_run import CHECKPOINTS, CURVES, TrainingRun, read_records

SEED = 20261129
STEPS = 2
LOOP = LoopRecipe(gradient_checkpointing=True, keep=2, checkpoint_every_s=0)
"""As little memory as it gets; a checkpoint after every step."""
WARM_STEPS, MOST_STEPS = 3, 25
"""Of the throughput: the first steps are not timed, for the second and third of a compiled model are slow too."""
WAYS: Mapping[str, LoopRecipe] = {
    "fp32": LoopRecipe(),
    "bf16": LoopRecipe(precision="bf16"),
    "bf16-compiled": LoopRecipe(precision="bf16", compile=True),
}


@dataclass(frozen=True)
class TrainingPlan:
    """What is measured."""

    architecture: Architecture
    parts: tuple[str, ...]
    side: int
    """Of the model image of the UNet, in pixels: its latents have an eighth of it."""
    small_side: int
    """Of the autoencoder's and DINO's images."""
    batch: int
    """Of the throughput."""
    ways: tuple[str, ...]
    """Of the throughput, names of `WAYS`."""
    minutes: float
    """What does not fit into so many is left out."""


@dataclass(frozen=True)
class TrainingRow:
    """Two steps of one part, batch 1, with gradient checkpointing and without a moving average."""

    part: str
    trained: int
    """Weights."""
    step_s: float
    """The first step."""
    resumed_step_s: float
    """The second, in a process that went on from a checkpoint."""
    peak_gb: float
    """10^9 bytes: of the GPU where there is one, else of the process, the checkpoint's file in memory included."""
    checkpoint_gb: float
    """On disk, with the optimizer."""
    resumed_exactly: bool
    """The weights after both steps, bit for bit, with and without a stop between them."""


@dataclass(frozen=True)
class ThroughputRow:
    """The UNet's training, all weights, in one way."""

    way: str
    side: int
    batch: int
    images_per_s: float
    first_step_s: float
    """With the compilation, where there is one."""
    peak_gb: float


@dataclass(frozen=True)
class TrainingFigures:
    """What was measured, and what was not."""

    device: str
    rows: tuple[TrainingRow, ...]
    throughput: tuple[ThroughputRow, ...]
    left_out: tuple[str, ...]


def measure_training(plan: TrainingPlan, progress: Progress) -> TrainingFigures:
    """Measure every part of a plan, one after the other."""
    until = time.monotonic() + 60 * plan.minutes
    rows: list[TrainingRow] = []
    throughput: list[ThroughputRow] = []
    left_out: list[str] = []
    names = (*plan.parts, *plan.ways)
    for done, name in enumerate(names):
        progress("training at full size", done, len(names))
        left = until - time.monotonic()
        try:
            if name in plan.parts:
                rows.append(_measure_part(plan, name, until))
            else:
                share = left / (len(names) - done)
                throughput.append(in_child(partial(measure_throughput, plan, name, share / 2), share))
        except (TimeoutError, ChildProcessError) as error:
            left_out.append(f"{name}: {error}")
    progress("training at full size", len(names), len(names))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return TrainingFigures(device, tuple(rows), tuple(throughput), tuple(left_out))


def _measure_part(plan: TrainingPlan, part: str, until: float) -> TrainingRow:
    """Take two steps in one process; then the second one again, in another that goes on from the first's checkpoint."""
    with tempfile.TemporaryDirectory(prefix="glad-training-") as folder:
        run = Path(folder)
        in_child(partial(train_part, plan, part, run), until - time.monotonic())
        stage = next(path for path in (run / CHECKPOINTS).iterdir() if path.is_dir())
        first, both = (stage / f"step-{step:08d}" for step in (1, 2))
        unbroken, before = _digest(both), read_curve(run / CURVES / f"{stage.name}.csv")
        shutil.rmtree(both)
        in_child(partial(train_part, plan, part, run), until - time.monotonic())
        after = read_curve(run / CURVES / f"{stage.name}.csv")
        return TrainingRow(
            part,
            _weights(first),
            1 / before[0][3],
            1 / after[1][3],
            read_records(run)[stage.name].peak_memory_bytes / 1e9,
            sum(file.stat().st_size for file in first.iterdir()) / 1e9,
            resumed_exactly=_digest(both) == unbroken,
        )


def train_part(plan: TrainingPlan, part: str, run: Path) -> None:
    """Take the steps of one part that are still to be taken in a run's folder."""
    torch.manual_seed(SEED)
    PARTS[part](plan, TrainingRun(run))


def _train_unet(plan: TrainingPlan, run: TrainingRun, lora: LoraRecipe | None = None) -> None:
    recipe = UnetFinetuneRecipe(steps=STEPS, batch=1, lora=lora)
    settings = fullsize_settings(plan.side)
    finetune_unet(sd_unet(plan.architecture), _latents(plan), recipe, settings, run, seed=SEED, training=LOOP)


def _train_dino(plan: TrainingPlan, run: TrainingRun) -> None:
    recipe = DinoFinetuneRecipe(side=plan.small_side, epochs=STEPS, batch=1)
    good, anomalous = _images(1, plan.small_side, damaged=False), _images(1, plan.small_side, damaged=True)
    backbone = VitBackbone(dino_vit(plan.architecture))
    score = fullsize_settings(plan.side).score
    held_out = HeldOutImages(good, anomalous)
    finetune_dino(backbone, good, held_out, recipe, run, score=score, seed=SEED, training=LOOP)


def _train_autoencoder(plan: TrainingPlan, run: TrainingRun) -> None:
    recipe = VaeFinetuneRecipe(trained="all", steps=STEPS, batch=1, crop=plan.small_side, validations=1)
    good, anomalous = _images(1, plan.small_side, damaged=False), _images(1, plan.small_side, damaged=True)
    pairs = PairSet(good.images, anomalous.images, anomalous.mask, good.valid)
    finetune_vae(sd_autoencoder(plan.architecture), pairs, pairs, recipe, run, seed=SEED, training=LOOP)


PARTS: Mapping[str, Callable[[TrainingPlan, TrainingRun], None]] = {
    "unet": _train_unet,
    "lora": partial(_train_unet, lora=LoraRecipe()),
    "autoencoder": _train_autoencoder,
    "dino": _train_dino,
}
"""Each trains one part with random weights on random images."""


def measure_throughput(plan: TrainingPlan, way: str, seconds: float) -> ThroughputRow:
    """Return the images per second of the UNet's training, all weights, measured for at most so many seconds."""
    torch.manual_seed(SEED)
    recipe, settings = UnetFinetuneRecipe(batch=plan.batch), fullsize_settings(plan.side)
    data, unet = _latents(plan), sd_unet(plan.architecture)
    with tempfile.TemporaryDirectory(prefix="glad-training-") as folder:
        loop = WAYS[way].model_copy(update={"checkpoint_every_s": math.inf})
        stage = Stage(TrainingRun(Path(folder)), "unet", MOST_STEPS, seed=SEED, loop=loop)
        network = stage.prepare(unet, learning_rate=recipe.learning_rate, course="constant", warmup=1)
        measure = noise_loss(NoiseSchedule.from_settings(settings.schedule, stage.device), recipe)
        ends = [time.monotonic()]
        for step in stage:
            drawn = draw_batch(data.latents, recipe, settings, stage.generator(step))
            for part in stage.micro_batches(recipe.batch):
                batch = drawn.part(part, stage.device, data.told(drawn.chosen))
                stage.backward(measure(network, batch))
            stage.update(step)
            _wait_for_device()
            ends.append(time.monotonic())
            if step > WARM_STEPS and (ends[-1] - ends[0] > seconds or step + 2 == MOST_STEPS):
                break
    rate = plan.batch * (len(ends) - 1 - WARM_STEPS) / (ends[-1] - ends[WARM_STEPS])
    return ThroughputRow(way, plan.side, plan.batch, rate, ends[1] - ends[0], peak_memory_bytes() / 1e9)


def _wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _latents(plan: TrainingPlan) -> PromptedLatents:
    draw, side = torch.Generator().manual_seed(SEED), plan.side // 8
    normal, anomalous = (torch.randn(2, 4, side, side, generator=draw) for _ in range(2))
    prompt = torch.randn(TOKENS, plan.architecture.prompt, generator=draw)
    return PromptedLatents.of_classes([LatentPairs(normal, anomalous)], [prompt])


def _images(count: int, side: int, *, damaged: bool) -> RebuiltImages:
    draw = torch.Generator().manual_seed(SEED)
    images, rebuilt = (torch.randint(256, (count, 3, side, side), generator=draw).to(torch.uint8) for _ in range(2))
    everywhere = torch.ones(count, side, side, dtype=torch.bool)
    mask = torch.zeros_like(everywhere)
    mask[:, : side // 2] = damaged
    return RebuiltImages(images, rebuilt, everywhere, mask)


def _digest(checkpoint: Path) -> str:
    """Return the SHA-256 of the trained weights in a checkpoint."""
    with (checkpoint / "model.safetensors").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _weights(checkpoint: Path) -> int:
    with safe_open(checkpoint / "model.safetensors", "pt") as file:
        names = list(file.keys())
        return sum(math.prod(file.get_slice(name).get_shape()) for name in names)
