"""A `Lane` is the plain state of one image (or tile); a `LaneBlock` holds the tensors of many lanes in fixed slots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum
from typing import Self

import torch
from torch import Tensor

from glad.first_reading import FirstReading
from glad.noise_schedule import FINAL_STEP, NoiseSchedule, add_noise, noise_schedule
from glad.protocols import Condition
from glad.settings.method import MethodSettings


class Phase(Enum):
    """The progress of a lane down its grid."""

    UNTRIGGERED = "untriggered"
    """Being denoised; not triggered yet, or without adaptation (delta = 0)."""
    TRIGGERED = "triggered"
    """Being denoised by plain DDIM, after its trigger."""
    FINISHED = "finished"
    """All steps of the grid are done, or none was needed; `generated` is the reconstruction's latent."""


class TriggerReason(StrEnum):
    """The reason for which a lane triggered."""

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
    """The way of one image down the grid. Holds no tensor; every step makes a new lane."""

    settings: MethodSettings
    position: int = 0
    """Grid steps that are done; the next UNet call is made at `grid[position]`."""
    trigger: Trigger | None = None
    comparisons: int = 0
    unet_evaluations: int = 0
    near_tie: bool = False
    """A decision on the way lay so near its threshold that another batch, number of threads or device may decide it
    otherwise: that of a first reading, or of a comparison with delta."""
    walked: bool = True
    """The image goes down the grid, or has gone; of a tiled one any of its tiles. Otherwise its first reading was
    clear."""
    grid: tuple[int, ...] = field(default=(), repr=False)
    """t_i, descending: `settings.grid`, computed once per lane."""

    def __post_init__(self) -> None:
        if not self.grid:
            object.__setattr__(self, "grid", self.settings.grid)

    @classmethod
    def without_walk(cls, settings: MethodSettings, unet_evaluations: int = 0, *, near_tie: bool = False) -> Self:
        """Return the lane of an image that its first reading made clear: finished, without any step.

        Args:
            settings: of its product.
            unet_evaluations: what the reading cost.
            near_tie: whether the reading lay close to being doubtful.
        """
        position = len(settings.grid)
        return cls(settings, position=position, unet_evaluations=unet_evaluations, near_tie=near_tie, walked=False)

    @property
    def phase(self) -> Phase:
        """Return whether the lane is finished, and if not, whether it has triggered."""
        if self.position >= len(self.grid):
            return Phase.FINISHED
        return Phase.UNTRIGGERED if self.trigger is None else Phase.TRIGGERED

    @property
    def guided(self) -> bool:
        """Return whether the noise is predicted twice, with the product's condition and with the empty one."""
        return self.settings.guidance != 1

    @property
    def timestep(self) -> int:
        """Return the step t of the next UNet call.

        Raises:
            ValueError: if the lane is finished.
        """
        if self.phase is Phase.FINISHED:
            raise ValueError(
                f"the lane has done all {self.position} steps of its grid: read its latent and release its slot"
            )
        return self.grid[self.position]

    @property
    def next_timestep(self) -> int:
        """Return the step that the next UNet call leads to: the grid's next one, `FINAL_STEP` after the last."""
        return self.grid[self.position + 1] if self.position + 1 < len(self.grid) else FINAL_STEP

    @property
    def adapting(self) -> bool:
        """Return whether the next step compares; never with delta = 0, which means plain DDIM from T."""
        return self.phase is Phase.UNTRIGGERED and self.settings.trigger.delta > 0

    @property
    def denoising_step(self) -> int | None:
        """Return the step that the image needed, large for a large anomaly (Sec. 3.3); None until it is decided.

        This is the trigger's step. Without adaptation (delta = 0) it is T. A lane that did the whole grid without a
        trigger (t_min at or below the last step) never showed a difference: then it is the grid's last step. An image
        that did not walk needed none: 0.
        """
        if not self.walked:
            return 0
        if self.trigger is not None:
            return self.trigger.step
        if self.settings.trigger.delta == 0:
            return self.settings.start
        return self.grid[-1] if self.phase is Phase.FINISHED else None

    def advanced(self, trigger: Trigger | None = None, *, near_tie: bool = False) -> Lane:
        """Return the lane one step on: one UNet evaluation more (two if guided), and one comparison if it was adapting.

        Args:
            trigger: what this step's comparison decided; a lane keeps its first trigger.
            near_tie: whether it might have been decided otherwise.
        """
        return replace(
            self,
            position=self.position + 1,
            trigger=self.trigger or trigger,
            comparisons=self.comparisons + self.adapting,
            unet_evaluations=self.unet_evaluations + (2 if self.guided else 1),
            near_tie=self.near_tie or near_tie,
        )


def merge_lanes(lanes: Sequence[Lane]) -> Lane:
    """Return the lanes of an image's tiles as one: the trigger at the largest step, and the sums of what they cost.

    Of triggers at the same step the one by score is kept. One lane is returned as it is.

    Raises:
        ValueError: if there are no lanes.
    """
    if not lanes:
        raise ValueError("there are no lanes to merge: give the lane of every tile of the image, at least one")
    triggers = [lane.trigger for lane in lanes if lane.trigger is not None]
    return replace(
        lanes[0],
        position=min(lane.position for lane in lanes),
        trigger=max(triggers, key=lambda one: (one.step, one.reason is TriggerReason.SCORE), default=None),
        comparisons=sum(lane.comparisons for lane in lanes),
        unet_evaluations=sum(lane.unet_evaluations for lane in lanes),
        near_tie=any(lane.near_tie for lane in lanes),
        walked=any(lane.walked for lane in lanes),
    )


@dataclass(frozen=True, eq=False)
class StepOutcome:
    """The result of one step, for `LaneBlock.write`."""

    slots: tuple[int, ...]
    generated: Tensor
    """x^ at each lane's next step: (len(slots), C, h, w)."""
    lanes: tuple[Lane, ...]


@dataclass(frozen=True, eq=False)
class LaneBatch:
    """The lanes of one step, side by side: row i of every tensor belongs to lane i, which may stand at any step."""

    slots: tuple[int, ...]
    lanes: tuple[Lane, ...]
    timesteps: Tensor
    """t: (B,) int64."""
    next_timesteps: Tensor
    """t', where the step leads: (B,) int64."""
    generated: Tensor
    """x^_t: (B, C, h, w)."""
    conditions: tuple[Condition | None, ...]
    schedule: NoiseSchedule
    adapting: list[int]
    """Rows whose lanes are compared in this step."""

    def advanced(self, generated: Tensor, triggers: Sequence[Trigger | None], near_ties: Sequence[bool]) -> StepOutcome:
        """Return every lane one step on.

        Args:
            generated: x^_{t'}, (B, C, h, w).
            triggers: one per row.
            near_ties: one per row.
        """
        decided = zip(self.lanes, triggers, near_ties, strict=True)
        lanes = tuple(lane.advanced(trigger, near_tie=near_tie) for lane, trigger, near_tie in decided)
        return StepOutcome(self.slots, generated, lanes)


@dataclass(eq=False)
class LaneBlock:
    """The tensors of up to S lanes in fixed slots; all share one UNet, one latent shape and one noise schedule.

    Only `add_lane`, `write` and `release` change a block, and only its owner calls them: the worker's runner, or
    `reconstruct`.
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
    """Per slot the product's embedded prompt; None where the UNet takes no condition."""
    readings: list[FirstReading | None] = field(default_factory=list)
    """Per slot the image's first reading; None where every image walks."""

    @classmethod
    def empty(cls, slots: int, channels: int, side: int, device: torch.device | str = "cpu") -> Self:
        """Return a block of free slots; `side` is the latent's, h = w."""
        latents, noise, generated = (torch.zeros(slots, channels, side, side, device=device) for _ in range(3))
        return cls(latents, noise, generated, [None] * slots, [None] * slots, [None] * slots, [None] * slots)

    def free_slots(self) -> tuple[int, ...]:
        """Return the slots that can take a lane."""
        return tuple(slot for slot, lane in enumerate(self.lanes) if lane is None)

    def slots_in(self, *phases: Phase) -> tuple[int, ...]:
        """Return the slots whose lane is in one of these phases."""
        return tuple(slot for slot, lane in enumerate(self.lanes) if lane is not None and lane.phase in phases)

    def active_slots(self) -> tuple[int, ...]:
        """Return the slots that the next step can advance."""
        return self.slots_in(Phase.UNTRIGGERED, Phase.TRIGGERED)

    def lane(self, slot: int) -> Lane:
        """Return the lane in a slot.

        Raises:
            ValueError: if the slot is free.
        """
        lane = self.lanes[slot]
        if lane is None:
            raise ValueError(f"slot {slot} is free: add a lane before using it")
        return lane

    def batch(self, slots: Sequence[int]) -> LaneBatch:
        """Return the lanes of these slots as one batch, in this order; copies their x^_t.

        Raises:
            ValueError: if a slot is free or its lane is finished.
            IndexError: if no slot is given.
        """
        lanes = tuple(self.lane(slot) for slot in slots)
        device = self.generated.device
        return LaneBatch(
            slots=tuple(slots),
            lanes=lanes,
            timesteps=torch.tensor([lane.timestep for lane in lanes], device=device),
            next_timesteps=torch.tensor([lane.next_timestep for lane in lanes], device=device),
            generated=self.generated[list(slots)],
            conditions=tuple(self.conditions[slot] for slot in slots),
            schedule=noise_schedule(lanes[0].settings.schedule, device),  # all lanes of a block share it
            adapting=[row for row, lane in enumerate(lanes) if lane.adapting],
        )

    def add_lane(
        self,
        slot: int,
        lane: Lane,
        latent: Tensor,
        noise: Tensor,
        valid: Tensor | None = None,
        *,
        condition: Condition | None = None,
        reading: FirstReading | None = None,
    ) -> None:
        """Put a new lane into a free slot, its latent noised to the start step (Eq. 1).

        A lane that is finished already rebuilds its image by the counterpart of its first reading.

        Args:
            slot: a free one.
            lane: of the block's noise schedule.
            latent: z, (C, h, w), scaled.
            noise: epsilon, (C, h, w).
            valid: (h, w) bool, false where the letterbox is padding; None: all of it is image.
            condition: the product's embedded prompt, if the UNet takes one.
            reading: the image's first one, if it was read.

        Raises:
            ValueError: if the slot is taken, a shape differs, the lane's noise schedule is not that of the others, a
                guided lane has no condition, or a finished one no reading.
        """
        self._check(slot, lane, latent, noise, valid)
        if lane.guided and condition is None:
            raise ValueError(
                f"guidance is {lane.settings.guidance}, and this UNet takes no condition to guide by: set guidance to 1"
            )
        self.latents[slot] = latent
        self.noise[slot] = noise
        self.generated[slot] = self._noised(slot, lane) if lane.walked else _counterpart(reading)
        self.valid[slot] = None if valid is None or bool(valid.all()) else valid.to(self.generated.device)
        self.conditions[slot] = condition
        self.readings[slot] = reading
        self.lanes[slot] = lane

    def write(self, outcome: StepOutcome) -> None:
        """Store the result of a step."""
        self.generated[list(outcome.slots)] = outcome.generated
        for slot, lane in zip(outcome.slots, outcome.lanes, strict=True):
            self.lanes[slot] = lane

    def release(self, slot: int) -> None:
        """Free a slot, whatever its lane's phase."""
        self.lanes[slot] = None
        self.valid[slot] = None
        self.conditions[slot] = None
        self.readings[slot] = None

    def _noised(self, slot: int, lane: Lane) -> Tensor:
        """Return x^_T (C, h, w), the slot's latent noised to the lane's start step (Eq. 1)."""
        device, row = self.generated.device, slice(slot, slot + 1)
        start = torch.tensor([lane.settings.start_step], device=device)
        return add_noise(self.latents[row], self.noise[row], start, noise_schedule(lane.settings.schedule, device))[0]

    def _check(self, slot: int, lane: Lane, latent: Tensor, noise: Tensor, valid: Tensor | None) -> None:
        if self.lanes[slot] is not None:
            raise ValueError(
                f"slot {slot} is taken; free are {self.free_slots()}: use one of them, or release it first"
            )
        shape = self.latents.shape[1:]
        for name, tensor in (("latent", latent), ("noise", noise)):
            if tensor.shape != shape:
                raise ValueError(f"{name} is {tuple(tensor.shape)}; the block holds {tuple(shape)}: use another block")
        if valid is not None and (valid.shape != shape[1:] or valid.dtype != torch.bool or not bool(valid.any())):
            raise ValueError(
                f"valid is {valid.dtype} {tuple(valid.shape)} with {int(valid.sum())} set; "
                f"it must be bool {tuple(shape[1:])} with at least one set"
            )
        for other in self.lanes:
            if other is not None and other.settings.schedule != lane.settings.schedule:
                raise ValueError("the lane's noise schedule is not that of the block's other lanes: use another block")


def _counterpart(reading: FirstReading | None) -> Tensor:
    if reading is None:
        raise ValueError("the lane is finished, and its image was not read: add a lane at the start of its grid")
    return reading.counterpart
