"""Two or more things timed in turn, A, B, A, B: what the machine does meanwhile meets all of them alike."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

ROUND_S = 0.1
"""How long a round of short calls lasts at least: a call of a millisecond is timed as a hundred."""
MOST_REPEATS = 100


@dataclass(frozen=True)
class Rounds:
    """Seconds of one call, in each round; where a round has many calls, their mean."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Of the rounds."""
        return statistics.median(self.seconds)


def interleaved(
    calls: Mapping[str, Callable[[], object]], rounds: int, device: str = "cpu", *, round_s: float = ROUND_S
) -> dict[str, Rounds]:
    """Time calls that do the same. Each is called before, to warm up; in every round all repeat it equally often.

    device: what they run on; a GPU's work is awaited. ValueError for no rounds.
    """
    if rounds < 1:
        raise ValueError(f"rounds are {rounds}; at least 1 is needed")
    place = torch.device(device)
    fastest = min(_warmed_up(call, place, round_s) for call in calls.values())
    repeats = min(MOST_REPEATS, max(1, math.ceil(round_s / fastest)))
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            found[name].append(_timed(call, repeats, place) / repeats)
    return {name: Rounds(tuple(seconds)) for name, seconds in found.items()}


def _warmed_up(call: Callable[[], object], device: torch.device, enough_s: float) -> float:
    """Seconds of the second call; of the first one where that takes long enough not to be repeated in a round."""
    first = _timed(call, 1, device)
    return first if first > enough_s else _timed(call, 1, device)


def _timed(call: Callable[[], object], repeats: int, device: torch.device) -> float:
    settle(device)
    began = time.perf_counter()
    for _ in range(repeats):
        call()
    settle(device)
    return time.perf_counter() - began


def settle(device: torch.device) -> None:
    """Waits until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
