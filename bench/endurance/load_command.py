"""`glad bench load`: the load as a command."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.support.show import JsonFile, table, write

if TYPE_CHECKING:
    from bench.endurance.load import Plan, Report
    from bench.support.open_loop import Latency


def load(
    *,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of the service and its ceilings.")] = 2,
    step: Annotated[float, typer.Option(min=0.5, help="Seconds at each accept rate.")] = 6.0,
    p99: Annotated[float, typer.Option(min=1, help="A rate is taken if 99 of 100 are accepted in so many ms.")] = 250,
    rates: Annotated[str, typer.Option(help="Images per second with a worker.")] = "0.5,1,2,3,4",
    seconds: Annotated[float, typer.Option(min=1, help="Seconds at each of those.")] = 40.0,
    json_file: JsonFile = None,
) -> None:
    """Images of about 200 KB in an open loop: accepted per second beside the ceilings, and times to accept and result.
    Toy models, from a checkout."""
    from bench.endurance.load import Plan, run
    from bench.support.served import NotServed

    plan = Plan(rounds, step, p99, tuple(float(word) for word in rates.split(",")), seconds)
    with tempfile.TemporaryDirectory(prefix="glad-load-") as folder:
        try:
            found = run(plan, Path(folder), lambda line: typer.echo(line, err=True))
        except (RuntimeError, NotServed) as error:
            typer.echo(f"glad bench load: {error}", err=True)
            raise typer.Exit(1) from error
    table(("accepting", "taken per second, by round", "p50", "p95", "p99 ms", "cores"), _ladders(plan, found))
    header = ("with a worker, per second", "accepted", "refused", "accept p50", "p95", "p99 ms", "ended")
    table((*header, "result p50", "p95", "p99 ms", "cores"), _verdicts(found))
    write(json_file, as_figures(plan, found))


def _ladders(plan: Plan, found: Report) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for target, rounds in found.ladders.items():
        taken = found.highest(target, plan.p99_ms)
        best = next((step for step in rounds[-1] if step.rate == taken[-1]), rounds[-1][0])
        rows.append((target, ", ".join(f"{one:g}" for one in taken), *_times(best.accept), _cores(best.cpu)))
    return rows


def _verdicts(found: Report) -> list[tuple[str, ...]]:
    return [
        (
            f"{one.step.rate:g}",
            f"{one.step.accepted} of {one.step.offered}",
            str(one.step.refused),
            *_times(one.step.accept),
            str(one.ended),
            *_times(one.result),
            _cores(one.step.cpu),
        )
        for one in found.verdicts
    ]


def _times(found: Latency | None) -> tuple[str, str, str]:
    return ("", "", "") if found is None else (f"{found.p50:.0f}", f"{found.p95:.0f}", f"{found.p99:.0f}")


def _cores(cpu: dict[str, float]) -> str:
    return ", ".join(f"{name} {cores:.2f}" for name, cores in cpu.items())


def as_figures(plan: Plan, found: Report) -> dict[str, Any]:
    """For JSON."""
    taken = {target: found.highest(target, plan.p99_ms) for target in found.ladders}
    return {"plan": asdict(plan), "image_bytes": found.image_bytes, "taken_per_s": taken, **asdict(found)}
