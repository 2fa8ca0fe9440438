"""`glad bench peers`: anomalib's models beside the yardsticks and bundles, on one class's images."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from bench.accuracy.yardstick_command import figures_content, image_times, show_methods, yardstick_results
from bench.support.command_line import JsonFile, choose_some, write_figures
from model_store.cli.common import BundleFolders

if TYPE_CHECKING:
    from bench.accuracy.peers import PeerStudy, Train
    from bench.accuracy.yardstick_figures import DetectorResult
    from training.data.dataset import TestImage
    from training.progress import Progress
    from training.yardstick.patch_memory import YardstickConfiguration

PeerName = Literal["patchcore", "draem", "efficient_ad"]
PEERS: tuple[PeerName, ...] = get_args(PeerName)


@dataclass(frozen=True)
class PeerOptions:
    """Which models are trained, for how long, and what they learn from besides good images."""

    models: tuple[PeerName, ...]
    minutes: float
    textures: Path | None
    teacher: Path | None
    photographs: Path | None

    @property
    def left_out(self) -> dict[PeerName, str]:
        """Return the models that cannot be trained, each with the reason."""
        if "efficient_ad" not in self.models or (self.teacher and self.photographs):
            return {}
        return {
            "efficient_ad": "EfficientAD is left out: it learns from a pretrained teacher and ordinary photographs, "
            "which are no part of anomalib: give --teacher FILE, pretrained_teacher_small.pth of anomalib's "
            "efficientad_pretrained_weights.zip, and --photographs DIR, such as Imagenette's"
        }


def peers(
    *,
    data: Annotated[
        Path,
        typer.Option(exists=True, file_okay=False, help="One class: DIR/train/good, DIR/test/good, DIR/test/<defect>."),
    ],
    minutes: Annotated[float, typer.Option(min=0.01, help="Time to train, for each model.")] = 20,
    models: Annotated[str, typer.Option(help=f"Of anomalib: {', '.join(PEERS)}.")] = ",".join(PEERS),
    bundle: BundleFolders = None,
    textures: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="DRAEM: images to fill anomalies with, such as DTD. Default: Perlin noise.",
        ),
    ] = None,
    teacher: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="EfficientAD: pretrained_teacher_small.pth.")
    ] = None,
    photographs: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="EfficientAD: folders of ordinary photographs, such as Imagenette's."
        ),
    ] = None,
    side: Annotated[
        int | None, typer.Option(min=32, help="Of the square image. Default: the frozen yardstick's.")
    ] = None,
    timing: Annotated[
        bool, typer.Option("--timing/--no-timing", help="Take times; leave them out where other work runs beside.")
    ] = True,
    json_file: JsonFile = None,
) -> None:
    """Measure anomalib's models, each trained for a given time, beside yardsticks and bundles: the same images, split
    and rules.

    Example: glad bench peers --data my-product --models patchcore --minutes 5
    """
    from bench.accuracy.yardstick_figures import compare_detectors
    from model_store.cli.common import explained
    from training.data.dataset import test_images
    from training.progress import named_bars
    from training.yardstick.patch_memory import YARDSTICK

    using = YARDSTICK if side is None else YARDSTICK.model_copy(update={"side": side})
    with explained(ValueError), named_bars() as show:
        options = PeerOptions(choose_some("--models", models, PEERS), minutes, textures, teacher, photographs)
        check_peers(options)
        images = test_images(data)
        results = [
            *yardstick_results(data, images, using, bundle or [], timing=timing, progress=show),
            *_peer_results(data, images, using, options, timing=timing, progress=show),
        ]
        figures, paired = compare_detectors(results, images, data, show)
    show_methods(figures, paired, results[0].name)
    for reason in options.left_out.values():
        typer.echo(f"\n{reason}")
    content = figures_content(data, using, figures, paired)
    write_figures(json_file, {**content, "minutes": minutes, "left_out": options.left_out})


def check_peers(options: PeerOptions) -> None:
    """Check that some model can be trained, and that anomalib is installed and works.

    Raises:
        ValueError: if not; says what to do.
    """
    if set(options.models) == set(options.left_out):
        raise ValueError(" ".join(options.left_out.values()))
    how = (
        "pip install 'glad-inspect[peers]', best in an environment of its own, because torchvision must be the release "
        "that was built for the installed torch (torch 2.14.1 and torchvision 0.29.1, say)"
    )
    try:
        for package in ("torchvision", "lightning", "anomalib.models"):
            importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise ValueError(f"{error.name} is not installed: {how}") from error
    except (ImportError, RuntimeError) as error:
        raise ValueError(f"anomalib is installed, but does not start ({error}): {how}") from error


def _peer_results(
    data: Path,
    images: Sequence[TestImage],
    using: YardstickConfiguration,
    options: PeerOptions,
    *,
    timing: bool,
    progress: Progress,
) -> Iterator[DetectorResult]:
    """Yield what each model says of the images, as soon as it is trained."""
    from bench.accuracy.peers import PeerStudy
    from model_store.backbones.loading import load_backbone
    from training.data.dataset import good_split
    from training.recipe import CalibrationRecipe

    split = good_split(data, CalibrationRecipe().holdout, 0)
    network = load_backbone(using.backbone).backbone.cut(max(using.embedding.levels))
    study = PeerStudy(split, using, network, options.minutes)
    for train in _trainings(options).values():
        yield _peer_result(train, study, images, timing=timing, progress=progress)


def _trainings(options: PeerOptions) -> Mapping[PeerName, Train]:
    from bench.accuracy.peer_models import EfficientAdSources, train_draem, train_efficient_ad, train_patchcore

    known: dict[PeerName, Train] = {
        "patchcore": train_patchcore,
        "draem": partial(train_draem, textures=options.textures),
    }
    if options.teacher and options.photographs:
        sources = EfficientAdSources(options.teacher, options.photographs)
        known["efficient_ad"] = partial(train_efficient_ad, sources=sources)
    return {name: known[name] for name in options.models if name in known}


def _peer_result(
    train: Train, study: PeerStudy, images: Sequence[TestImage], *, timing: bool, progress: Progress
) -> DetectorResult:
    from bench.accuracy.peer_models import anomalib_version
    from bench.accuracy.peers import calibrated_peer
    from bench.accuracy.yardstick_figures import DetectorCost, DetectorResult

    peer, paths = calibrated_peer(train, study, progress), [image.path for image in images]
    name, results = peer.trained.name, []
    for done, result in enumerate(peer.inspect(paths), start=1):
        results.append(result)
        progress(f"inspecting: {name}", done, len(paths))
    good_ms, defective_ms = image_times(peer.inspect, images) if timing else (None, None)
    cost = DetectorCost(peer.seconds if timing else None, good_ms, defective_ms, peer.model_bytes)
    about: dict[str, Any] = {
        "anomalib": anomalib_version(),
        "minutes": study.minutes,
        **peer.trained.settings,
        "promise": peer.promise,
        "calibration": peer.calibration.model_dump(mode="json", exclude={"good_scores"}),
    }
    return DetectorResult(name, tuple(results), peer.calibration, cost, about)
