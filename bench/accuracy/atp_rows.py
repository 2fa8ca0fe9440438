"""One denoiser after the other, alike but for one value: what ATP's weight, sign, loss and anomalies do at nano size.

Autoencoder and features are trained once, on anomalies of every kind, and serve all rows; a row trains a UNet alone.
Seeds and steps are the same for all rows. Nothing is chosen on the test images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from diffusers import UNet2DModel

from bench.accuracy.denoiser_reading import DenoiserReading, StudyNetworks, learn_networks, read_denoiser
from bench.accuracy.twin_images import EncodedTwins, StudyImages, StudySize, encode_twins, render_study
from training.data.dataset import Split, good_split
from training.finetune.unet import LatentPairs, encode_pairs, train_unet
from training.pipeline import make_run_pairs
from training.progress import Progress
from training.recipe import Recipe
from training.recipe_file import load_recipe
from training.run_identity import claim_run
from training.sample_product import Lamp
from training.synthesis_recipe import FLAW_KINDS, OVERLAY_KINDS
from training.training_run import TrainingRun

SHORT = (
    "settings.resolution=128",
    "settings.start=300",
    "settings.steps=6",
    "synthesis.pairs=400",
    "autoencoder.steps=900",
    "autoencoder.batch=4",
    "unet.widths=[32, 64, 96]",
    "unet.steps=500",
    "unet.batch=8",
    "features.steps=300",
)
"""Changes to the recipe `nano` that make a row a matter of minutes in one thread.

A UNet so shortly trained cannot rebuild a part from the noise at nano's T of 500: its errors everywhere would hide what
it does to a defect.
"""
ADAPTED = 120
"""Pairs whose picture by the autoencoder the features see."""


def only(*kinds: str) -> tuple[str, ...]:
    """Return changes with which these kinds of anomaly alone are made, equally often."""
    return tuple(f"synthesis.{kind}={float(kind in kinds)}" for kind in (*OVERLAY_KINDS, *FLAW_KINDS))


EVERY_KIND = only(*OVERLAY_KINDS, *FLAW_KINDS)


@dataclass(frozen=True)
class AtpRow:
    """A way to train the denoiser: the values that differ from the recipe's, as `--set` takes them."""

    key: str
    title: str
    changes: tuple[str, ...] = ()


def atp_rows(textures: Path | None) -> tuple[AtpRow, ...]:
    """Return all rows, that of the recipe `nano` first.

    Args:
        textures: folder of pictures for MemSeg's anomalies; None: textures are computed there, too.
    """
    pictures = () if textures is None else (f"synthesis.textures={textures}",)
    filled = "computed textures" if textures is None else "pictures as textures"
    memseg = ('synthesis.overlays="memseg"', *only("texture", "shuffle"), *pictures)
    return (
        AtpRow("nano", "as `nano`: t/T, plus, plain loss, six kinds"),
        AtpRow("none", "no anomalies: plain denoising, without ATP", ('unet.anomaly_weight="none"',)),
        AtpRow("minus", "the minus of Eqs. 9 and 10", ("unet.study_minus_sign=true",)),
        AtpRow("t-1000", "weight t/1000, the paper's", ('unet.anomaly_weight="t/1000"',)),
        AtpRow("min-snr", "loss weighted by min-SNR", ('unet.loss_weighting="min_snr"',)),
        AtpRow("memseg", f"anomalies: MemSeg's two, {filled}", memseg),
        AtpRow("shuffle", "anomalies: the shuffled product alone", only("shuffle")),
        AtpRow("texture", "anomalies: computed textures alone", only("texture")),
        AtpRow("sigma", "weight in proportion to sigma_t", ('unet.anomaly_weight="sigma"',)),
        AtpRow("flaws", "anomalies: flaws of material alone", only(*FLAW_KINDS)),
    )


def study_recipe(changes: Sequence[str], seed: int | None = None) -> Recipe:
    """Return the recipe `nano` with changes, and another seed where one is given."""
    recipe = load_recipe("nano", changes)
    assert isinstance(recipe, Recipe), "nano is of the pixel form"
    return recipe if seed is None else recipe.model_copy(update={"seed": seed})


class DenoiserStudy:
    """Images, networks, and the latents of each source of anomalies, made when they are first asked for."""

    def __init__(
        self, folder: Path, images: StudyImages, networks: StudyNetworks, short: Sequence[str], progress: Progress
    ) -> None:
        """Take the parts together; `begin_study` makes them.

        Args:
            folder: of this study alone.
            images: that are learnt from, and read.
            networks: that all rows share.
            short: changes to the recipe `nano`.
            progress: of rendering and reading.
        """
        self.folder, self.images, self.networks, self.short = folder, images, networks, tuple(short)
        self.progress = progress
        self.split = _split(images, short)
        self._sources: dict[str, LatentPairs] = {}
        self._twins: EncodedTwins | None = None

    def in_other_light(self, folder: Path, size: StudySize) -> DenoiserStudy:
        """Return a study of parts under another lamp, by the same networks."""
        images = render_study(folder / "images", size, Lamp.OPPOSITE, partial(self.progress, "images in other light"))
        return DenoiserStudy(folder, images, self.networks, self.short, self.progress)

    def recipe(self, row: AtpRow, seed: int | None = None) -> Recipe:
        """Return a row's recipe."""
        return study_recipe((*self.short, *row.changes), seed)

    def latents_for(self, run: TrainingRun, recipe: Recipe) -> LatentPairs:
        """Return the latents that a run's UNet learns from; of a finished one only their shape counts."""
        unet = run.records.get("unet")
        if unet is None or not unet.finished:
            return self.latents(recipe)
        side = recipe.settings.resolution // recipe.autoencoder.factor
        nothing = torch.zeros((1, recipe.autoencoder.latent_channels, side, side))
        return LatentPairs(nothing, nothing)

    def latents(self, recipe: Recipe) -> LatentPairs:
        """Return the latents of a recipe's pairs; those of rows with the same anomalies are the same."""
        source = recipe.synthesis.model_dump_json()
        if source not in self._sources:
            self._sources[source] = encode_pairs(self.networks.autoencoder, make_run_pairs(recipe, self.split, 1))
        return self._sources[source]

    def train(self, row: AtpRow, seed: int) -> UNet2DModel:
        """Return a row's UNet; a training that was finished is not repeated."""
        plain, run = self.recipe(row), TrainingRun(self.run_folder(row, seed))
        claim_run(run.folder, self.recipe(row, seed), self.split)
        latents = self.latents_for(run, plain)  # of one seed: only what the UNet draws differs
        return train_unet(latents, plain.unet, plain.settings, run, seed=seed)

    def run_folder(self, row: AtpRow, seed: int) -> Path:
        """Return where a row's training and reading lie."""
        return self.folder / "rows" / f"{row.key}-{seed}"

    def read(self, unet: UNet2DModel, title: str) -> DenoiserReading:
        """Return what a UNet does to the test images."""
        if self._twins is None:
            self._twins = encode_twins(self.images, self.networks.autoencoder, self.networks.settings)
        return read_denoiser(unet, self.networks, self.images, self._twins, partial(self.progress, title))


def begin_study(folder: Path, size: StudySize, short: Sequence[str], progress: Progress) -> DenoiserStudy:
    """Render the images and train what all rows share, or take it from the folder.

    Args:
        folder: of this study alone.
        size: of the images.
        short: changes to the recipe `nano`.
        progress: of rendering and reading.
    """
    images = render_study(folder / "images", size, Lamp.USUAL, partial(progress, "images"))
    networks = learn_networks(study_recipe((*short, *EVERY_KIND)), _split(images, short), folder / "shared", ADAPTED)
    return DenoiserStudy(folder, images, networks, short, progress)


def _split(images: StudyImages, short: Sequence[str]) -> Split:
    recipe = study_recipe(short)
    return good_split(images.parts, recipe.calibration.holdout, recipe.seed)


def measure_rows(
    study: DenoiserStudy, rows: Sequence[AtpRow], seeds: Sequence[int], say: Callable[[str], None]
) -> Mapping[str, Mapping[str, DenoiserReading]]:
    """Return the reading of every row and seed: title -> seed -> reading. What was read before is not read again."""
    for seed in seeds:
        for row in rows:
            file = study.run_folder(row, seed) / "reading.npz"
            claim_run(file.parent, study.recipe(row, seed), study.split)
            if file.is_file():
                continue
            unet = study.train(row, seed)
            study.read(unet, f"{row.title}, seed {seed}").write(file)
            say(f"{row.title}: seed {seed} is done")
    return {
        row.title: {str(seed): DenoiserReading.read(study.run_folder(row, seed) / "reading.npz") for seed in seeds}
        for row in rows
    }
