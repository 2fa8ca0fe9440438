"""`glad finetune`: one stage of a recipe, alone."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from model_store.cli.common import explained
from training.cli.data import images_folder
from training.interrupts import resumable

STAGES = ("vae", "unet", "small", "dino", "decoder", "features")


def finetune(
    stage: Annotated[str, typer.Argument(metavar="STAGE", help=f"{', '.join(STAGES[:-1])} or {STAGES[-1]}.")],
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="A .toml file, or the name of a shipped one: mvtec-ad, mpdd, visa, pcb-bank, light, nano.",
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
        typer.Option(
            exists=True,
            help="In place of the base's autoencoder: a fine-tuned checkpoint or its folder. Not with light or nano.",
        ),
    ] = None,
    unet: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            help="In place of the base's UNet: a fine-tuned checkpoint or its folder. Not with light or nano.",
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            help="Checkpoints; the same folder resumes. Default: runs/PRODUCT-STAGE, with nano runs/PRODUCT.",
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A value of the recipe, such as unet.steps=900; repeatable."),
    ] = None,
) -> None:
    """Train one network of a recipe alone, and save it as a bundle keeps it.

    Of a recipe for published models it fine-tunes the autoencoder (vae), the UNet (unet), a small autoencoder (small)
    or DINO (dino), and `glad bundle import` makes a bundle of them. Of a recipe like light it trains the denoiser
    (unet) or the decoder of pictures (decoder), of one like nano the autoencoder (vae), then the denoiser (unet), then
    the features (features), each on those before it in the same --run. In both cases `glad train` with that --run goes
    on from there.

    Example: glad finetune dino visa --data candle --unet candle-unet.safetensors --out candle-dino
    """
    if stage not in STAGES:
        raise typer.BadParameter(f"stage is {stage!r}; use one of {', '.join(STAGES)}")
    from training.cli.printed import tell_data_warnings
    from training.package import product_of_folder
    from training.pretrained_recipe import PretrainedRecipe
    from training.recipe import Recipe
    from training.recipe_file import load_recipe
    from training.single_stage import StageName, finetune_alone, steps_of_stage
    from training.training_run import TrainingRun

    with explained(ValueError):
        chosen = load_recipe(recipe, changes or (), data)
        tell_data_warnings(data)
        named = StageName(stage)
        product = product_of_folder(data)
        # The stages of the pixel form stand on each other, so they share the run of the whole training.
        checkpoints = run or Path("runs") / (product if isinstance(chosen, Recipe) else f"{product}-{stage}")
        with resumable():
            progress = TrainingRun(checkpoints, steps_of_stage(named, chosen), say=typer.echo)
            made = finetune_alone(named, chosen, data, progress, out, vae=vae, unet=unet)
    if not isinstance(chosen, PretrainedRecipe):
        changed = [word for change in changes or () for word in ("--set", change)]
        goes_on = shlex.join(["glad", "train", recipe, "--data", str(data), "--run", str(checkpoints), *changed])
        typer.echo(f"{made}\nnext: {goes_on}  (makes the bundle, and goes on from this stage)")
        return
    option = {"vae": "--vae", "unet": "--unet", "small": "--vae", "dino": "--features"}[stage]
    typer.echo(f"{made}  for glad bundle import: {option} {made}")
