"""The common part of every training loop: resuming, checkpoints, precision, several processes, averages, progress.

A loop draws a whole batch from the step's own generator, and each process takes its share of it by index. So what a
sample is depends only on (seed, stage, step, its place in the batch): a resumed run, or one on other devices, draws
what an unbroken one on one device would have drawn.

    stage = Stage(run, "unet", recipe.steps, seed=seed, loop=loop)
    network = stage.prepare(model, learning_rate=recipe.learning_rate, ema=recipe.ema)
    for step in stage:
        chosen = torch.randint(count, (recipe.batch,), generator=stage.generator(step))
        for part in stage.micro_batches(recipe.batch):
            stage.backward(loss_of(network, images[chosen[part]].to(stage.device)))
        stage.update(step)
    trained = stage.finish(model)
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
import torch
from accelerate.utils import set_seed
from torch import Tensor, nn

from training.finetune.checkpoints import Checkpoint, CheckpointFolder, read_former_checkpoint
from training.finetune.curves import Course, lost_weights
from training.finetune.learner import Learner, new_accelerator
from training.interrupts import interrupts_noted
from training.progress import progress_bar
from training.recipe import LoopRecipe
from training.training_run import CHECKPOINTS, StageError, TrainingRun

Model = TypeVar("Model", bound=nn.Module)
PICTURES = 8
RateCourse: TypeAlias = Literal["cosine", "constant"]


def learning_rate_at(step: int, steps: int, peak: float, course: RateCourse = "cosine", warmup: int = 100) -> float:
    """Return the rate at a step: linear warm-up, then a half cosine down to 2 % of the peak, or the peak."""
    rise = min(1.0, (step + 1) / warmup)
    fall = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)) if course == "cosine" else 1.0
    return peak * rise * fall


class Stage:
    """Steps of one training loop: `for step in stage:` continues where an interrupted run stopped.

    Ctrl-C ends the loop after the step under way, with a checkpoint. After any other end the last checkpoint stands,
    and the steps since then are taken again, with the same numbers.
    """

    def __init__(self, run: TrainingRun, name: str, steps: int, *, seed: int, loop: LoopRecipe | None = None) -> None:
        """Begin, or look for where it stopped; `prepare` comes next.

        Args:
            run: holds the checkpoints in `stages/<name>`.
            name: of the stage, as `run.stages` has it.
            steps: of the optimizer.
            seed: of all that is drawn.
            loop: how the device is used; None: plainly.
        """
        self.run, self.name, self.steps, self.seed, self.loop = run, name, steps, seed, loop or LoopRecipe()
        self.accelerator = new_accelerator(self.loop)
        self.position = 0
        self._checkpoints = CheckpointFolder(run.folder / CHECKPOINTS / name, self.loop.keep)
        self._learner: Learner | None = None
        self._shown: list[Tensor] = []
        self._share, self._batch = (1, 1), 1
        self._saved, self._stops = -1, False

    @property
    def device(self) -> torch.device:
        """Where this process's share of a batch belongs."""
        device: torch.device = self.accelerator.device
        return device

    def prepare(
        self,
        model: nn.Module,
        *,
        learning_rate: float,
        ema: float = 0.0,
        weight_decay: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        course: RateCourse = "cosine",
        warmup: int = 100,
        forward: Callable[..., Any] | None = None,
    ) -> Callable[..., Any]:
        """Return the model as the loop is to call it, on its device, with the last checkpoint's weights in it.

        Only parameters that require a gradient are trained and kept in checkpoints. What a loss does not depend on must
        not require one: several processes wait for each gradient.

        Args:
            model: becomes the trained one in place.
            learning_rate: at its peak.
            ema: decay of the weights' moving average, which `finish` leaves in the model; 0: no average.
            weight_decay, betas: of AdamW.
            course: of the learning rate after `warmup` steps.
            warmup: steps in which the learning rate rises.
            forward: `forward(model, ...)` is what the loop calls, for models of which it needs another method than
                their `forward`; None: the model itself.

        Raises:
            StageError: if the device, a package or the model does not allow what the recipe asks for.
        """
        self._rate = (learning_rate, course, warmup)
        self._learner = Learner(
            self.accelerator, model, self.loop, forward=forward, ema=ema, weight_decay=weight_decay, betas=betas
        )
        if found := self._checkpoints.read() or self._former():
            self._learner.restore(found)
            self.position = self._saved = found.position
        return self._learner.network

    def __iter__(self) -> Iterator[int]:
        """Yield the steps that are still to be taken, and save from time to time and at the end."""
        if self.position >= self.steps:
            self.run.say(f"{self.run.place(self.name)}, finished before")
            return
        with ExitStack() as stack:
            self._note_time = stack.enter_context(self.run.stage(self.name))
            self._course = Course(self.run, self.name, self.position)
            stack.callback(self._course.close)
            bar = stack.enter_context(progress_bar())
            interrupted = stack.enter_context(interrupts_noted())
            task = bar.add_task(self.name, total=self.steps, completed=self.position, note="")
            saved_at = time.monotonic()
            while self.position < self.steps:
                set_seed(self._stray_seed(self.position))
                yield self.position
                self._count_step(interrupted.is_set())
                bar.update(task, completed=self.position, note=self._note(bar.tasks[-1].time_remaining))
                if self._stops:
                    self._save()
                    raise KeyboardInterrupt
                if time.monotonic() - saved_at > self.loop.checkpoint_every_s:
                    self._save()
                    saved_at = time.monotonic()
            self._save()

    def micro_batches(self, batch: int) -> Iterator[slice]:
        """Yield this process's parts of a batch, one after the other: `training.accumulate` of them.

        Raises:
            StageError: if the batch is smaller than all parts of all processes.
        """
        parts = self.accelerator.num_processes * self.loop.accumulate
        if batch < parts:
            raise StageError(
                f"the batch of stage {self.name} is {batch}; {self.accelerator.num_processes} x training.accumulate "
                f"{self.loop.accumulate} parts need at least {parts}: enlarge it, or choose fewer parts or processes"
            )
        self._batch = batch
        first = self.accelerator.process_index * self.loop.accumulate
        for number in range(first, first + self.loop.accumulate):
            part = slice(batch * number // parts, batch * (number + 1) // parts)
            self._share = (part.stop - part.start, parts)
            with self.accelerator.accumulate(self._prepared.network):
                yield part

    def backward(self, loss: Tensor, shown: Tensor | None = None) -> None:
        """Add a part's gradient.

        Args:
            loss: the mean over the part's samples.
            shown: what the curve shows in its place; None: the loss.
        """
        count, parts = self._share
        # accelerate divides by the parts, and takes the mean over processes: right where all parts are of one size.
        weighted = loss if count * parts == self._batch else loss * (count * parts / self._batch)
        self.accelerator.backward(weighted)
        value = (loss if shown is None else shown).detach().float()
        self._shown.append(value if count == self._batch else value * (count / self._batch))

    def update(self, step: int) -> None:
        """Take the optimizer's step with the batch's gradient, clipped to a norm of 1."""
        self._prepared.update(self._rate_now(step))

    def averaged(self) -> AbstractContextManager[Any]:
        """Return what opens the model as it would be if the stage ended now, to look at it between two steps."""
        return self._prepared.averaged()

    @contextmanager
    def untimed(self) -> Iterator[None]:
        """Let what happens inside, between two steps, count for no step's speed: it is no part of learning."""
        begun = time.monotonic()
        yield
        self._course.pass_over(time.monotonic() - begun)

    def finish(self, model: Model) -> Model:
        """Return the model as it was given to `prepare`, trained, with the moving average where there is one."""
        self._prepared.finish()
        return model.eval()

    def shows_picture(self, step: int) -> bool:
        """Return whether this is one of the `PICTURES` steps of which a picture is shown, the last among them."""
        return self.run.writes and (step + 1) * PICTURES // self.steps > step * PICTURES // self.steps

    def picture(self, name: str, picture: Tensor) -> None:
        """Show a picture (3, H, W) in [0, 1] of the step under way in TensorBoard."""
        self._course.picture(self.position, name, picture)

    def rng(self, step: int) -> np.random.Generator:
        """Return this step's own generator."""
        stream = np.random.SeedSequence([self.seed, int.from_bytes(self.name.encode()[:8], "big"), step])
        return np.random.Generator(np.random.Philox(stream))

    def generator(self, step: int) -> torch.Generator:
        """Return this step's own torch generator (CPU)."""
        return torch.Generator().manual_seed(int(self.rng(step).integers(2**62)))

    def _former(self) -> Checkpoint | None:
        path = self.run.folder / f"{self.name}.ckpt"
        if not path.is_file():
            return None
        every = [name for name, _ in self._prepared.model.named_parameters()]
        return read_former_checkpoint(path, list(self._prepared.trained), every)

    @property
    def _prepared(self) -> Learner:
        if self._learner is None:
            raise RuntimeError(f"stage {self.name}: call prepare(model, ...) before the loop")
        return self._learner

    def _rate_now(self, step: int) -> float:
        peak, course, warmup = self._rate
        return learning_rate_at(step, self.steps, peak, course, warmup)

    def _count_step(self, interrupted: bool) -> None:
        """Note that a step was taken, with the mean loss of the whole batch, and whether it is the last of today."""
        parts, self._shown = self._shown, []
        loss = torch.stack(parts).sum() if len(parts) > 1 else parts[0]
        self._stops = interrupted
        if self.accelerator.num_processes > 1:
            # All processes end after the same step, or one would wait for the others' gradients for ever.
            told = torch.tensor(float(interrupted), device=loss.device)
            loss, stops = self.accelerator.reduce(torch.stack([loss, told])).unbind()
            self._stops = bool(stops)
        self._course.add(self.position, loss, self._rate_now(self.position), self._batch)
        self.position += 1

    def _note(self, left_s: float | None) -> str:
        outlook = "" if left_s is None else self.run.outlook(self.name, left_s)
        return ", ".join(part for part in (self._course.note, outlook) if part)

    def _stray_seed(self, step: int) -> int:
        """Return the seed of what draws without a generator, such as dropout: another in each process."""
        stream = np.random.SeedSequence([self.seed, step, self.accelerator.process_index])
        return int(stream.generate_state(1)[0])

    def _save(self) -> None:
        self._course.flush()
        if not self.run.writes or self._saved == self.position:
            return
        if not self._prepared.is_finite():
            raise lost_weights(self.name, f"weights are not finite after step {self.position - 1}")
        tensors, values = self._prepared.content(with_optimizer=self.position < self.steps)
        self._checkpoints.write(Checkpoint(self.position, tensors, values))
        self._saved = self.position
        self._note_time()
