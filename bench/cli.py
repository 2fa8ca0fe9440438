"""`glad bench`: measurements as a table, and as JSON with the machine and the date."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
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
from bench.plant import command as plant_command
from bench.plant import steps_command
from bench.speed import engine_commands
from bench.support.show import JsonFile, shown, table, write

app = typer.Typer(
    help="Measure engines, autoencoders, chosen settings, PRO and full-size models; figures as a table and as JSON.",
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
app.command()(plant_command.plant)
app.command()(plant_command.plant_check)


@app.command()
def autoencoder(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE...", help="Folders of the bundles to compare.")],
    *,
    data: Annotated[Path, typer.Option(help="Labelled folder with masks: test/good, test/<defect>, ground_truth/.")],
    json_file: JsonFile = None,
) -> None:
    """What bundles' autoencoders keep: the error of a round trip, on good images and inside defects."""
    from bench.autoencoder import measure_round_trips

    found = {}
    for bundle in bundles:
        with shown(str(bundle)) as progress:
            found[str(bundle)] = measure_round_trips(bundle, data, progress)
    kinds = dict.fromkeys(trip.kind for trips in found.values() for trip in trips)
    errors = {name: {trip.kind: trip.error for trip in trips} for name, trips in found.items()}
    table(("kind", *found), [(kind, *(f"{errors[name][kind]:.4f}" for name in found)) for kind in kinds])
    write(json_file, {name: [asdict(trip) for trip in trips] for name, trips in found.items()})


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


@app.command(name="settings")
def settings_choice(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle that `glad calibrate` was given.")],
    *,
    report: Annotated[Path, typer.Option(help="The JSON that `glad calibrate --json` wrote.")],
    data: Annotated[Path, typer.Option(help="Labelled folder with masks: test/good, test/<defect>, ground_truth/.")],
    count: Annotated[int, typer.Option(min=2, help="At most so many good and so many defective images.")] = 60,
    json_file: JsonFile = None,
) -> None:
    """What `glad calibrate` chose, beside the bundle's own settings and the best that these very images allow."""
    from bench.settings_choice import beside_the_best
    from training.calibration.outcomes import Candidate
    from training.calibration.search import named
    from training.progress import named_bars

    told = json.loads(report.read_text(encoding="utf-8"))["settings"]
    candidates = [Candidate(**outcome["candidate"]) for outcome in told["tried"]]
    with named_bars() as show:
        found = beside_the_best(bundle, candidates, Candidate(**told["chosen"]), data, count=count, progress=show)
    rows = [
        (
            name,
            named(o.candidate),
            f"{o.image_auroc:.3f}",
            f"{o.pixel_auroc:.3f}",
            f"{o.pro:.3f}",
            f"{o.comparisons:.1f}",
        )
        for name, o in (("own", found.own), ("glad calibrate", found.chosen), ("best by these images", found.best))
    ]
    table(("settings", "values", "I-AUROC", "P-AUROC", "PRO", "comparisons per good part"), rows)
    write(json_file, asdict(found))


@app.command()
def pro(
    *,
    maps: Annotated[int, typer.Option(min=2, help="Maps for the exact PRO.")] = 500,
    side: Annotated[int, typer.Option(min=32, help="Their side in pixels.")] = 512,
    loop_maps: Annotated[int, typer.Option(min=2, help="Maps for the loop: so many of the same.")] = 4,
    thresholds: Annotated[int, typer.Option(min=2, help="Thresholds of the loop.")] = 200,
    json_file: JsonFile = None,
) -> None:
    """PRO with its interval, exact over all thresholds, against the usual loop over thresholds and regions."""
    from bench.pro import measure_pro

    with shown("the loop's thresholds") as progress:
        found = measure_pro(maps, side, loop_maps, thresholds, progress)
    parts = {"labels (a part of the ranks)": found.label_s, "ranks": found.rank_s, "PRO": found.pro_s}
    parts |= {"its interval": found.interval_s, "total": found.total_s, "all four metrics": found.all_metrics_s}
    table((f"{maps} maps of {side}²", "seconds"), [(name, f"{seconds:.2f}") for name, seconds in parts.items()])
    typer.echo(
        f"the loop, {thresholds} thresholds on {loop_maps} maps: {found.loop_s:.1f} s, {found.ratio:.0f} x a map"
    )
    typer.echo(f"its PRO {found.loop_pro:.4f}, exact {found.ours_on_loop_maps:.4f}")
    write(json_file, {**asdict(found), "total_s": found.total_s, "ratio": found.ratio})


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
