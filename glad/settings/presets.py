"""The published settings, as typed presets: every class of MVTec-AD, MPDD, VisA and PCB-Bank, and the one-model-for-all
settings.

Values: the command lines of the authors' published code. Their delta and (on VisA and PCB-Bank) v were chosen on test
metrics, and belong to guidance 9: use them to repeat the paper's tables. For a product of your own: `glad calibrate`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache

from glad.settings.framing import Stretch
from glad.settings.method import (
    Area,
    Direction,
    Foreground,
    Length,
    MethodSettings,
    Resize,
    ScoreSettings,
    StartLevel,
    TriggerSettings,
)

GUIDANCE = 9.0
PROMPT = "a photo of sks"
"""The constant prompt; a multi-class model is told the class's name after it, without a space."""
BOTH_WAYS = frozenset({"transistor", "pcb1", "pcb4"})
"""Classes whose missing parts are looked for: matched in both directions (authors' code)."""
DARK_OBJECTS = frozenset({"screw", "capsule", "bracket_black", "bracket_brown"})
BRIGHT_OBJECTS = frozenset({"bracket_white"})
DARK_IN_SYNTHESIS = DARK_OBJECTS | {"bottle", "zipper", "metal_plate"}
"""Classes whose synthetic anomalies lie on a dark object only, though most of them are scored everywhere."""
BRIGHT_IN_SYNTHESIS = BRIGHT_OBJECTS | {
    *("hazelnut", "pill", "metal_nut", "toothbrush"),
    *("candle", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2", "pipe_fryum"),
}
"""The same on a bright object."""


class UnknownPreset(ValueError):
    """There is no preset of this name."""


@dataclass(frozen=True)
class Preset:
    """The published settings of one class of one data set."""

    name: str
    """`<data set>/<class>`, or `multi/<data set>/<class>` for the one model of all classes."""
    settings: MethodSettings
    prompt: str

    @property
    def synthesis_foreground(self) -> Foreground:
        """Return where synthetic anomalies lie in training (authors' code)."""
        return _foreground(self.name.rpartition("/")[2], DARK_IN_SYNTHESIS, BRIGHT_IN_SYNTHESIS)


@dataclass(frozen=True)
class Family:
    """The settings that the classes of one data set have in common."""

    start_level: StartLevel
    steps: int
    score_resolution: int | None
    framing: Stretch


@dataclass(frozen=True)
class Published:
    """The settings that were chosen for one class: T, t_min, delta and v."""

    start: int
    t_min: int
    delta: float
    pixel_weight: float = 0.0


MVTEC = MPDD = Family(StartLevel.T, 25, None, Stretch())
VISA = PCB_BANK = Family(StartLevel.T_MINUS_1, 15, 256, Stretch())

SINGLE_CLASS: Mapping[str, tuple[Family, Mapping[str, Published]]] = {
    "mvtec-ad": (
        MVTEC,
        {
            "carpet": Published(750, 350, 0.32),
            "grid": Published(750, 350, 0.47),
            "leather": Published(750, 350, 0.35),
            "tile": Published(750, 350, 0.35),
            "wood": Published(750, 350, 0.37),
            "bottle": Published(750, 350, 0.32),
            "cable": Published(750, 350, 0.4),
            "capsule": Published(600, 350, 0.4),
            "hazelnut": Published(750, 350, 0.5),
            "metal_nut": Published(750, 350, 0.4),
            "pill": Published(750, 350, 0.35),
            "screw": Published(750, 350, 0.32),
            "toothbrush": Published(750, 350, 0.5),
            "transistor": Published(850, 350, 0.5),
            "zipper": Published(750, 350, 0.35),
        },
    ),
    "mpdd": (
        MPDD,
        {
            "bracket_black": Published(500, 350, 0.35),
            "bracket_brown": Published(500, 350, 0.35),
            "bracket_white": Published(450, 200, 0.35),
            "connector": Published(500, 350, 0.35),
            "metal_plate": Published(500, 350, 0.35),
            "tubes": Published(500, 350, 0.1),
        },
    ),
    "visa": (
        VISA,
        {
            "candle": Published(450, 200, 0.45, 7),
            "capsules": Published(450, 200, 0.4, 7),
            "cashew": Published(450, 200, 0.4, 1),
            "chewinggum": Published(450, 200, 0.45, 1),
            "fryum": Published(450, 200, 0.35, 2),
            "macaroni1": Published(450, 200, 0.45, 7),
            "macaroni2": Published(450, 200, 0.45, 7),
            "pcb1": Published(450, 200, 0.3, 1),
            "pcb2": Published(450, 200, 0.3, 2),
            "pcb3": Published(450, 200, 0.3, 2),
            "pcb4": Published(450, 200, 0.3, 2),
            "pipe_fryum": Published(450, 200, 0.45, 2),
        },
    ),
    "pcb-bank": (
        PCB_BANK,
        {
            "pcb1": Published(450, 200, 0.3, 1),
            "pcb2": Published(450, 200, 0.3, 2),
            "pcb3": Published(450, 200, 0.3, 2),
            "pcb4": Published(450, 200, 0.3, 2),
            "pcb5": Published(450, 200, 0.4, 2),
            "pcb6": Published(450, 200, 0.45, 1),
            "pcb7": Published(450, 200, 0.3, 2),
        },
    ),
}
"""Data set -> what its classes share, and what was chosen for each."""

MULTI_CLASS: Mapping[str, Published] = {
    "mvtec-ad": Published(650, 350, 0.45),
    "mpdd": Published(500, 350, 0.35),
    "visa": Published(500, 250, 0.15, 2),
    "pcb-bank": Published(500, 250, 0.2, 1),
}
"""Data set -> what was chosen for the one model of all its classes: images come in at 256² and are scored at 256²."""

MULTI_STEPS, MULTI_SIDE = 25, 256


def preset(name: str) -> Preset:
    """Return the preset of this name, such as `mvtec-ad/carpet` or `multi/visa/pcb1`.

    Raises:
        UnknownPreset: if there is none; the message lists the nearest ones.
    """
    known = _presets().get(name)
    if known is None:
        near = get_close_matches(name, _presets(), n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise UnknownPreset(
            f"no preset {name!r}: {hint}Presets are <data set>/<class> and multi/<data set>/<class>, for data set "
            f"{' or '.join(SINGLE_CLASS)}"
        )
    return known


def preset_names() -> tuple[str, ...]:
    """Return every preset's name."""
    return tuple(_presets())


@lru_cache(maxsize=1)
def _presets() -> Mapping[str, Preset]:
    return {one.name: one for one in (*_single(), *_multi())}


def _single() -> Iterator[Preset]:
    for dataset, (family, classes) in SINGLE_CLASS.items():
        for product, published in classes.items():
            both = Direction.SUM if product in BOTH_WAYS else Direction.INPUT
            settings = _settings(family, published, both, _foreground(product, DARK_OBJECTS, BRIGHT_OBJECTS))
            yield Preset(f"{dataset}/{product}", settings, PROMPT)


def _multi() -> Iterator[Preset]:
    for dataset, published in MULTI_CLASS.items():
        single, classes = SINGLE_CLASS[dataset]
        family = Family(single.start_level, MULTI_STEPS, MULTI_SIDE, Stretch(via=MULTI_SIDE))
        for product in classes:
            both = Direction.MEAN if product in BOTH_WAYS else Direction.INPUT
            settings = _settings(family, published, both, Foreground.WHOLE)
            yield Preset(f"multi/{dataset}/{product}", settings, PROMPT + product)


def _foreground(product: str, dark: Collection[str], bright: Collection[str]) -> Foreground:
    if product in dark:
        return Foreground.DARK
    return Foreground.BRIGHT if product in bright else Foreground.WHOLE


def _settings(family: Family, chosen: Published, direction: Direction, foreground: Foreground) -> MethodSettings:
    """Return the settings of one class.

    The trigger compares images in [-1, 1] as they are, input against reconstruction, by the top 10 of 64² patches of
    the last block.
    """
    score = ScoreSettings(
        layers=(3, 6, 9, 12),
        direction=direction,
        pixel_weight=chosen.pixel_weight,
        smoothing=Length(value=6),
        taps=Length(value=49),
        top=Area(value=250),
        resolution=family.score_resolution,
        resize=Resize.ALIGNED_CORNERS,
        foreground=foreground,
    )
    return MethodSettings(
        resolution=512,
        start=chosen.start,
        steps=family.steps,
        t_min=chosen.t_min,
        start_level=family.start_level,
        guidance=GUIDANCE,
        framing=family.framing,
        trigger=TriggerSettings(delta=chosen.delta, top=Area(value=10)),
        score=score,
    ).with_delta(chosen.delta)
