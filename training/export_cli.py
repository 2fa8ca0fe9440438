"""`glad export`. Imports its needs when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from model_store.command import command_line, explained

PRECISIONS = ("float32", "float16", "int8")
SHOWN = 12
"""Problems told on the terminal; the report has all."""


def export(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle's folder; the export becomes part of it.")],
    *,
    to: Annotated[Literal["onnx"], typer.Option(help="The engine.")],
    data: Annotated[Path, typer.Option(help="Good images, arranged as for `glad train`: equality is shown on them.")],
    precision: Annotated[
        str, typer.Option(help="Of the files, such as float32,float16,int8. Default: float32; on a GPU float16 too.")
    ] = "",
    images: Annotated[int, typer.Option(min=2, help="Good images to compare on, and as many with an anomaly.")] = 20,
    tolerance: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Another limit; again for more.")
    ] = None,
    report: Annotated[Path, typer.Option(help="Folder for parity.json and its pages, passed or not.")] = Path("parity"),
    seed: Annotated[int, typer.Option(help="Of the synthetic anomalies.")] = 0,
) -> None:
    """A bundle's models for another engine, compared with its own weights; over tolerance nothing is published."""
    from model_store.devices import device_of_environment
    from training.export.make import Plan, make_onnx
    from training.export.onnx import ExportFailed
    from training.progress import named_bars

    with explained(ValueError, ExportFailed, status=2), named_bars() as show:
        device = device_of_environment()
        chosen = _precisions(precision, device)
        plan = Plan(chosen, images, tuple(tolerance or ()), device, seed)
        made = make_onnx(bundle, data, report, plan, command=command_line(), progress=show, say=typer.echo)
    for sentence in made.told:
        typer.echo(sentence)
    if made.folder is None:
        for problem in made.problems[:SHOWN]:
            typer.secho(f"glad: {problem}", fg=typer.colors.RED, err=True)
        typer.secho(
            f"glad: not equal in {len(made.problems)} places, so nothing was published; all of them: {report}",
            fg=typer.colors.RED,
            err=True,
        )
        raise typer.Exit(1)
    typer.echo(f"{made.folder}: {to} export; the report: {report}")


def _precisions(given: str, device: str) -> tuple[Literal["float32", "float16", "int8"], ...]:
    names = tuple(dict.fromkeys(given.split(","))) if given else ("float32", *(("float16",) if device != "cpu" else ()))
    if unknown := [name for name in names if name not in PRECISIONS]:
        raise ValueError(f"--precision is {given!r}: {', '.join(unknown)} is none; choose of {', '.join(PRECISIONS)}")
    return names  # type: ignore[return-value]
