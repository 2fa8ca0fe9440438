"""`glad finetune`: one stage of a recipe for published models, alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from model_store.cli.common import explained
from training.cli.data import images_folder
from training.interrupts import resumable

STAGES = ("vae", "unet", "small", "dino")


def finetune(
    stage: Annotated[str, typer.Argument(metavar="STAGE", help=f"{', '.join(STAGES[:-1])} or {STAGES[-1]}.")],
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE", help="A .toml file, or the name of a shipped one: mvtec-ad, mpdd, visa, pcb-bank."
        ),
    ],
    *,
    data: Annotated[
        Path,
        typer.Option(
            parser=images_folder,
            exists=True,
            file_okay=False,
            metavar="DIR",
            help="Good images, arranged as for `glad train`.",
        ),
    ],
    out: Annotated[Path, typer.Option(file_okay=False, help="A new folder, for the network in Hugging Face layout.")],
    vae: Annotated[
        Path | None,
        typer.Option(exists=True, help="A fine-tuned autoencoder in place of the base's: a checkpoint or its folder."),
    ] = None,
    unet: Annotated[
        Path | None,
        typer.Option(exists=True, help="A fine-tuned UNet in place of the base's: a checkpoint or its folder."),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Checkpoints; the same folder resumes. Default: runs/PRODUCT-STAGE."),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A value of the recipe, such as unet.steps=900; repeatable."),
    ] = None,
) -> None:
    """Fine-tune one published network: autoencoder (vae), UNet (unet), a small autoencoder (small), or DINO (dino).

    `glad train` runs all stages of the recipe and makes a bundle; `glad bundle import` makes one of what this saves.

    Example: glad finetune dino visa --data candle --unet candle-unet.safetensors --out candle-dino
    """
    if stage not in STAGES:
        raise typer.BadParameter(f"stage is {stage!r}; use one of {', '.join(STAGES)}")
    from training.cli.printed import tell_data_warnings
    from training.package import product_of_folder
    from training.pretrained_recipe import PretrainedRecipe
    from training.recipe_file import load_recipe
    from training.single_stage import StageName, finetune_alone
    from training.training_run import TrainingRun

    with explained(ValueError):
        chosen = load_recipe(recipe, changes or (), data)
        if not isinstance(chosen, PretrainedRecipe):
            raise ValueError(
                f"recipe {chosen.name!r} trains from scratch; its stages need each other: use `glad train`, or a "
                "recipe that names a base and dino"
            )
        tell_data_warnings(data)
        checkpoints = run or Path("runs") / f"{product_of_folder(data)}-{stage}"
        with resumable():
            named = StageName(stage)
            made = finetune_alone(
                named, chosen, data, TrainingRun(checkpoints, say=typer.echo), out, vae=vae, unet=unet
            )
    option = {"vae": "--vae", "unet": "--unet", "small": "--vae", "dino": "--features"}[stage]
    typer.echo(f"{made}  for glad bundle import: {option} {made}")
