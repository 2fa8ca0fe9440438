"""The weights that measured best on images held out: what a fine-tuning gives back, and the record of how it chose.

Each measurement is on disk at once. A run that goes on from an earlier checkpoint comes by the same places with the
same weights, and does not measure them again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

Figures = Mapping[str, float]
"""What one measurement found, by name."""
MEASURED = "measured.json"
CHOICE = "choice.json"
"""Beside it, at the end: `Choice.as_json`."""


@dataclass(frozen=True)
class Choice:
    """What was chosen, and by what."""

    rule: str
    """In words."""
    unit: str
    """What is counted: epoch or step."""
    chosen: int
    """0: the weights as they were published, because nothing after them measured better."""
    measured: Mapping[int, Figures]

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        rows = [{self.unit: place, **figures} for place, figures in self.measured.items()]
        return {"rule": self.rule, "chosen": {self.unit: self.chosen}, "measured": rows}

    def in_words(self) -> str:
        """Return which weights were kept, and what they measured, in one line."""
        kept = "the published weights" if self.chosen == 0 else f"{self.unit} {self.chosen}"
        figures = ", ".join(f"{name} {value:.4f}" for name, value in self.measured[self.chosen].items())
        return f"kept {kept}, of {len(self.measured)} measured: {figures}"


class BestWeights:
    """The trained weights of a module where it measured best so far.

    The first measurement is that of the published weights: later ones have to be better.
    """

    def __init__(self, folder: Path, module: nn.Module, merit: Callable[[Figures], float]) -> None:
        """Look for what an earlier session measured.

        Args:
            folder: of this alone.
            module: whose parameters that require a gradient change meanwhile.
            merit: of what a measurement found; the larger the better.
        """
        self._folder, self._module, self._merit = folder, module, merit
        self._best, self._measured = _read(folder)
        self._weights = load_file(self._weights_file(self._best)) if self._measured else {}

    def measure(self, place: int, measurement: Callable[[], Figures], *, write: bool = True) -> None:
        """Measure the module as it is, once for each place; keep its weights if nothing before was as good.

        Args:
            place: an epoch or a step, counted from 0.
            measurement: what finds the figures.
            write: False: another process of the same training writes them.
        """
        if place in self._measured:
            return
        mode = self._module.training
        self._module.eval()
        figures = dict(measurement())
        self._module.train(mode)
        better = not self._measured or self._merit(figures) > self._merit(self._measured[self._best])
        self._measured[place] = figures
        if better:
            self._best, self._weights = place, self._trained()
        if write:
            self._write(better)

    def restore(self, rule: str, unit: str, *, write: bool = True) -> Choice:
        """Give the module its best weights, and return how they were chosen.

        Args:
            rule: by which the best ones are chosen, in words.
            unit: of the places: epoch or step.
            write: False: another process of the same training writes the choice.
        """
        with torch.no_grad():
            for name, weight in self._module.named_parameters():
                if name in self._weights:
                    weight.copy_(self._weights[name])
        choice = Choice(rule, unit, self._best, dict(sorted(self._measured.items())))
        if write:
            text = json.dumps(choice.as_json(), indent=2) + "\n"
            _replace(self._folder / CHOICE, lambda draft: draft.write_text(text, encoding="utf-8"))
        return choice

    def _trained(self) -> dict[str, Tensor]:
        named = self._module.named_parameters()
        return {name: weight.detach().cpu().clone() for name, weight in named if weight.requires_grad}

    def _weights_file(self, place: int) -> Path:
        return self._folder / f"best-{place:08d}.safetensors"

    def _write(self, better: bool) -> None:
        """Write weights before what names them: a crash between leaves the record that was there."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if better:
            _replace(self._weights_file(self._best), lambda draft: save_file(self._weights, draft))
        record = json.dumps({"best": self._best, "measured": {str(at): one for at, one in self._measured.items()}})
        _replace(self._folder / MEASURED, lambda draft: draft.write_text(record, encoding="utf-8"))
        for old in self._folder.glob("best-*.safetensors"):
            if old != self._weights_file(self._best):
                old.unlink()


def _read(folder: Path) -> tuple[int, dict[int, dict[str, float]]]:
    try:
        record = json.loads((folder / MEASURED).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return 0, {}
    return record["best"], {int(place): figures for place, figures in record["measured"].items()}


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    draft = path.with_suffix(".tmp")
    write(draft)
    os.replace(draft, path)
