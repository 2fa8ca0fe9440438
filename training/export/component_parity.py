"""Comparison model by model: the answers of a candidate to the inputs that the method would give it, beside the
reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glad.batching import in_buckets
from glad.models import ComponentModels

Call = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True)
class ComponentRow:
    """The errors of one output of one model under one batch size.

    They are absolute, but for the two that say otherwise.
    """

    component: str
    """encoder, unet, decoder, features and their side in pixels, or backbone."""
    detail: str
    """Timestep and prompt of the UNet, layer of the features, level of the backbone."""
    batch: int
    largest_error: float
    mean_error: float
    rms: float
    """Of the reference's output."""
    relative_error: float
    """largest_error / rms."""
    row_difference: float
    """Largest dependence of the candidate's rows on batch size and place in the batch, over rms."""

    @property
    def name(self) -> str:
        """The name for a message."""
        return f"{self.component} {self.detail}".strip() + f", batch {self.batch}"


@dataclass(frozen=True, eq=False)
class ComponentTrial:
    """One model and the inputs that it is given."""

    component: str
    details: tuple[str, ...]
    """A text for each output."""
    rows: tuple[Tensor, ...]
    """(B, ...) each."""
    call: Callable[[Any], Call]
    """Takes models of the form that the trial is of."""


@dataclass(frozen=True, eq=False)
class ComponentOutputs:
    """An output of a model, by reference and candidate: (B, ...) float64 each."""

    expected: Tensor
    """The reference's."""
    found: Tensor
    """The candidate's."""
    alone: Tensor
    """The candidate's, one row a call."""
    turned: Tensor
    """The candidate's for the rows in reverse, put back in order."""


def measured(
    trial: ComponentTrial, reference: ComponentModels, candidate: ComponentModels, batches: Sequence[int]
) -> Iterator[ComponentRow]:
    """Yield one row per output and batch size."""
    ours, theirs = trial.call(reference), trial.call(candidate)
    alone = one_by_one(theirs, *trial.rows)
    for batch in batches:
        expected, found = (_kept(in_buckets(call, trial.rows, (batch,))) for call in (ours, theirs))
        turned = in_buckets(theirs, tuple(rows.flip(0) for rows in trial.rows), (batch,))
        places = tuple(output.flip(0) for output in _kept(turned))
        for detail, parts in zip(trial.details, zip(expected, found, _kept(alone), places, strict=True), strict=True):
            yield _row(trial.component, detail, batch, ComponentOutputs(*parts))


def _row(component: str, detail: str, batch: int, outputs: ComponentOutputs) -> ComponentRow:
    expected, found = outputs.expected, outputs.found
    if found.shape != expected.shape:
        raise ValueError(
            f"{component} {detail} gives {tuple(found.shape)}, the reference {tuple(expected.shape)}: export it again"
        )
    error, rms = (found - expected).abs(), float(expected.square().mean().sqrt())
    moved = torch.stack([(part - outputs.alone).abs().amax() for part in (found, outputs.turned)]).amax()
    return ComponentRow(
        component=component,
        detail=detail,
        batch=batch,
        largest_error=float(error.amax()),
        mean_error=float(error.mean()),
        rms=rms,
        relative_error=in_units(float(error.amax()), rms),
        row_difference=in_units(float(moved), rms),
    )


def in_units(difference: float, unit: float) -> float:
    """Return difference / unit; no difference is 0 in any unit, and one in units of nothing is infinite."""
    if difference == 0:
        return 0.0
    return float(np.float64(difference) / unit) if unit else float("inf")


def predicting(models: Any) -> Call:
    """Return the UNet's call, of models of either form."""
    return lambda *rows: (models.denoiser(*rows),)


def one_by_one(call: Call, *rows: Tensor) -> tuple[Tensor, ...]:
    """Return the answers to each row by itself: (B, ...)."""
    return in_buckets(call, rows, (1,))


def _kept(outputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(output.detach().cpu().double() for output in outputs)
