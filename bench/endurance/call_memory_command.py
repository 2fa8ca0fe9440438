"""`glad bench calls`: what each call leaves in memory, as a command."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bench.support.show import JsonFile, table, write


def calls(
    *,
    rounds: Annotated[int, typer.Option(min=2, help="The later half is told.")] = 6,
    most: Annotated[int, typer.Option("--calls", min=20, help="Of the most frequent kind in a round.")] = 1000,
    quiet: Annotated[float, typer.Option(min=0, help="Seconds after each batch, before memory is read.")] = 1.5,
    json_file: JsonFile = None,
) -> None:
    """Which call leaves memory behind? Thousands of each, on new connections. Toy models, from a checkout."""
    from bench.endurance.call_memory import Plan, left, measure
    from bench.support.served import NotServed

    with tempfile.TemporaryDirectory(prefix="glad-calls-") as folder:
        try:
            found = measure(Plan(rounds, most, quiet), Path(folder), lambda line: typer.echo(line, err=True))
        except (RuntimeError, NotServed, ValueError) as error:
            typer.echo(f"glad bench calls: {error}", err=True)
            raise typer.Exit(1) from error
    told = left(found)
    table(
        ("process", "call", "calls in the later half", "KiB kept by each"),
        [(one.process, one.call, f"{one.calls}", f"{one.kib_each:+.3f}") for one in told],
    )
    write(json_file, {"left": [asdict(one) for one in told], "batches": [asdict(one) for one in found]})
