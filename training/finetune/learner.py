"""A model in training: its optimizer, the moving average of its weights, and accelerate around them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import GradientAccumulationPlugin
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.optim import Optimizer

from training.finetune.checkpoints import Checkpoint, optimizer_content, restore_optimizer
from training.launched_processes import joined_processes
from training.recipe import LoopRecipe
from training.training_run import StageError


def new_accelerator(loop: LoopRecipe) -> Accelerator:
    """Return accelerate's part of a stage, on this process's device.

    Raises:
        StageError: if the device does not know the precision.
    """
    joined_processes()
    AcceleratorState._reset_state()  # one precision a process, says accelerate; each stage of ours has its own
    if loop.precision == "fp16" and not torch.cuda.is_available():
        raise StageError('training.precision is "fp16", which needs a GPU: choose "bf16" or "no"')
    return Accelerator(
        mixed_precision=loop.precision,
        dynamo_backend="inductor" if loop.compile else "no",
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=loop.accumulate, sync_with_dataloader=False),
    )


class _WithForward(nn.Module):
    """A model of which the loop calls something else than its `forward`."""

    def __init__(self, model: nn.Module, forward: Callable[..., Any]) -> None:
        super().__init__()
        self.model, self._call = model, forward

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(self.model, *args, **kwargs)


class Learner:
    """A model, its optimizer and its average, prepared by accelerate."""

    def __init__(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        loop: LoopRecipe,
        *,
        forward: Callable[..., Any] | None,
        ema: float,
        weight_decay: float,
        betas: tuple[float, float],
    ) -> None:
        """Prepare a model; the arguments are those of `Stage.prepare`.

        Raises:
            StageError: if the model or a package does not allow what the recipe asks for.
        """
        self._accelerator, self.model, self._loop = accelerator, model, loop
        self.network: Callable[..., Any]
        if loop.gradient_checkpointing:
            _checkpoint_gradients(model)
        self.trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        optimizer = _new_optimizer(list(self.trained.values()), loop, weight_decay=weight_decay, betas=betas)
        model.train()
        called = model if forward is None else _WithForward(model, forward)
        self.network, self.optimizer = accelerator.prepare(called, optimizer)
        # The gradient of a few random samples is noisy: the moving average of the weights is what the bundle gets.
        self.average = EMAModel(self.trained.values(), decay=ema, use_ema_warmup=True, power=0.75) if ema else None

    def update(self, learning_rate: float) -> None:
        """Take a step with the gradient at hand."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self._accelerator.clip_grad_norm_(self.trained.values(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None and not self._accelerator.optimizer_step_was_skipped:
            self.average.step(self.trained.values())

    def is_finite(self) -> bool:
        """Return whether every weight is a finite number."""
        return all(bool(torch.isfinite(weight).all()) for weight in self.trained.values())

    def content(self, *, with_optimizer: bool) -> tuple[dict[str, Mapping[str, Tensor]], dict[str, Any]]:
        """Return what a checkpoint holds: tensors by file, and other values.

        Args:
            with_optimizer: what it takes to go on; else the finished weights alone.
        """
        tensors: dict[str, Mapping[str, Tensor]] = {"model": {**self.trained, **dict(self.model.named_buffers())}}
        values: dict[str, Any] = {"optimizer": self._loop.optimizer}
        if self.average is not None:
            tensors["average"] = dict(zip(self.trained, self.average.shadow_params, strict=True))
            values["average_steps"] = self.average.optimization_step
        if with_optimizer:
            tensors["optimizer"], values["optimizer_values"] = optimizer_content(self.optimizer)
            if self._accelerator.scaler is not None:
                values["scaler"] = self._accelerator.scaler.state_dict()
        return tensors, values

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take what a checkpoint holds.

        Raises:
            StageError: if it was written with another optimizer or another model.
        """
        tensors, values = checkpoint.tensors, checkpoint.values
        if values["optimizer"] != self._loop.optimizer:
            raise StageError(
                f"the run has begun with training.optimizer {values['optimizer']!r}, the recipe has "
                f"{self._loop.optimizer!r}: take the first again, or give --run another folder"
            )
        self._restore_weights(tensors["model"])
        if self.average is not None:
            averages = tensors["average"]
            shadow = [averages[name].to(weight.device) for name, weight in self.trained.items()]
            self.average.shadow_params, self.average.optimization_step = shadow, values["average_steps"]
        if "optimizer" in tensors:
            restore_optimizer(self.optimizer, tensors["optimizer"], values["optimizer_values"])
        if self._accelerator.scaler is not None and "scaler" in values:
            self._accelerator.scaler.load_state_dict(values["scaler"])

    @torch.no_grad()
    def _restore_weights(self, saved: Mapping[str, Tensor]) -> None:
        for name, place in {**self.trained, **dict(self.model.named_buffers())}.items():
            place.copy_(saved[name])

    def finish(self) -> None:
        """Leave the average in the model, and take accelerate's wrapping from it."""
        self._accelerator.unwrap_model(self.network, keep_fp32_wrapper=False, keep_torch_compile=False)
        if self.average is not None:
            self.average.copy_to(self.trained.values())


def _new_optimizer(
    weights: list[nn.Parameter], loop: LoopRecipe, *, weight_decay: float, betas: tuple[float, float]
) -> Optimizer:
    kind: Any = torch.optim.AdamW if loop.optimizer == "adamw" else _eight_bit_adamw()
    made: Optimizer = kind(weights, lr=1.0, weight_decay=weight_decay, betas=betas)  # each step sets its rate
    return made


def _eight_bit_adamw() -> Any:
    try:
        return import_module("bitsandbytes.optim").AdamW8bit  # in no extra: who wants it installs it
    except ImportError:
        raise StageError(
            'training.optimizer is "adamw8bit", and the package bitsandbytes is not installed: '
            'pip install bitsandbytes, or choose "adamw"'
        ) from None


def _checkpoint_gradients(model: nn.Module) -> None:
    # Of diffusers; of transformers today, and of those before, which warn of the second name or lack the first.
    for name in ("enable_gradient_checkpointing", "activation_checkpointing_enable", "gradient_checkpointing_enable"):
        if enable := getattr(model, name, None):
            enable()
            return
    raise StageError(f"training.gradient_checkpointing is true; {type(model).__name__} cannot do that: set it to false")
