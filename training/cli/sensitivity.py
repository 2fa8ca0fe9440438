"""`glad sensitivity`: what share of synthetic anomalies a bundle finds. Imports its needs when called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from model_store.cli.common import BundleName, StoreFolder, bundle_folder, command_line, explained
from training.cli.data import images_folder
from training.cli.printed import tell_data_warnings


def sensitivity(
    bundle: BundleName,
    *,
    data: Annotated[
        Path,
        typer.Option(
            parser=images_folder,
            exists=True,
            file_okay=False,
            metavar="DIR",
            help="Good images, arranged as for `glad train`; anomalies are planted into those for the thresholds.",
        ),
    ],
    per_cell: Annotated[
        int,
        typer.Option(
            min=1, help="Anomalies of each kind, contrast and size: more take longer, and say it more surely."
        ),
    ] = 6,
    seconds: Annotated[
        float, typer.Option(min=1, help="No more are inspected after these; all cells lose equally many.")
    ] = 600.0,
    images: Annotated[int, typer.Option(min=1, help="Good images that are used, at most.")] = 60,
    kinds: Annotated[str, typer.Option(help="Such as crack,pores. Default: all.")] = "",
    seed: Annotated[int, typer.Option(help="Another seed, other anomalies.")] = 0,
    json_file: Annotated[
        Path, typer.Option("--json", dir_okay=False, help="Every anomaly and its score; the picture lies beside it.")
    ] = Path("sensitivity.json"),
    store: StoreFolder = None,
) -> None:
    """Measure what share of synthetic anomalies a bundle finds, by kind, contrast and size; no defects are needed.

    Example: glad sensitivity bracket --data my-product --json sensitivity.json
    """
    from model_store.bundle import open_bundle
    from training.progress import named_bars
    from training.sensitivity.record import sensitivity_of_bundle
    from training.synthesis_recipe import SensitivityRecipe

    with explained(ValueError):
        folder = bundle_folder(bundle, store)
        chosen = tuple(kind.strip() for kind in kinds.split(",") if kind.strip()) or None
        recipe = SensitivityRecipe(per_cell=per_cell, seconds=seconds, images=images, kinds=chosen)
        tell_data_warnings(data)
        with named_bars() as show:
            measured = sensitivity_of_bundle(folder, data, recipe, seed=seed, progress=show)
        about = {"command": command_line(), "bundle": open_bundle(folder).hash}
        picture = measured.write(json_file, about)
    measured.tell(typer.echo)
    typer.echo(f"all figures: {json_file}; the picture: {picture}")
