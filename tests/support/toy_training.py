"""A training of a toy by a real `Stage`, also in processes that are killed and in two that share a batch."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from training.finetune.stage import Stage
from training.recipe import LoopRecipe
from training.training_run import TrainingRun

BATCH = 8
STEPS = 12


def nothing() -> None:
    """Happen not."""


class ToyTraining:
    """A small regression whose numbers depend on the stage's draws, the learning rate's course and Adam's memory."""

    def __init__(
        self, folder: Path, loop: LoopRecipe | None = None, *, steps: int = STEPS, width: int = 4, ema: float = 0.9
    ) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 2))
        self.stage = Stage(TrainingRun(folder, ("toy",)), "toy", steps, seed=7, loop=loop or LoopRecipe())
        self.network = self.stage.prepare(self.model, learning_rate=0.1, ema=ema)
        self.taken: list[int] = []

    def run(self, at: int = -1, happens: Callable[[], None] = nothing) -> dict[str, Tensor]:
        """Take the steps that are left, with something happening in one of them; return the trained weights."""
        for step in self.stage:
            inputs = torch.randn(BATCH, 3, generator=self.stage.generator(step))
            targets = torch.stack([inputs.sum(1), inputs.prod(1)], 1)
            for part in self.stage.micro_batches(BATCH):
                self.stage.backward((self.network(inputs[part]) - targets[part]).square().mean())
            if step == at:
                happens()
            self.stage.update(step)
            self.taken.append(step)
        return {name: weight.clone() for name, weight in self.stage.finish(self.model).state_dict().items()}


def train_until_killed(folder: Path, steps: int, width: int) -> None:
    """Train with a checkpoint after every step: the body of a process that is killed."""
    torch.set_num_threads(1)
    ToyTraining(folder, LoopRecipe(checkpoint_every_s=0), steps=steps, width=width).run()


def ctrl_c() -> None:
    """Press Ctrl-C in this process."""
    signal.raise_signal(signal.SIGINT)


def train_as_one_of_two(folder: Path, rank: int, port: int, stop_at: int = -1) -> None:
    """Train as the first or second of two processes: what `accelerate launch` gives them is in the environment.

    Args:
        folder: of the run; each process leaves what it has in `end-RANK.json`.
        stop_at: the second process hears Ctrl-C in this step.
    """
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    torch.set_num_threads(1)
    toy = ToyTraining(folder)
    with contextlib.suppress(KeyboardInterrupt):
        toy.run(stop_at if rank == 1 else -1, ctrl_c)
    weights = {name: weight.tolist() for name, weight in toy.model.state_dict().items()}
    (folder / f"end-{rank}.json").write_text(json.dumps({"taken": toy.taken, "weights": weights}))
