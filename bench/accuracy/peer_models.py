"""anomalib's PatchCore, DRAEM and EfficientAD, each trained for a given time on the CPU.

Importing this module imports anomalib, the extra `[peers]`.
"""

from __future__ import annotations

import logging
import pickle
import tempfile
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import lightning
import torch
from anomalib.data import ImageBatch
from anomalib.models import Draem, EfficientAd
from anomalib.models.components import KCenterGreedy
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from lightning.pytorch.callbacks import LambdaCallback
from torch import Tensor, nn
from torch.utils.data import DataLoader

from bench.accuracy.peers import PeerStudy, PreparedImages, TimeBudget, TrainedPeer, as_tensor
from model_store.backbones.base import FrozenBackbone
from training.progress import Progress

CORESET_SHARE = 0.1
"""Of the patches: anomalib's default."""
NEIGHBOURS = 9
"""By which PatchCore weighs an image's score: anomalib's default."""
DRAEM_BATCH = 2
"""The paper has 8. A step takes seconds an image on a CPU, and in a given time many small steps learn more."""
EFFICIENT_AD_STEPS = 70_000
"""The paper's; anomalib wants an end to plan its learning rate by. The time ends first."""
EFFICIENT_AD_SIDE = 256
"""The least that its autoencoder takes."""
EFFICIENT_AD_HELD_OUT = 0.1
"""Share of the training images that its two maps are brought to one scale by; the paper's."""
BARE = {"pre_processor": False, "post_processor": False, "evaluator": False, "visualizer": False}
"""anomalib's modules without what prepares images, scales scores, measures and draws: all that is ours here."""


@dataclass(frozen=True)
class EfficientAdSources:
    """What EfficientAD learns from besides good images."""

    teacher: Path
    """The state dict of the pretrained small teacher, `pretrained_teacher_small.pth`."""
    photographs: Path
    """A folder of folders of ordinary photographs, such as Imagenette, on which the student must not follow it."""


class LevelExtractor(nn.Module):
    """A backbone in the place of anomalib's feature extractor, which takes no module that torch.fx cannot trace."""

    def __init__(self, backbone: FrozenBackbone, levels: Sequence[int]) -> None:
        super().__init__()
        self.backbone, self.levels = backbone, tuple(levels)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return each level's features (B, D, h, w) by its name."""
        return dict(zip(level_names(self.levels), self.backbone(images, self.levels), strict=True))


def train_patchcore(study: PeerStudy, progress: Progress) -> TrainedPeer:
    """Return PatchCore on the study's backbone. Where the time ends before its coreset is whole, it has a smaller one.

    Nothing is learnt by steps here, so it runs without Lightning.
    """
    budget = study.begin()
    network = patchcore_on(study.backbone, study.configuration.embedding.levels).train()
    network.feature_extractor.eval()
    for path in study.split.train:
        network(as_tensor(study.prepare(path)))
        budget.show("PatchCore", progress)
        if budget.is_over:
            break
    seen, patches = len(network.embedding_store), torch.vstack(network.embedding_store)
    network.embedding_store.clear()
    network.memory_bank = choose_coreset(patches, CORESET_SHARE, budget, progress)
    settings = {
        "backbone": study.configuration.backbone,
        "levels": study.configuration.embedding.levels,
        "neighbours": NEIGHBOURS,
        "images": seen,
        "patches": len(patches),
        "coreset_share": CORESET_SHARE,
        "coreset": len(network.memory_bank),
    }
    return TrainedPeer("PatchCore", network.eval(), as_prepared, settings)


def patchcore_on(backbone: FrozenBackbone, levels: Sequence[int]) -> Any:
    """Return anomalib's PatchCore, without patches yet, on levels of a backbone."""
    names = level_names(levels)
    # anomalib traces what it is given as a backbone; these stand for the levels until the extractor takes their place.
    stand_in = nn.Sequential(OrderedDict((name, nn.Conv2d(3, 3, 1)) for name in names))
    network = PatchcoreModel(layers=names, backbone=stand_in, pre_trained=False, num_neighbors=NEIGHBOURS)
    network.feature_extractor = LevelExtractor(backbone, levels)
    return network


def level_names(levels: Sequence[int]) -> list[str]:
    """Return what anomalib calls the levels."""
    return [f"level{level}" for level in levels]


def choose_coreset(patches: Tensor, share: float, budget: TimeBudget, progress: Progress) -> Tensor:
    """Return the coreset (M, C) of patches (N, C) that anomalib would choose, as far as the time reaches.

    The choice is greedy: each beginning of it is the coreset of its size.
    """
    sampler = KCenterGreedy(embedding=patches, sampling_ratio=share)
    sampler.model.fit(patches)
    sampler.features = sampler.model.transform(patches)
    chosen = [int(torch.randint(len(patches), (1,)))]
    while len(chosen) < sampler.coreset_size and not budget.is_over:
        sampler.update_distances(chosen[-1])
        chosen.append(int(sampler.get_new_idx()))
        budget.show("PatchCore", progress)
    return patches[chosen]


def train_draem(study: PeerStudy, progress: Progress, *, textures: Path | None = None) -> TrainedPeer:
    """Return DRAEM, trained from scratch.

    Args:
        textures: a folder of images, such as DTD, that anomalies are filled with; None: with Perlin noise, which is
            what anomalib has where there is no image.
    """
    budget = study.begin()
    with tempfile.TemporaryDirectory() as nothing:
        model = Draem(dtd_dir=textures or nothing, **BARE)
    images = PreparedImages(study.split.train, study, as_picture)
    loader = DataLoader(images, batch_size=DRAEM_BATCH, shuffle=True, drop_last=True, collate_fn=as_batch)
    steps = fit(
        model, partial(lightning.Trainer.fit, train_dataloaders=loader), "DRAEM", budget, progress, max_epochs=-1
    )
    settings = {"textures": "Perlin noise" if textures is None else textures.name, "batch": DRAEM_BATCH, "steps": steps}
    return TrainedPeer("DRAEM", model.model.eval(), as_picture, settings)


def train_efficient_ad(study: PeerStudy, progress: Progress, *, sources: EfficientAdSources) -> TrainedPeer:
    """Return EfficientAD in its small form.

    Raises:
        ValueError: if images are too small for it, or the teacher or the photographs are not what they should be.
    """
    if study.configuration.side < EFFICIENT_AD_SIDE:
        raise ValueError(
            f"EfficientAD takes images of at least {EFFICIENT_AD_SIDE} pixels a side; --side is "
            f"{study.configuration.side}: give more, or leave efficient_ad out of --models"
        )
    teacher = read_teacher(sources.teacher)
    check_photographs(sources.photographs)
    budget = study.begin()
    model = EfficientAd(imagenet_dir=sources.photographs, **BARE)
    # anomalib's own method would download the teacher.
    model.prepare_pretrained_model = partial(model.model.teacher.load_state_dict, teacher)
    kept = max(1, round(EFFICIENT_AD_HELD_OUT * len(study.split.train)))
    train, held_out = (
        DataLoader(PreparedImages(paths, study, as_picture), batch_size=1, shuffle=shuffle, collate_fn=as_batch)
        for paths, shuffle in ((study.split.train[:-kept], True), (study.split.train[-kept:], False))
    )
    data = lightning.LightningDataModule()
    data.train_batch_size, data.train_dataloader, data.val_dataloader = 1, lambda: train, lambda: held_out
    fitting = partial(lightning.Trainer.fit, datamodule=data)
    steps = fit(model, fitting, "EfficientAD", budget, progress, max_steps=EFFICIENT_AD_STEPS, max_epochs=-1)
    model.eval()
    model.model.quantiles.update(model.map_norm_quantiles(held_out))
    settings = {"teacher": sources.teacher.name, "size": model.model_size.value, "batch": 1, "steps": steps}
    return TrainedPeer("EfficientAD", model.model, as_picture, settings)


def as_batch(images: Sequence[Tensor]) -> Any:
    """Return good images (3, S, S) as a batch of anomalib's."""
    return ImageBatch(image=torch.stack(list(images)), gt_label=torch.zeros(len(images), dtype=torch.int64))


def fit(
    model: Any,
    fitting: Callable[[Any, Any], None],
    name: str,
    budget: TimeBudget,
    progress: Progress,
    **arguments: int,
) -> int:
    """Train a Lightning module until its time is over; return the steps that it made, at least one.

    Args:
        fitting: `Trainer.fit` with the data: called with the trainer and the module.
        arguments: of the trainer, beside the module's own.
    """
    shown = LambdaCallback(on_train_batch_end=lambda *_: budget.show(name, progress))
    with tempfile.TemporaryDirectory() as folder, quiet_lightning():
        trainer = lightning.Trainer(
            **{**model.trainer_arguments, **arguments},
            max_time=timedelta(seconds=max(0.0, budget.seconds - budget.spent)),
            accelerator="cpu",
            devices=1,
            logger=False,
            limit_val_batches=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
            callbacks=[shown],
        )
        fitting(trainer, model)
    return int(trainer.global_step)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence what Lightning tells of devices, and its warnings that nothing is logged, validated or kept here."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def read_teacher(file: Path) -> dict[str, Tensor]:
    """Return the weights of EfficientAD's pretrained small teacher.

    Raises:
        ValueError: if the file holds other weights, or none.
    """
    try:
        state: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
        EfficientAd(**BARE).model.teacher.load_state_dict(state)
    except (RuntimeError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"{file} does not hold EfficientAD's small teacher ({error}): give pretrained_teacher_small.pth of "
            "anomalib's efficientad_pretrained_weights.zip"
        ) from error
    return state


def check_photographs(folder: Path) -> None:
    """Check that there are folders with photographs in a folder.

    Raises:
        ValueError: if not.
    """
    if not any(folder.glob("*/**/*.*")):
        raise ValueError(
            f"{folder} holds no folder with images: give one of ordinary photographs in folders, such as Imagenette's "
            "imagenette2/train"
        )


def as_prepared(images: Tensor) -> Tensor:
    """Return images as they are: our backbones take [-1, 1] and normalise it themselves."""
    return images


def as_picture(images: Tensor) -> Tensor:
    """Return images in [0, 1], as the networks take them that anomalib does not normalise for.

    A normalised exposure goes beyond, where the structural similarity of DRAEM's loss and the jitter of EfficientAD
    expect no values.
    """
    return ((images + 1) / 2).clamp(0, 1)


def anomalib_version() -> str:
    """Return the version that is installed."""
    return metadata.version("anomalib")
