"""Each sample's UNet call is told the prompt of its own class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from glad.settings.method import MethodSettings, TriggerSettings
from tests.support.tiny_base import base_unet
from training.denoiser_recipe import UnetFinetuneRecipe
from training.finetune.pretrained_unet import PromptedLatents, finetune_unet
from training.finetune.unet import LatentPairs
from training.recipe import LoopRecipe
from training.training_run import TrainingRun

SETTINGS = MethodSettings(start=500, t_min=250, trigger=TriggerSettings(delta=0.3))
FAR = 1e4
"""The second class's latents: no noise and no step makes one of the first so large."""


def test_each_sample_is_told_the_prompt_of_its_class(tmp_path: Path) -> None:
    pairs = [LatentPairs(torch.zeros(3, 4, 8, 8) + level, torch.zeros(3, 4, 8, 8) + level) for level in (0.0, FAR)]
    prompts = [torch.zeros(77, 8), torch.ones(77, 8)]
    told: list[tuple[bool, bool]] = []

    def note(module: Any, given: tuple[torch.Tensor, ...]) -> None:
        noisy, _, prompt = given
        told.extend((bool(x.abs().mean() > 10), bool(p.mean() == 1)) for x, p in zip(noisy, prompt, strict=True))

    unet = base_unet()
    unet.register_forward_pre_hook(note)
    recipe = UnetFinetuneRecipe(steps=2, batch=8)
    run, loop = TrainingRun(tmp_path), LoopRecipe(accumulate=2)
    finetune_unet(unet, PromptedLatents.of_classes(pairs, prompts), recipe, SETTINGS, run, seed=1, training=loop)
    assert len(told) == 16
    assert {far for far, _ in told} == {True, False}
    assert all(far == one for far, one in told)


def test_the_learning_rate_of_all_weights_is_constant(tmp_path: Path) -> None:
    latents = LatentPairs(torch.zeros(3, 4, 8, 8), torch.zeros(3, 4, 8, 8))
    recipe = UnetFinetuneRecipe(steps=3, batch=1, learning_rate=7e-4)
    data = PromptedLatents.of_classes([latents], [torch.zeros(77, 8)])
    finetune_unet(base_unet(), data, recipe, SETTINGS, TrainingRun(tmp_path), seed=1)
    rates = [line.split(",")[2] for line in (tmp_path / "curves/unet.csv").read_text().splitlines()[1:]]
    assert [float(rate) for rate in rates] == [7e-4] * 3
