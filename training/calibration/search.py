"""The search for T, t_min and delta: every choice is tried on good images and synthetic anomalies of them.

No real defect and no test image is used. The mean of I-AUROC and PRO on the probes is maximised; among settings that
differ by less than `TIE` the one with the fewest comparisons wins, because an inspection pays for each comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from glad.settings.method import MethodSettings
from training.calibration.outcomes import (
    NEVER,
    CandidateResult,
    SettingsCandidate,
    Walks,
    peaks_until,
    walk_endings,
    walk_untriggered,
)
from training.calibration.thresholds import conformal_quantile
from training.evaluation.tables import Table
from training.metrics import counts
from training.metrics.image_metrics import image_auroc
from training.metrics.pixel_metrics import PRO_LIMIT, rank_pixels
from training.progress import Progress
from training.synthesis.probes import Probe

START_SHARES = (0.6, 0.8, 1.0)
"""T as shares of the bundle's own: never above it, because the UNet may not have been trained further up."""
T_MIN_SHARES = (0.3, 0.5, 0.7)
"""t_min as shares of T."""
DELTA_QUANTILES = (0.5, 0.8, 0.9, 0.95, 1.0)
"""delta as quantiles of good probes' largest trigger scores on their way to t_min."""
TIE = 0.001
FAIL_QUANTILE = 0.98


ListCandidates = Callable[[Walks, Sequence[int], int], Sequence[SettingsCandidate]]


@dataclass(frozen=True)
class SearchRanges:
    """The values to try. None: shares of the bundle's own T, and of each T."""

    starts: tuple[int, ...] | None = None
    t_mins: tuple[int, ...] | None = None
    deltas: tuple[float, ...] | None = None
    """None: quantiles of the good probes' trigger scores, no adaptation (0), and never."""

    def start_values(self, base: MethodSettings) -> tuple[int, ...]:
        """Return every T to try.

        Raises:
            ValueError: for a T, or a t_min under it, that does not fit the settings.
        """
        starts = self.starts or tuple(sorted({max(base.steps, round(share * base.start)) for share in START_SHARES}))
        for start in starts:
            for t_min in self.t_min_values(start):
                SettingsCandidate(start, t_min, 0.0).settings(base)
        return starts

    def t_min_values(self, start: int) -> tuple[int, ...]:
        """Return every t_min to try under this T."""
        return self.t_mins or tuple(round(share * start) for share in T_MIN_SHARES)

    def candidates(self, walks: Walks, good: Sequence[int], start: int) -> tuple[SettingsCandidate, ...]:
        """Return every choice under this T.

        delta = 0 (no adaptation) stands only once, because t_min has no meaning without it.
        """
        candidates: list[SettingsCandidate] = (
            [SettingsCandidate(start, 0, 0.0)] if self.deltas is None or 0 in self.deltas else []
        )
        for t_min in self.t_min_values(start):
            deltas = self.deltas or _quantiles(peaks_until(walks, good, t_min))
            candidates += [SettingsCandidate(start, t_min, delta) for delta in sorted(set(deltas)) if delta > 0]
        return tuple(candidates)


def _quantiles(peaks: Sequence[float]) -> tuple[float, ...]:
    return (*(float(np.quantile(peaks, q)) for q in DELTA_QUANTILES), NEVER)


@dataclass(frozen=True)
class CandidateOutcome:
    """The figures of one choice on the probes."""

    candidate: SettingsCandidate
    image_auroc: float
    pixel_auroc: float
    pro: float
    missed: float
    """Share of anomalies that score below the conformal 98 % quantile of the good probes: what a user would lose."""
    good_triggered: float
    """Share of good probes that triggered by their score."""
    comparisons: float
    """Mean per good probe: what an inspection pays."""

    @property
    def objective(self) -> float:
        """The figure that is maximised: the mean of I-AUROC and PRO."""
        return (self.image_auroc + self.pro) / 2


@dataclass(frozen=True)
class SettingsChoice:
    """The chosen settings, and everything that was tried."""

    chosen: CandidateOutcome
    tried: tuple[CandidateOutcome, ...]

    def around(self) -> Mapping[str, tuple[CandidateOutcome, ...]]:
        """Return what other values of T, t_min and delta would have cost, by name.

        Each T and each t_min stands with the best choice of the rest.
        """
        chosen = self.chosen.candidate
        same_grid = [o for o in self.tried if o.candidate.start == chosen.start]
        neighbours = [o for o in same_grid if o.candidate.t_min == chosen.t_min or o.candidate.delta == 0]
        return {
            "T": _best_by(self.tried, lambda o: o.candidate.start),
            "t_min": _best_by([o for o in same_grid if o.candidate.delta > 0], lambda o: o.candidate.t_min),
            "delta": tuple(sorted(neighbours, key=lambda o: o.candidate.delta)),
        }


def choose_settings(
    bundle: Path,
    base: MethodSettings,
    probes: Sequence[Probe],
    ranges: SearchRanges,
    *,
    progress: Progress,
    workers: int | None = None,
) -> SettingsChoice:
    """Try every choice on the probes and return the best, with all that was tried.

    Args:
        bundle: a bundle's folder, whose models are used.
        base: the settings from which all but T, t_min and delta are taken.

    Raises:
        ValueError: without good or without defective probes, or for ranges that do not fit the settings.
    """
    starts = ranges.start_values(base)
    tried = try_settings(bundle, base, probes, starts, ranges.candidates, progress=progress, workers=workers)
    return SettingsChoice(best_of(tried), tried)


def try_settings(
    bundle: Path,
    base: MethodSettings,
    probes: Sequence[Probe],
    starts: Sequence[int],
    candidates_of: ListCandidates,
    *,
    progress: Progress,
    workers: int | None = None,
) -> tuple[CandidateOutcome, ...]:
    """Return the outcome of every choice on these images.

    Args:
        candidates_of: returns the choices under one T, given the untriggered walks, the indices of the good ones,
            and that T.

    Raises:
        ValueError: without good or without defective images.
    """
    good = [i for i, probe in enumerate(probes) if not probe.defective]
    if not good or len(good) == len(probes):
        raise ValueError(
            f"{len(good)} of {len(probes)} probes are good: give at least one good and one defective image"
        )
    tried: list[CandidateOutcome] = []
    for start in starts:
        walks = walk_untriggered(bundle, base, start, probes, progress=progress, workers=workers)
        candidates = candidates_of(walks, good, start)
        walks = walk_endings(bundle, walks, candidates, progress=progress, workers=workers)
        tried += [_measure(candidate, walks, probes) for candidate in candidates]
    return tuple(tried)


def best_of(tried: Iterable[CandidateOutcome]) -> CandidateOutcome:
    """Return the outcome with the largest objective; within `TIE` of it, the one with the fewest comparisons.

    Of equals in that as well, the one with the larger delta.
    """
    outcomes = list(tried)
    top = max(outcome.objective for outcome in outcomes)
    near = [outcome for outcome in outcomes if outcome.objective >= top - TIE]
    return min(near, key=lambda o: (round(o.comparisons, 2), -o.candidate.delta))


def _measure(candidate: SettingsCandidate, walks: Walks, probes: Sequence[Probe]) -> CandidateOutcome:
    results = [walks.result(image, candidate) for image in range(len(probes))]
    defect = [probe.defective for probe in probes]
    ranks = rank_pixels([r.map for r in results], [probe.truth for probe in probes]).ranks
    good = [result for result, bad in zip(results, defect, strict=True) if not bad]
    fail = conformal_quantile([result.score for result in good], FAIL_QUANTILE)
    missed = [result.score <= fail for result, bad in zip(results, defect, strict=True) if bad]
    return CandidateOutcome(
        candidate=candidate,
        image_auroc=image_auroc([result.score for result in results], defect),
        pixel_auroc=float(counts.auroc(ranks.by_pixel)),
        pro=float(counts.area_to(ranks.by_region, PRO_LIMIT)),
        missed=float(np.mean(missed)),
        good_triggered=_mean(good, lambda r: r.triggered),
        comparisons=_mean(good, lambda r: r.comparisons),
    )


def _mean(results: Sequence[CandidateResult], value: Callable[[CandidateResult], float]) -> float:
    return float(np.mean([value(result) for result in results]))


def _best_by(
    outcomes: Iterable[CandidateOutcome], key: Callable[[CandidateOutcome], int]
) -> tuple[CandidateOutcome, ...]:
    grouped: dict[int, list[CandidateOutcome]] = {}
    for outcome in outcomes:
        grouped.setdefault(key(outcome), []).append(outcome)
    return tuple(best_of(group) for _, group in sorted(grouped.items()))


def as_rows(outcomes: Iterable[CandidateOutcome]) -> list[dict[str, Any]]:
    """Return outcomes as plain dictionaries for JSON."""
    return [asdict(outcome) for outcome in outcomes]


def choice_as_markdown(choice: SettingsChoice) -> str:
    """Return what was chosen, and what each other choice would have cost, as Markdown."""
    chosen = choice.chosen
    header = ("choice", "I-AUROC", "P-AUROC", "PRO", "anomalies missed", "good parts triggered")
    rows = (_outcome_cells(name, one, chosen) for name, outcomes in choice.around().items() for one in outcomes)
    return (
        f"chosen: {candidate_in_words(chosen.candidate)}: "
        f"I-AUROC {chosen.image_auroc:.3f}, PRO {chosen.pro:.3f} on the probes\n\n"
        + Table((*header, "comparisons per good part"), tuple(rows)).as_markdown()
    )


def _outcome_cells(name: str, outcome: CandidateOutcome, chosen: CandidateOutcome) -> tuple[str, ...]:
    mark = " **chosen**" if outcome is chosen else ""
    return (
        f"{name}: {candidate_in_words(outcome.candidate)}{mark}",
        *(f"{value:.3f}" for value in (outcome.image_auroc, outcome.pixel_auroc, outcome.pro)),
        *(f"{share:.0%}" for share in (outcome.missed, outcome.good_triggered)),
        f"{outcome.comparisons:.1f}",
    )


def candidate_in_words(candidate: SettingsCandidate) -> str:
    """Return a choice in words, such as `T 400, t_min 200, δ 0.350`."""
    if candidate.delta == 0:
        return f"T {candidate.start}, no adaptation"
    if candidate.delta == NEVER:
        return f"T {candidate.start}, t_min {candidate.t_min}, δ never reached"
    return f"T {candidate.start}, t_min {candidate.t_min}, δ {candidate.delta:.3f}"
