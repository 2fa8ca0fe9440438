"""Stable Diffusion's UNet, fine-tuned with ATP (Sec. 3.5) under constant prompts: all weights, or low-rank adapters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from glad.noise_schedule import NoiseSchedule
from glad.settings.method import MethodSettings
from training.denoiser_recipe import LoraRecipe, UnetFinetuneRecipe
from training.finetune.stage import Stage
from training.finetune.unet import LatentPairs, draw_batch, noise_loss
from training.recipe import LoopRecipe
from training.training_run import TrainingRun

if TYPE_CHECKING:
    from peft import PeftModel

ADAPTER = "adapter"
"""The folder in a run's that holds the adapter alone, in peft's layout: some megabytes, for the same base."""
WEIGHT_DECAY = 1e-2


@dataclass(frozen=True, eq=False)
class PromptedLatents:
    """The latents of the pairs, and what the UNet is told of each."""

    latents: LatentPairs
    prompts: Tensor
    """(K, L, D): the embedded prompt of each class."""
    classes: Tensor
    """(N,) int64: the class of each pair."""

    @classmethod
    def of_classes(cls, latents: Sequence[LatentPairs], prompts: Sequence[Tensor]) -> PromptedLatents:
        """Return the pairs of one or more classes, each with its own prompt (L, D), as one set."""
        numbers = [torch.full((len(one.normal),), number) for number, one in enumerate(latents)]
        together = LatentPairs(
            *(torch.cat(side) for side in zip(*((p.normal, p.anomalous) for p in latents), strict=True))
        )
        return cls(together, torch.stack(list(prompts)), torch.cat(numbers))


def finetune_unet(
    unet: UNet2DConditionModel,
    data: PromptedLatents,
    recipe: UnetFinetuneRecipe,
    settings: MethodSettings,
    run: TrainingRun,
    *,
    seed: int,
    training: LoopRecipe | None = None,
) -> UNet2DConditionModel:
    """Train the UNet in place on noised mixtures of the pairs, by AdamW at a constant rate, and return it.

    With LoRA the adapter is left in the run's folder `ADAPTER`, too, and merged into the weights that are returned.

    Args:
        unet: float32, with the published weights.
        data: of the pairs.
        recipe: of this stage.
        settings: whose schedule and start the noise follows.
        run: for checkpoints.
        seed: of the run.
        training: how the device is used.

    Raises:
        ValueError: if no layer of the UNet has a name that LoRA's targets end.
    """
    lora = recipe.lora
    model: nn.Module = unet.requires_grad_(True) if lora is None else with_adapter(unet, lora, seed)
    stage = Stage(run, "unet", recipe.steps, seed=seed, loop=training)
    network = stage.prepare(
        model,
        learning_rate=recipe.learning_rate if lora is None else lora.learning_rate,
        ema=recipe.ema,
        weight_decay=WEIGHT_DECAY,
        course="constant",
        warmup=1,
    )
    measure = noise_loss(NoiseSchedule.from_settings(settings.schedule, stage.device), recipe)
    for step in stage:
        drawn = draw_batch(data.latents, recipe, settings, stage.generator(step))
        prompts = data.prompts[data.classes[drawn.chosen]]
        for part in stage.micro_batches(recipe.batch):
            stage.backward(measure(network, drawn.part(part, stage.device, prompts)))
        stage.update(step)
    trained = stage.finish(model)
    if lora is not None:
        return merged(trained, run.folder / ADAPTER)
    return unet.requires_grad_(False)


def with_adapter(unet: UNet2DConditionModel, lora: LoraRecipe, seed: int) -> PeftModel:
    """Return the UNet with adapters that change nothing yet; they alone are trained.

    Raises:
        ValueError: if no layer has a name that the targets end.
    """
    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha or lora.rank, target_modules=list(lora.targets))
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return get_peft_model(unet, config)
    except ValueError as error:
        raise ValueError(
            f"unet.lora.targets are {', '.join(lora.targets)}, and no layer of the UNet has such a name: give ends of "
            "names, such as to_q, to_k, to_v, to_out.0"
        ) from error


def merged(model: Any, folder: Path) -> UNet2DConditionModel:
    """Save the adapter alone in a folder, and return the UNet with it merged into its weights."""
    model.save_pretrained(folder)
    unet: UNet2DConditionModel = model.merge_and_unload(safe_merge=True)
    return unet.requires_grad_(False).eval()
