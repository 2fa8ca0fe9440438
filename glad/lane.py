"""Lane: one image's (or tile's) plain state. LaneBlock: the tensors of all lanes in fixed slots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum
from typing import Self

import torch
from torch import Tensor

from glad.noise_schedule import FINAL_STEP, NoiseSchedule, add_noise, noise_schedule
from glad.protocols import Condition
from glad.settings.method import MethodSettings


class Phase(Enum):
    """Where a lane stands on its way."""

    UNTRIGGERED = "untriggered"
    """Not triggered yet, or without adaptation."""
    TRIGGERED = "triggered"
    """Triggered; goes on by plain DDIM."""
    FINISHED = "finished"
    """All steps of the grid are done; `generated` is the reconstruction's latent."""


class TriggerReason(StrEnum):
    """Why a lane triggered."""

    SCORE = "score"
    """The comparison's score passed delta: x_0 was fused."""
    T_MIN = "t_min"
    """The step fell below t_min without a difference: x_0 was replaced by x_{t->0}."""


@dataclass(frozen=True)
class Trigger:
    """The moment at which the denoising step of an image was decided."""

    step: int
    reason: TriggerReason
    score: float


@dataclass(frozen=True)
class Lane:
    """One image's way down the grid. Holds no tensor; a step makes a new one."""

    settings: MethodSettings
    position: int = 0
    """Grid steps that are done; the next UNet call stands at `settings.grid[position]`."""
    trigger: Trigger | None = None
    comparisons: int = 0
    unet_evaluations: int = 0

    @property
    def phase(self) -> Phase:
        """Walking, triggered or finished."""
        if self.position >= len(self.settings.grid):
            return Phase.FINISHED
        return Phase.UNTRIGGERED if self.trigger is None else Phase.TRIGGERED

    @property
    def guided(self) -> bool:
        """Whether the noise is predicted twice, with the product's condition and with the empty one."""
        return self.settings.guidance != 1

    @property
    def timestep(self) -> int:
        """The step t of the next UNet call; ValueError when finished."""
        if self.phase is Phase.FINISHED:
            raise ValueError(
                f"the lane has walked all {self.position} steps of its grid: read its latent and release it"
            )
        return self.settings.grid[self.position]

    @property
    def next_timestep(self) -> int:
        """The step to which the next UNet call leads: the grid's next, and `FINAL_STEP` after the grid's last."""
        grid = self.settings.grid
        return grid[self.position + 1] if self.position + 1 < len(grid) else FINAL_STEP

    @property
    def adapting(self) -> bool:
        """Whether the next step compares. Never with delta = 0, which means plain DDIM from T."""
        return self.phase is Phase.UNTRIGGERED and self.settings.trigger.delta > 0

    @property
    def denoising_step(self) -> int | None:
        """The step that the image needed: large for a large anomaly (Sec. 3.3); None while it is not decided.

        The trigger's step. Without adaptation (delta = 0) it is T. A lane that walked the whole grid without a trigger
        (t_min at or below the last step) never showed a difference: the grid's last step.
        """
        if self.trigger is not None:
            return self.trigger.step
        if self.settings.trigger.delta == 0:
            return self.settings.start
        return self.settings.grid[-1] if self.phase is Phase.FINISHED else None

    def advanced(self, trigger: Trigger | None = None) -> Lane:
        """The lane one step on: one UNet evaluation more (two if guided), and one comparison if it was still adapting.

        trigger: what this step's comparison decided; the first one stays.
        """
        return replace(
            self,
            position=self.position + 1,
            trigger=self.trigger or trigger,
            comparisons=self.comparisons + self.adapting,
            unet_evaluations=self.unet_evaluations + (2 if self.guided else 1),
        )


def merge_lanes(lanes: Sequence[Lane]) -> Lane:
    """The ways of an image's tiles told as one: the trigger at the largest step, and the sums of what they cost.

    Of triggers at one step the score's is told. One lane is itself. ValueError for none.
    """
    if not lanes:
        raise ValueError("an image without lanes has no way to tell of: give the lane of every tile")
    triggers = [lane.trigger for lane in lanes if lane.trigger is not None]
    return replace(
        lanes[0],
        position=min(lane.position for lane in lanes),
        trigger=max(triggers, key=lambda own: (own.step, own.reason is TriggerReason.SCORE), default=None),
        comparisons=sum(lane.comparisons for lane in lanes),
        unet_evaluations=sum(lane.unet_evaluations for lane in lanes),
    )


@dataclass(frozen=True, eq=False)
class StepOutcome:
    """What one step made, for `LaneBlock.write`."""

    slots: tuple[int, ...]
    generated: Tensor
    """x^ at each lane's next step: (len(slots), C, h, w)."""
    lanes: tuple[Lane, ...]


@dataclass(eq=False)
class LaneBlock:
    """The tensors of up to S lanes in fixed slots; all share one UNet, one latent shape and one noise schedule.

    Mutated by `add_lane`, `write` and `release` only, and only by its owner: the runner, or `reconstruct`.
    """

    latents: Tensor
    """z: (S, C, h, w) float32."""
    noise: Tensor
    """epsilon, each image's own: (S, C, h, w) float32."""
    generated: Tensor
    """x^_t, at each lane's own step: (S, C, h, w) float32."""
    lanes: list[Lane | None]
    valid: list[Tensor | None] = field(default_factory=list)
    """Per slot (h, w) bool, false on padding; None: all of it is image."""
    conditions: list[Condition | None] = field(default_factory=list)
    """Per slot what the UNet is told of the product; None where the UNet takes no condition."""

    @classmethod
    def empty(cls, slots: int, channels: int, side: int, device: torch.device | str = "cpu") -> Self:
        """A block of free slots; `side` is the latent's, h = w."""
        latents, noise, generated = (torch.zeros(slots, channels, side, side, device=device) for _ in range(3))
        return cls(latents, noise, generated, [None] * slots, [None] * slots, [None] * slots)

    def free_slots(self) -> tuple[int, ...]:
        """Slots that can take a lane."""
        return tuple(slot for slot, lane in enumerate(self.lanes) if lane is None)

    def slots_in(self, *phases: Phase) -> tuple[int, ...]:
        """Slots whose lane is in one of these phases."""
        return tuple(slot for slot, lane in enumerate(self.lanes) if lane is not None and lane.phase in phases)

    def active_slots(self) -> tuple[int, ...]:
        """Slots that the next step can advance."""
        return self.slots_in(Phase.UNTRIGGERED, Phase.TRIGGERED)

    def lane(self, slot: int) -> Lane:
        """The lane in a slot; ValueError when the slot is free."""
        lane = self.lanes[slot]
        if lane is None:
            raise ValueError(f"slot {slot} is free: add a lane before using it")
        return lane

    def schedule(self, slots: Sequence[int]) -> NoiseSchedule:
        """The noise schedule that these lanes share, on the block's device."""
        return noise_schedule(self.lane(slots[0]).settings.schedule, self.generated.device)

    def add_lane(
        self,
        slot: int,
        lane: Lane,
        latent: Tensor,
        noise: Tensor,
        valid: Tensor | None = None,
        *,
        condition: Condition | None = None,
    ) -> None:
        """Put a new lane into a free slot, noised to its start step (Eq. 1).

        latent, noise: (C, h, w); valid: (h, w) bool, false where the letterbox is padding. ValueError when the slot is
        taken, a shape differs, the lane's noise schedule is not that of the others, or guidance lacks a condition.
        """
        self._check(slot, lane, latent, noise, valid)
        if lane.guided and condition is None:
            raise ValueError(
                f"guidance is {lane.settings.guidance}, and this UNet takes no condition to guide by: set guidance to 1"
            )
        device = self.generated.device
        schedule = noise_schedule(lane.settings.schedule, device)
        start = torch.tensor([lane.settings.start_step], device=device)
        self.latents[slot] = latent
        self.noise[slot] = noise
        own = slice(slot, slot + 1)
        self.generated[own] = add_noise(self.latents[own], self.noise[own], start, schedule)
        self.valid[slot] = None if valid is None or bool(valid.all()) else valid.to(device)
        self.conditions[slot] = condition
        self.lanes[slot] = lane

    def write(self, outcome: StepOutcome) -> None:
        """Store what a step made."""
        self.generated[list(outcome.slots)] = outcome.generated
        for slot, lane in zip(outcome.slots, outcome.lanes, strict=True):
            self.lanes[slot] = lane

    def release(self, slot: int) -> None:
        """Free a slot, whatever its lane's phase."""
        self.lanes[slot] = None
        self.valid[slot] = None
        self.conditions[slot] = None

    def _check(self, slot: int, lane: Lane, latent: Tensor, noise: Tensor, valid: Tensor | None) -> None:
        if self.lanes[slot] is not None:
            raise ValueError(
                f"slot {slot} is taken; free are {self.free_slots()}: use one of them, or release it first"
            )
        wanted = self.latents.shape[1:]
        for name, tensor in (("latent", latent), ("noise", noise)):
            if tensor.shape != wanted:
                raise ValueError(f"{name} is {tuple(tensor.shape)}; the block holds {tuple(wanted)}: use another block")
        if valid is not None and (valid.shape != wanted[1:] or valid.dtype != torch.bool or not bool(valid.any())):
            raise ValueError(
                f"valid is {valid.dtype} {tuple(valid.shape)} with {int(valid.sum())} set; "
                f"it must be bool {tuple(wanted[1:])} with at least one set"
            )
        for other in self.lanes:
            if other is not None and other.settings.schedule != lane.settings.schedule:
                raise ValueError("the lane's noise schedule is not that of the block's other lanes: use another block")
