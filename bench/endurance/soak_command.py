"""`glad bench soak`: the soak as a command."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.support.show import JsonFile, table, write

if TYPE_CHECKING:
    from bench.endurance.soak import Report


def soak(
    *,
    minutes: Annotated[float, typer.Option(min=0.2, help="How long images come; a quarter is warm-up.")] = 60,
    rate: Annotated[float, typer.Option(min=0.1, help="Images per second, of about 200 KB.")] = 1.0,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two samples.")] = 5.0,
    picture: Annotated[Path | None, typer.Option(help="Where the curves go, as PNG.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Steady work for an hour: does memory grow anywhere, or the number of open files? Toy models, from a checkout."""
    from bench.endurance.soak import Plan, as_figures, run
    from bench.support.served import NotServed

    plan = Plan(minutes=minutes, rate=rate, sample_every_s=every)
    with tempfile.TemporaryDirectory(prefix="glad-soak-") as folder:
        try:
            found = run(plan, Path(folder), lambda line: typer.echo(line, err=True))
        except (RuntimeError, NotServed, ValueError) as error:
            typer.echo(f"glad bench soak: {error}", err=True)
            raise typer.Exit(1) from error
    header = ("process", "what", "first", "last", "highest", "slope per hour [95 %]", "allowed", "verdict")
    table(header, _rows(found))
    typer.echo(
        f"{found.accepted} accepted in {found.seconds / 60:.1f} min, {found.lost} lost, {found.told_twice} told twice; "
        + ", ".join(f"{name} {count}" for name, count in sorted(found.counts.items()))
    )
    if picture is not None:
        from bench.endurance.soak_plot import soak_plot

        picture.write_bytes(soak_plot(found, plan.warm_up * found.seconds))
    write(json_file, as_figures(plan, found))
    if not found.sound:
        raise typer.Exit(1)


def _rows(found: Report) -> list[tuple[str, ...]]:
    return [
        (
            one.process,
            one.what,
            f"{one.trend.first:.1f}",
            f"{one.trend.last:.1f}",
            f"{one.trend.highest:.1f}",
            f"{one.trend.slope:+.2f} [{one.trend.low:+.2f}, {one.trend.high:+.2f}]",
            f"{one.trend.bound:g}",
            one.trend.verdict.value,
        )
        for one in found.judged
    ]
