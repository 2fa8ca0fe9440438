"""The results of a variant of an ablation, and those that a measuring which was stopped has left on disk.

A class of a data set is inspected under nine variants or more, which takes as long as a training: a stop costs the
variant under way, not all of them.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glad.settings.method import MethodSettings
from model_store.bundle import open_bundle
from model_store.files import hash_file, replace_file
from training.data.dataset import TestImage
from training.metrics import counts
from training.metrics.counts import Counts, Weights
from training.metrics.image_metrics import image_counts
from training.metrics.pixel_metrics import PRO_LIMIT, Histograms, Ranked, Ranks


@dataclass(frozen=True, eq=False)
class VariantResult:
    """The results of a variant, reduced to what figures and their bootstrap need."""

    scores: NDArray[np.float64]
    ranked: Ranked
    denoising_step: float

    def figures(self, defect: Sequence[bool], times: Weights) -> Mapping[str, Weights]:
        """Return I-AUROC, P-AUROC and PRO per bootstrap round: (rounds,) each.

        Args:
            times: (rounds, images), how often each image counts.
        """
        bins = self.ranked.histograms
        negative = times @ bins.negative
        return {
            "image_auroc": counts.auroc(image_counts(self.scores, defect, times)),
            "pixel_auroc": counts.auroc(Counts(times @ bins.pixels, negative)),
            "pro": counts.area_to(Counts(times @ bins.regions, negative), PRO_LIMIT),
        }

    def exact(self, defect: Sequence[bool]) -> Mapping[str, float]:
        """Return the same figures over all images, not binned."""
        once = np.ones(len(self.scores))
        return {
            "image_auroc": float(counts.auroc(image_counts(self.scores, defect, once))),
            "pixel_auroc": float(counts.auroc(self.ranked.ranks.by_pixel)),
            "pro": float(counts.area_to(self.ranked.ranks.by_region, PRO_LIMIT)),
        }


class KeptResults:
    """The results of the variants that were measured on some images, in a folder: each a file, written in one step."""

    def __init__(self, folder: Path, images: Sequence[TestImage]) -> None:
        """Look into a folder, which need not exist.

        Args:
            folder: for these results alone.
            images: that are inspected: results of others, or of changed ones, are not those of these.
        """
        self._folder = folder
        digest = hashlib.sha256()
        for image in images:
            mask = "none" if image.mask is None else hash_file(image.mask.resolve()).sha256
            content = hash_file(image.path.resolve()).sha256
            digest.update(f"{image.defect}/{image.path.name} {content} {mask}\n".encode(errors="surrogateescape"))
        self._images = digest.hexdigest()

    def read(self, bundle: Path, settings: MethodSettings) -> VariantResult | None:
        """Return what a bundle gave under these settings; None if it was not measured, or the file is damaged."""
        kept = self._file(bundle, settings)
        try:
            with kept.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                return _from_arrays(file)
        except Exception:  # a damaged file raises any of some ten kinds: of zipfile, zlib, tokenize, a missing array
            return None

    def write(self, bundle: Path, settings: MethodSettings, result: VariantResult) -> None:
        """Keep what a bundle gave under these settings."""
        self._folder.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        np.savez_compressed(content, allow_pickle=False, **_as_arrays(result))
        replace_file(self._file(bundle, settings), content.getvalue())

    def _file(self, bundle: Path, settings: MethodSettings) -> Path:
        # Another version of glad may inspect otherwise: the rows of one table are all of one.
        of = "\n".join((version("glad-inspect"), open_bundle(bundle).hash, settings.model_dump_json(), self._images))
        return self._folder / f"{hashlib.sha256(of.encode()).hexdigest()[:32]}.npz"


def _as_arrays(result: VariantResult) -> dict[str, NDArray[np.generic]]:
    ranked = {"ranks": asdict(result.ranked.ranks), "histograms": asdict(result.ranked.histograms)}
    return {
        "scores": result.scores,
        "denoising_step": np.asarray(result.denoising_step),
        **{f"{part}.{name}": np.asarray(value) for part, values in ranked.items() for name, value in values.items()},
    }


def _from_arrays(arrays: Mapping[str, NDArray[np.generic]]) -> VariantResult:
    def part(prefix: str) -> dict[str, NDArray[np.generic]]:
        return {name.partition(".")[2]: arrays[name] for name in arrays if name.startswith(f"{prefix}.")}

    ranks = part("ranks")
    negatives = int(ranks.pop("negatives"))
    ranked = Ranked(Ranks(**ranks, negatives=negatives), Histograms(**part("histograms")))  # type: ignore[arg-type]
    return VariantResult(np.float64(arrays["scores"]), ranked, float(arrays["denoising_step"]))  # type: ignore[arg-type]
