"""What every peer gets, and what becomes of it: images, a time to train in, thresholds, results.

Peers are anomalib's models beside our detector (`bench.accuracy.peer_models`). All of them see the images as the frozen
yardstick prepares them, and learn from the same training images. What is otherwise theirs stays theirs: the networks,
the losses, the optimiser, the map, and the score, which is of the whole square. Thresholds come from the images held
out, by the same rule as a bundle's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from glad.images.preparation import PreparedImage, prepare_image
from model_store.backbones.base import FrozenBackbone
from model_store.manifest import Calibration, CalibrationKind
from training.calibration.promise import thresholds_from_scores
from training.data.dataset import Split, read_pixels
from training.parallel_inspection import ImageResult
from training.progress import Progress
from training.recipe import CalibrationRecipe
from training.yardstick.patch_memory import YardstickConfiguration, good_scores

AsInput: TypeAlias = Callable[[Tensor], Tensor]
"""Turns prepared images (B, 3, S, S) into what a model takes."""
Train: TypeAlias = "Callable[[PeerStudy, Progress], TrainedPeer]"


@dataclass(frozen=True)
class TimeBudget:
    """The wall-clock time of one training, from the first image read."""

    seconds: float
    began: float
    """By `time.monotonic`."""

    @property
    def spent(self) -> float:
        """Return the seconds since it began."""
        return time.monotonic() - self.began

    @property
    def is_over(self) -> bool:
        """Return whether nothing is left."""
        return self.spent >= self.seconds

    def show(self, name: str, progress: Progress) -> None:
        """Show how much of it is spent."""
        progress(f"training: {name}", round(min(self.spent, self.seconds)), round(self.seconds))


@dataclass(frozen=True, eq=False)
class PeerStudy:
    """What every peer gets: the images, how they are prepared, the backbone, the time."""

    split: Split
    configuration: YardstickConfiguration
    backbone: FrozenBackbone
    """For PatchCore; and its mean grey is what images are padded with."""
    minutes: float
    seed: int = 0

    def prepare(self, path: Path) -> PreparedImage:
        """Return an image file, letterboxed and prepared as for the yardstick."""
        using = self.configuration
        return prepare_image(read_pixels(path), using.side, using.preparation, self.backbone.mean)

    def begin(self) -> TimeBudget:
        """Return the time that a training has from now on; the random numbers begin anew, too."""
        torch.manual_seed(self.seed)
        np.random.seed(self.seed)  # anomalib's projections draw from scikit-learn
        return TimeBudget(60 * self.minutes, time.monotonic())


@dataclass(frozen=True, eq=False)
class TrainedPeer:
    """A model of anomalib that has learnt what is good."""

    name: str
    network: nn.Module
    """Takes (B, 3, S, S), and returns anomalib's `InferenceBatch`."""
    as_input: AsInput
    settings: dict[str, Any]
    """How it was trained, and how far it came in its time."""


@dataclass(frozen=True, eq=False)
class CalibratedPeer:
    """A trained peer with its thresholds."""

    trained: TrainedPeer
    study: PeerStudy
    calibration: Calibration
    promise: str
    seconds: float
    """From the first image read to its thresholds."""

    @property
    def model_bytes(self) -> int:
        """Return the bytes of all its numbers, as anomalib keeps them: float32."""
        return sum(tensor.nbytes for tensor in self.trained.network.state_dict().values())

    def inspect(self, paths: Sequence[Path]) -> Iterator[ImageResult]:
        """Inspect images one by one, in order."""
        for path in paths:
            yield inspect_with(self.trained, self.study, path)


class PreparedImages(Dataset[Tensor]):
    """Images (3, S, S) as a model takes them, each prepared when it is asked for."""

    def __init__(self, paths: Sequence[Path], study: PeerStudy, as_input: AsInput) -> None:
        self._paths, self._study, self._as_input = tuple(paths), study, as_input

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Tensor:
        return self._as_input(as_tensor(self._study.prepare(self._paths[index])))[0]


def as_tensor(prepared: PreparedImage) -> Tensor:
    """Return a prepared image as (1, 3, S, S)."""
    return torch.from_numpy(prepared.values).permute(2, 0, 1)[None].contiguous()


def calibrated_peer(train: Train, study: PeerStudy, progress: Progress) -> CalibratedPeer:
    """Return a peer, trained by `train`, with thresholds from the images held out."""
    began = time.perf_counter()
    trained = train(study, progress)
    results = []
    for done, path in enumerate(study.split.calibration, start=1):
        results.append(inspect_with(trained, study, path))
        progress(f"calibrating: {trained.name}", done, len(study.split.calibration))
    scores = good_scores(results, study.split.calibration_groups, CalibrationKind.HELD_OUT)
    calibration, report = thresholds_from_scores(scores, CalibrationRecipe())
    return CalibratedPeer(trained, study, calibration, str(report["promise"]), time.perf_counter() - began)


def inspect_with(peer: TrainedPeer, study: PeerStudy, path: Path) -> ImageResult:
    """Return the result of one image: the model's own score, and its map on the square, 0 on the padding."""
    prepared = study.prepare(path)
    with torch.inference_mode():
        found = peer.network(peer.as_input(as_tensor(prepared)))
    anomaly_map = found.anomaly_map.reshape(prepared.valid.shape).numpy()
    limit = np.finfo(np.float16).max
    return ImageResult(
        path=path,
        score=float(found.pred_score),
        map_peak=float(anomaly_map[prepared.valid].max()),
        trace=(),
        denoising_step=0,
        triggered=False,
        placement=prepared.placement,
        map=np.clip(np.where(prepared.valid, anomaly_map, 0), -limit, limit).astype(np.float16),
    )
