"""Settings of the method: frozen, validated, free of torch.

They are stored in a bundle's manifest, so every field has a meaning that outlives the code that wrote it. Symbols
follow Yao et al., "GLAD", ECCV 2024; where the paper and its authors' published code differ, the enum members say which
is which.
"""

from __future__ import annotations

import math
from enum import StrEnum
from functools import lru_cache
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from glad.settings import Frozen
from glad.settings.embedding import BundlePreparation
from glad.settings.framing import Framing, Letterbox, Tiles, Zones

TILE_GRID = 8
"""Tiles lie on this grid or a finer one, in pixels of the model image."""


class Direction(StrEnum):
    """The patches that are matched (Eq. 11)."""

    INPUT = "input"
    """Each patch of the input in the reconstruction: the paper's form. Can miss an absent part."""
    SUM = "sum"
    """The input's patches plus the reconstruction's (authors' code: transistor, pcb1, pcb4)."""
    MEAN = "mean"
    """The mean of both (authors' code: multi-class models)."""


class MaskForm(StrEnum):
    """The form of the fusion mask m of Eq. 6, made from the trigger's map M."""

    SIGMOID = "sigmoid"
    """m = sigmoid(M), as the authors' code has it: m is at least 0.5 everywhere."""
    CENTRED = "centred"
    """m = sigmoid((M - delta) / tau): near 0 where the map is quiet."""


class Renoise(StrEnum):
    """The noise that carries x_0 to the next step after fusion."""

    PREDICTED = "predicted"
    """The UNet's prediction e (authors' code)."""
    ORIGINAL = "original"
    """The image's own noise, at the step of the trigger (Eq. 7)."""


class StartLevel(StrEnum):
    """The level to which the latent is noised before the first step."""

    T = "T"
    T_MINUS_1 = "T-1"
    FIRST_STEP = "first_step"
    """Exactly the first step of the grid, so that the first comparison is exactly zero."""


class ComparatorKind(StrEnum):
    """The comparison of the two versions of an image, by the trigger."""

    IMAGES = "images"
    """Both are decoded, and matched by their features (paper)."""
    LATENTS = "latents"
    """The latents themselves, place by place: they are features already (feature form)."""


class NoiseSource(StrEnum):
    """What decides the noise epsilon of Eq. 1."""

    IMAGE = "image"
    """The image's own pixels: every photograph of a part draws another noise."""
    FIXED = "fixed"
    """The seed and the tile's index alone: every photograph draws the same noise."""


class Resize(StrEnum):
    """The way in which images are resized bilinearly to the scoring resolution."""

    PIXEL_AREAS = "pixel_areas"
    """Pixels are areas: at half the side the exact mean of 2 x 2."""
    ALIGNED_CORNERS = "aligned_corners"
    """Corner pixels stay corner pixels (authors' code)."""


class Foreground(StrEnum):
    """The part of the image that is the object, by Otsu's threshold (authors' code, per product)."""

    WHOLE = "whole"
    """All of it: no mask."""
    DARK = "dark"
    """A dark object on bright ground."""
    BRIGHT = "bright"
    """A bright object on dark ground."""


class Length(Frozen):
    """A length on the square model image, in pixels or as a fraction of its side."""

    value: float = Field(gt=0)
    unit: Literal["px", "side"] = "px"

    def pixels(self, side: int) -> float:
        """Return the length in pixels on an image of this side; never less than one."""
        return max(1.0, self.value * side if self.unit == "side" else self.value)


class Area(Frozen):
    """A number of map elements, absolute or as a fraction of all elements."""

    value: float = Field(gt=0)
    unit: Literal["px", "area"] = "px"

    def elements(self, total: int, least: int = 1) -> int:
        """Return how many of `total` elements it is; at least `least`, at most all."""
        count = round(self.value * total) if self.unit == "area" else round(self.value)
        return min(total, max(least, count))


class ScheduleSettings(Frozen):
    """The noise schedule. Defaults: Stable Diffusion 1.x."""

    train_steps: int = Field(1000, ge=2)
    beta_start: float = Field(0.00085, gt=0, lt=1)
    beta_end: float = Field(0.012, gt=0, lt=1)
    form: Literal["scaled_linear", "linear"] = "scaled_linear"


class CalibratedFor(Frozen):
    """The settings that a value of delta belongs to: under others the trigger's scores mean something else."""

    guidance: float
    start: int
    steps: int
    start_level: StartLevel
    schedule: ScheduleSettings = ScheduleSettings()
    resolution: int
    comparator: ComparatorKind
    layer: int
    direction: Direction
    window: int | None
    top: Area
    least_top: int
    imagenet_normalise: bool


TIE = 1e-4
"""Share of a threshold. Another batch, number of threads or device moves what is compared with it by less: 1e-6 in a
call of a network, and somewhat more after many steps."""


def near_tie(value: float, threshold: float) -> bool:
    """Return whether a value lies so near its threshold that elsewhere it may lie on the other side: see `TIE`."""
    return abs(value - threshold) <= TIE * abs(threshold)


class TriggerSettings(Frozen):
    """The comparison that decides the denoising step (Sec. 3.3)."""

    delta: float = Field(ge=0, description="trigger when the score passes this; 0: no adaptation, plain DDIM from T")
    calibrated_for: CalibratedFor | None = Field(None, description="what delta was found under; None: not recorded")
    comparator: ComparatorKind = ComparatorKind.IMAGES
    layer: int | None = Field(None, ge=1, description="feature block to compare by; None: the last of the score's")
    direction: Direction = Direction.INPUT
    window: int | None = Field(None, ge=0, description="match within this many patches; None: everywhere (paper)")
    top: Area = Area(value=10 / 4096, unit="area")
    imagenet_normalise: bool = Field(False, description="authors' code: images enter in [-1, 1] as they are")
    least_top: int = Field(4, ge=1, description="the score is the mean of at least this many patches")


class FusionSettings(Frozen):
    """The fusion of x_0 at the trigger (Sec. 3.4)."""

    enabled: bool = Field(True, description="False: the trigger replaces x_0 by x_{t->0} (ablation of Table 6)")
    mask: MaskForm = MaskForm.SIGMOID
    tau: float = Field(0.1, gt=0, description="width of the centred mask")
    renoise: Renoise = Renoise.PREDICTED


class EvidenceSettings(Frozen):
    """How much each witness of the feature form counts; 0: it is not asked."""

    memory: float = Field(1.0, ge=0, description="of the difference from the nearest good patch")
    reconstruction: float = Field(1.0, ge=0, description="of the difference from the reconstruction")

    @model_validator(mode="after")
    def _someone_speaks(self) -> Self:
        if not self.memory and not self.reconstruction:
            raise ValueError("evidence.memory and evidence.reconstruction are 0: nothing would be scored; raise one")
        return self


class DoubtfulRange(Frozen):
    """The first readings (`glad.first_reading`) of images that walk; all others are clear without a walk."""

    low: float = Field(ge=0, allow_inf_nan=False, description="an image that is read below this is clearly good")
    high: float = Field(ge=0, allow_inf_nan=False, description="an image that is read above this is clearly defective")

    @model_validator(mode="after")
    def _low_is_lower(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low is {self.low}, high is {self.high}: low may not exceed high; exchange them")
        return self

    def contains(self, reading: float) -> bool:
        """Return whether a first reading is doubtful; one that is no number is, so that it is never taken for clear."""
        return not (reading < self.low or reading > self.high)

    def near_tie(self, reading: float) -> bool:
        """Return whether a reading lies so near an end of the range that elsewhere it may be decided otherwise."""
        return near_tie(reading, self.low) or near_tie(reading, self.high)


class ScoreSettings(Frozen):
    """The anomaly map and the image's score (Sec. 3.6)."""

    layers: tuple[int, ...] = Field((3, 6, 9, 12), min_length=1)
    direction: Direction = Direction.INPUT
    window: int | None = Field(None, ge=0)
    pixel_weight: float = Field(0.0, ge=0, description="v: weight of the pixel distance")
    smoothing: Length = Length(value=6)
    taps: Length = Length(value=49)
    top: Area = Area(value=250)
    imagenet_normalise: bool = True
    resolution: int | None = Field(None, ge=16, description="side at which images are scored; None: the model image's")
    resize: Resize = Resize.PIXEL_AREAS
    foreground: Foreground = Field(Foreground.WHOLE, description="the map is multiplied by this mask of the input")
    evidence: EvidenceSettings = EvidenceSettings()

    @model_validator(mode="after")
    def _layers_ascend(self) -> Self:
        if list(self.layers) != sorted(set(self.layers)) or self.layers[0] < 1:
            raise ValueError(f"layers are {self.layers}; give ascending block numbers from 1, each once")
        return self


class MethodSettings(Frozen):
    """All settings that decide a verdict besides the weights."""

    resolution: int = Field(512, ge=16, description="side of the square model image, in pixels")
    start: int = Field(750, ge=1, description="T: the largest denoising step")
    steps: int = Field(25, ge=1, description="N: UNet evaluations per image")
    t_min: int = Field(350, ge=0, description="below this step an untriggered image is replaced by x_{t->0}")
    start_level: StartLevel = StartLevel.T
    noise_seed: int = Field(0, ge=0)
    noise: NoiseSource = NoiseSource.IMAGE
    preparation: BundlePreparation = BundlePreparation()
    guidance: float = Field(1.0, ge=1, description="w of e_0 + w (e_c - e_0); 1: the product's condition alone")
    framing: Framing = Letterbox()
    zones: Zones = Zones()
    schedule: ScheduleSettings = ScheduleSettings()
    trigger: TriggerSettings
    fusion: FusionSettings = FusionSettings()
    score: ScoreSettings = ScoreSettings()
    doubtful: DoubtfulRange | None = Field(
        None, description="images that are first read inside this range walk (feature form); None: every image walks"
    )

    @model_validator(mode="after")
    def _steps_fit(self) -> Self:
        if self.start > self.schedule.train_steps:
            steps = self.schedule.train_steps
            raise ValueError(f"start (T) is {self.start}; the schedule has {steps} steps: lower start")
        if self.steps > self.start:
            raise ValueError(f"steps (N) is {self.steps}, start (T) is {self.start}: N may not exceed T; lower steps")
        if self.t_min > self.start:
            raise ValueError(f"t_min is {self.t_min}, start (T) is {self.start}: t_min may not exceed T; lower t_min")
        if self.grid[0] >= self.schedule.train_steps:
            raise ValueError(
                f"the first grid step is {self.grid[0]}; the schedule ends at {self.schedule.train_steps - 1}: "
                f"lower start (T) or steps (N)"
            )
        return self

    @model_validator(mode="after")
    def _a_memory_reads_first(self) -> Self:
        if self.doubtful is None:
            return self
        if self.trigger.comparator is not ComparatorKind.LATENTS:
            raise ValueError(
                f"doubtful is set, and trigger.comparator is {self.trigger.comparator}: the pixel form has no memory "
                "that could read an image first; remove doubtful, so that every image walks"
            )
        if not self.score.evidence.memory:
            raise ValueError(
                "doubtful is set, and score.evidence.memory is 0: an image is first read by its memory; raise "
                "evidence.memory, or remove doubtful, so that every image walks"
            )
        return self

    @model_validator(mode="after")
    def _delta_belongs_here(self) -> Self:
        calibrated, here = self.trigger.calibrated_for, self.delta_basis
        if calibrated is None or calibrated == here:
            return self
        name = next(name for name in type(here).model_fields if getattr(calibrated, name) != getattr(here, name))
        raise ValueError(
            f"delta {self.trigger.delta} was calibrated for {name} {getattr(calibrated, name)}; the settings have "
            f"{name} {getattr(here, name)}: set {name} back, or find a new delta with 'glad calibrate'"
        )

    @model_validator(mode="after")
    def _tiles_meet_when_scored(self) -> Self:
        if isinstance(self.framing, Tiles) and TILE_GRID % self.scoring_unit:
            raise ValueError(
                f"score.resolution is {self.scoring_side}, resolution {self.resolution}: the edges of tiles would not "
                f"fall on whole pixels; score tiles at {self.resolution}, or at half or a quarter of it"
            )
        return self

    @property
    def scoring_side(self) -> int:
        """Return the side at which model images are scored, in pixels."""
        return self.score.resolution or self.resolution

    @property
    def scoring_unit(self) -> int:
        """Return the fewest pixels of a model image that are a whole number of pixels where it is scored."""
        return self.resolution // math.gcd(self.resolution, self.scoring_side)

    @property
    def delta_basis(self) -> CalibratedFor:
        """Return the settings that a delta found under these belongs to: guidance, grid and comparator."""
        trigger = self.trigger
        return CalibratedFor(
            guidance=self.guidance,
            start=self.start,
            steps=self.steps,
            start_level=self.start_level,
            schedule=self.schedule,
            resolution=self.resolution,
            comparator=trigger.comparator,
            layer=self.trigger_layer,
            direction=trigger.direction,
            window=trigger.window,
            top=trigger.top,
            least_top=trigger.least_top,
            imagenet_normalise=trigger.imagenet_normalise,
        )

    def with_delta(self, delta: float) -> Self:
        """Return the same settings with a delta that was found under them."""
        changes = {"delta": delta, "calibrated_for": self.delta_basis}
        return self.model_copy(update={"trigger": self.trigger.model_copy(update=changes)})

    @property
    def where_all_walk(self) -> Self:
        """Return the same settings for which every image walks, as training and the search for delta need it."""
        return self if self.doubtful is None else self.model_copy(update={"doubtful": None})

    def changed(self, **fields: Any) -> Self:
        """Return these settings with other values.

        Raises:
            ValueError: if a value breaks a rule, or the delta does not belong to the changed settings.
        """
        return type(self).model_validate({**self.model_dump(), **fields})

    @property
    def grid(self) -> tuple[int, ...]:
        """Return the steps of the grid, descending: t_i = 1 + i * floor(T / N), i = N-1 ... 0."""
        return _grid(self.start, self.steps)

    @property
    def start_step(self) -> int:
        """Return the step to which the latent is noised before the first UNet call."""
        match self.start_level:
            case StartLevel.T:
                return min(self.start, self.schedule.train_steps - 1)
            case StartLevel.T_MINUS_1:
                return self.start - 1
            case StartLevel.FIRST_STEP:
                return self.grid[0]

    @property
    def trigger_layer(self) -> int:
        """Return the feature block that the trigger compares by."""
        return self.trigger.layer if self.trigger.layer is not None else self.score.layers[-1]


@lru_cache(maxsize=256)
def _grid(start: int, steps: int) -> tuple[int, ...]:
    """Return the grid, made once; not kept in the settings, because a changed copy of them would keep it too."""
    stride = start // steps
    return tuple(1 + i * stride for i in reversed(range(steps)))
