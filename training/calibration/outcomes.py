"""The effect of T, t_min and delta on a set of images, without walking every image under every setting.

Under one T all settings walk the same way until their trigger. So each image is walked once without a trigger, and its
comparisons are noted. From these follows where any delta and t_min trigger it, and only what differs is walked to its
end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glad.fusion import decide_trigger
from glad.lane import Trigger, TriggerReason
from glad.settings.framing import Tiles
from glad.settings.method import MaskForm, MethodSettings
from training.parallel_inspection import ImageResult, inspect_each
from training.progress import Progress
from training.synthesis.probes import Probe

NEVER = 5.0
"""A delta that no score reaches: a map's largest possible value is 4."""


@dataclass(frozen=True)
class SettingsCandidate:
    """A choice of the three settings T, t_min and delta."""

    start: int
    """T."""
    t_min: int
    delta: float

    def settings(self, base: MethodSettings) -> MethodSettings:
        """Return the base settings with this choice.

        Raises:
            ValueError: if the choice does not fit them.
        """
        free = base.trigger.model_copy(update={"calibrated_for": None, "delta": self.delta})
        return base.changed(start=self.start, t_min=self.t_min, trigger=free.model_dump()).with_delta(self.delta)


@dataclass(frozen=True)
class WalkEnding:
    """The end of a walk from a given T: all that its result depends on."""

    step: int | None
    """The step at which it triggers; None: never, plain DDIM from T."""
    reason: TriggerReason | None
    delta: float | None = None
    """Only where the fusion mask depends on it."""


@dataclass(frozen=True)
class CandidateResult:
    """The result of one image under one candidate."""

    score: float
    map: NDArray[np.float16]
    """(h, w), without padding."""
    comparisons: int
    step: int
    triggered: bool
    """By its score, not by t_min."""


@dataclass(frozen=True)
class Walks:
    """Images walked from one T without a trigger, and every ending that was asked for."""

    base: MethodSettings
    untriggered: tuple[ImageResult, ...]
    ended: dict[tuple[int, WalkEnding], ImageResult]

    def result(self, image: int, candidate: SettingsCandidate) -> CandidateResult:
        """Return the image's result under a candidate of this T."""
        trace = self.untriggered[image].trace
        ending, comparisons = ending_of(trace, candidate, self.base)
        walked = self.untriggered[image] if ending.step is None else self.ended[image, ending]
        assert walked.map is not None, "walks keep their maps"
        step = candidate.start if ending.step is None and candidate.delta == 0 else ending.step or trace[-1][0]
        shown = walked.placement.restore(walked.map)
        return CandidateResult(walked.score, shown, comparisons, step, ending.reason is TriggerReason.SCORE)


def ending_of(
    trace: Sequence[tuple[int, float]], candidate: SettingsCandidate, base: MethodSettings
) -> tuple[WalkEnding, int]:
    """Return where a walk with this trace ends under a candidate, and how many comparisons it took."""
    if candidate.delta == 0:
        return WalkEnding(None, None), 0
    settings = candidate.settings(base)
    for count, (step, score) in enumerate(trace, start=1):
        trigger: Trigger | None = decide_trigger(settings, step, score)
        if trigger is not None:
            fused = trigger.reason is TriggerReason.SCORE and base.fusion.mask is MaskForm.CENTRED
            return WalkEnding(step, trigger.reason, candidate.delta if fused else None), count
    return WalkEnding(None, None), len(trace)


def walk_untriggered(
    bundle: Path,
    base: MethodSettings,
    start: int,
    probes: Sequence[Probe],
    *,
    progress: Progress,
    workers: int | None = None,
) -> Walks:
    """Walk every image down from T without a trigger, comparing at every step.

    Raises:
        ValueError: for tiled images, because each of their tiles triggers by itself.
    """
    if isinstance(base.framing, Tiles):
        raise ValueError(
            "the settings tile their images, and each tile triggers by itself: try settings on single tiles"
        )
    settings = SettingsCandidate(start, 0, NEVER).settings(base)

    def show(done: int, total: int) -> None:
        progress(f"T {start}: walks", done, total)

    paths = [(probe.path, settings) for probe in probes]
    return Walks(base, tuple(inspect_each(bundle, paths, keep_maps=True, progress=show, workers=workers)), {})


def walk_endings(
    bundle: Path,
    walks: Walks,
    candidates: Sequence[SettingsCandidate],
    *,
    progress: Progress,
    workers: int | None = None,
) -> Walks:
    """Return the walks with every ending that these candidates of one T need."""
    missing: dict[tuple[int, WalkEnding], MethodSettings] = {}
    for image, walked in enumerate(walks.untriggered):
        for candidate in candidates:
            ending, _ = ending_of(walked.trace, candidate, walks.base)
            if ending.step is not None and (image, ending) not in walks.ended:
                missing.setdefault((image, ending), candidate.settings(walks.base))

    def show(done: int, total: int) -> None:
        progress(f"T {candidates[0].start}: endings", done, total)

    paths = [(walks.untriggered[image].path, settings) for (image, _), settings in missing.items()]
    results = inspect_each(bundle, paths, keep_maps=True, progress=show, workers=workers)
    return Walks(walks.base, walks.untriggered, {**walks.ended, **dict(zip(missing, results, strict=True))})


def peaks_until(walks: Walks, images: Sequence[int], t_min: int) -> list[float]:
    """Return the largest trigger score of each image on its way to the step at which t_min would end it.

    Raises:
        ValueError: if one of them is not finite.
    """
    peaks = []
    for image in images:
        trace = walks.untriggered[image].trace
        last = next((i for i, (step, _) in enumerate(trace) if step < t_min), len(trace) - 1)
        peaks.append(max(score for _, score in trace[: last + 1]))
    if bad := [peak for peak in peaks if not math.isfinite(peak)]:
        raise ValueError(
            f"{len(bad)} of {len(peaks)} images have a trigger score that is not finite: "
            "the models diverged, train them again with a lower learning rate"
        )
    return peaks
