"""A trained UNet, fine-tuned with ATP (Sec. 3.5): all weights or low-rank adapters; Stable Diffusion's with prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from diffusers import UNet2DConditionModel, UNet2DModel
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
Network = TypeVar("Network", UNet2DConditionModel, UNet2DModel)


@dataclass(frozen=True, eq=False)
class PromptedLatents:
    """The latents of the pairs, and what the UNet is told of each."""

    latents: LatentPairs
    prompts: Tensor | None
    """(K, L, D): the embedded prompt of each class; None: the UNet is told nothing."""
    classes: Tensor
    """(N,) int64: the class of each pair."""

    @classmethod
    def without_prompts(cls, latents: LatentPairs) -> PromptedLatents:
        """Return the pairs for a UNet that takes no condition."""
        return cls(latents, None, torch.zeros(len(latents.normal), dtype=torch.int64))

    def told(self, chosen: Tensor) -> Tensor | None:
        """Return what the UNet is told of these pairs (B,): (B, L, D)."""
        return None if self.prompts is None else self.prompts[self.classes[chosen]]

    @classmethod
    def of_classes(cls, latents: Sequence[LatentPairs], prompts: Sequence[Tensor]) -> PromptedLatents:
        """Return the pairs of one or more classes, each with its own prompt (L, D), as one set."""
        numbers = [torch.full((len(one.normal),), number) for number, one in enumerate(latents)]
        together = LatentPairs(
            *(torch.cat(side) for side in zip(*((p.normal, p.anomalous) for p in latents), strict=True))
        )
        return cls(together, torch.stack(list(prompts)), torch.cat(numbers))


def finetune_unet(
    unet: Network,
    data: PromptedLatents,
    recipe: UnetFinetuneRecipe,
    settings: MethodSettings,
    run: TrainingRun,
    *,
    seed: int,
    training: LoopRecipe | None = None,
) -> Network:
    """Train the UNet in place on noised mixtures of the pairs, by AdamW at a constant rate, and return it.

    With LoRA the adapter is left in the run's folder `ADAPTER`, too, and merged into the weights that are returned.

    Args:
        unet: float32, with the weights to begin with.
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
        prompts = data.told(drawn.chosen)
        for part in stage.micro_batches(recipe.batch):
            stage.backward(measure(network, drawn.part(part, stage.device, prompts)))
        stage.update(step)
    trained = stage.finish(model)
    if lora is not None:
        return merged(trained, unet, run.folder / ADAPTER)
    unet.requires_grad_(False)
    return unet


def with_adapter(unet: Network, lora: LoraRecipe, seed: int) -> PeftModel:
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


def merged(model: Any, unet: Network, folder: Path) -> Network:
    """Save the adapter alone in a folder, and return the UNet under it with the adapter merged into its weights."""
    model.save_pretrained(folder)
    model.merge_and_unload(safe_merge=True)
    unet.requires_grad_(False).eval()
    return unet
