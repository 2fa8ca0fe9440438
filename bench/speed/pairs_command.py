"""`glad bench pairs`: whether synthetic anomalies are made faster than a training eats them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.speed.commands import Device
from bench.support.command_line import JsonFile, print_table, progress_shown, spread_evenly, write_figures
from model_store.cli.common import explained

if TYPE_CHECKING:
    from bench.speed.pairs import PairSpeeds


def pairs(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A .toml file, or the name of a shipped one: light, nano.")
    ],
    *,
    data: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="Good images, arranged as for `glad train`.")
    ],
    images: Annotated[int, typer.Option(min=1, help="So many of them.")] = 8,
    count: Annotated[
        int, typer.Option(min=1, help="Anomalies of each kind, and four times as many of the mixture.")
    ] = (20),
    steps: Annotated[int, typer.Option(min=1, help="Training steps that are timed.")] = 5,
    eats: Annotated[
        float | None, typer.Option(min=0.001, help="Images a second of another training, such as on a GPU.")
    ] = None,
    device: Device = "auto",
    json_file: JsonFile = None,
) -> None:
    """Measure pairs with synthetic anomalies a second, by kind, beside what the recipe's UNet takes in training.

    Example: glad bench pairs light --data my-product
    """
    from bench.speed.pairs import measure_pairs
    from model_store.engines.loading import choose_device
    from training.data.dataset import good_split
    from training.recipe_file import load_recipe

    with explained(ValueError), progress_shown("pairs") as progress:
        loaded = load_recipe(recipe, data=data)
        place = choose_device(device)
        good = good_split(data, loaded.calibration.holdout, loaded.seed).train
        found = measure_pairs(
            loaded, spread_evenly(good, images), device=place, count=count, steps=steps, progress=progress
        )
    _show(found, eats)
    write_figures(json_file, {**asdict(found), "device": place, "ratio": found.ratio, "pairs_share": found.pairs_share})


def _show(found: PairSpeeds, eats: float | None) -> None:
    print_table(("kind", f"ms an anomaly at {found.side}²"), [(k, f"{ms:.1f}") for k, ms in found.ms_by_kind.items()])
    typer.echo(f"one process makes {found.pairs_per_s:.1f} pairs a second")
    if found.ratio is not None and found.pairs_share is not None:
        typer.echo(
            f"the UNet's training eats {found.eaten_per_s:.1f} images a second; pairs come {found.ratio:.2g} times as "
            "fast"
        )
        typer.echo(
            f"pairs are made once: {found.pairs} of them, where the UNet takes {found.eaten} images; one process makes "
            f"them in {found.pairs_share:.1%} of the UNet's time"
        )
    if eats is not None:
        typer.echo(f"a training that eats {eats:g} images a second keeps {eats / found.pairs_per_s:.1f} processes busy")
