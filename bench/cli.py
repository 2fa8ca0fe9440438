"""`glad bench`: measurements as a table, and as JSON with the machine and the date."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from bench.accuracy import gate_command
from bench.endurance import (
    call_memory_command,
    load_command,
    reliability_command,
    rolling_command,
    soak_command,
)
from bench.speed import engine_commands, steps_command
from bench.support.show import JsonFile, shown, table, write

app = typer.Typer(
    help="Measure engines, serving, load, endurance and full-size models; figures as a table and as JSON.",
    no_args_is_help=True,
    add_completion=False,
)
app.command()(engine_commands.engines)
app.command()(engine_commands.serving)
app.command()(engine_commands.export)
app.command()(reliability_command.reliability)
app.command()(rolling_command.rolling)
app.command()(gate_command.gate)
app.command()(soak_command.soak)
app.command()(call_memory_command.calls)
app.command()(load_command.load)
app.command()(steps_command.steps)


@app.command()
def history(
    *,
    results: Annotated[int, typer.Option(min=1000, help="So many are kept; a million takes about 3 GB.")] = 1_000_000,
    repeats: Annotated[int, typer.Option(min=10, help="Calls of each kind.")] = 200,
    json_file: JsonFile = None,
) -> None:
    """How fast the history answers, and an inspection ends, with so many results kept. Runs a Redis of its own."""
    from bench.endurance.history import measure_history

    with shown("results") as progress:
        found = measure_history(results, repeats, progress)
    rows = [(one.call, f"{one.p50_ms:.1f}", f"{one.p99_ms:.1f}", str(one.found)) for one in found.latencies]
    table(("call", "p50 ms", "p99 ms", "found"), rows)
    typer.echo(
        f"{found.results} results in Redis {found.redis_version}: {found.redis_bytes / 1e9:.2f} GB; "
        f"filled at {found.filled_per_s:.0f} a second"
    )
    write(json_file, asdict(found))


@app.command()
def memory(
    *,
    inspections: Annotated[int, typer.Option(min=100, help="So many are queued, and ended.")] = 10_000,
    json_file: JsonFile = None,
) -> None:
    """Redis's memory of an inspection: while it waits, after its end, its event, a station's change."""
    from bench.endurance.redis_memory import measure_redis_memory

    with shown("ended") as progress:
        found = measure_redis_memory(inspections, progress)
    names = {
        "an accepted image until its end": found.queued_bytes,
        "an ended inspection, all together": found.ended_bytes,
        "of it, its event": found.event_bytes,
        "a station's change": found.change_bytes,
    }
    table(("what", "bytes"), [(name, f"{size:.0f}") for name, size in names.items()])
    write(json_file, asdict(found))


@app.command()
def fullsize(
    *,
    side: Annotated[
        list[int] | None, typer.Option(help="Side of the model image in pixels. Default: 512 and 256.")
    ] = None,
    invariance: Annotated[bool, typer.Option(help="Also: is a lane's result the same in every batch?")] = False,
    narrow: Annotated[
        bool, typer.Option(hidden=True, help="The same depth at a small width, to try the bench.")
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Stable Diffusion 1.5 and DINO ViT-B/8 with random weights: seconds, memory and parameters of one step."""
    from bench.speed.fullsize import FULL, NARROW, measure_fullsize, measure_invariance, random_models

    built = random_models(NARROW if narrow else FULL)
    sides = side or [512, 256]
    costs = [measure_fullsize(built, one) for one in sides]
    rows = [
        (str(cost.side), name, str(part.calls), f"{part.seconds:.2f}")
        for cost in costs
        for name, part in cost.parts.items()
    ]
    table(("side", "part", "calls", "seconds"), rows)
    for cost in costs:
        typer.echo(f"{cost.side}²: {cost.seconds:.1f} s in all, peak memory {cost.peak_memory_gb:.2f} GB so far")
    varied = [one for size in sides for one in measure_invariance(built, size)] if invariance else []
    if varied:
        cells = [(str(v.side), v.calls, str(v.calls_compared), f"{v.latents:.3g}", f"{v.scores:.3g}") for v in varied]
        table(("side", "call shapes", "batches", "latents differ by", "scores differ by"), cells)
    figures = {"parameters": built.parameters, "costs": [asdict(one) for one in costs]}
    write(json_file, {**figures, "invariance": [asdict(one) for one in varied]})
