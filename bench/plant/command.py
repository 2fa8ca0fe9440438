"""`glad bench plant`: a shift of a whole plant, or the number of nodes that it needs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import structlog
import typer

from bench.speed.engine_commands import BundleFolder
from bench.support.show import JsonFile, table, write
from model_store.cli.common import explained

if TYPE_CHECKING:
    from bench.plant.figures import PlantFigures
    from bench.plant.lines import Plant
    from bench.plant.simulation import Fleet, Measured, Shift, Story

MOST = 8
"""Times as many nodes as are tried first: then the plant cannot be served in time by more of these devices."""

StepsFile = Annotated[Path, typer.Option("--steps", help="What `glad bench steps --json` wrote: the measured device.")]
Evaluations = Annotated[
    list[Path], typer.Option("--outcomes", help="What `glad evaluate --json` wrote, again for more: denoising steps.")
]


def plant(
    *,
    steps: StepsFile,
    outcomes: Evaluations,
    nodes: Annotated[int | None, typer.Option(min=1, help="Default: what the mean device time asks for.")] = None,
    find: Annotated[bool, typer.Option(help="Search the smallest number of nodes that keeps every takt.")] = False,
    cameras: Annotated[int, typer.Option(min=1, help="One per line.")] = 100,
    products: Annotated[int, typer.Option(min=1, help="Shared out over the lines.")] = 20,
    sharing: Annotated[int, typer.Option(min=0, help="So many products are classes of one model.")] = 5,
    gate_s: Annotated[float, typer.Option(min=0, help="A part's way from camera to gate; default: its takt.")] = 0.0,
    deadline_s: Annotated[float, typer.Option(min=1, help="Of every fourth line.")] = 60.0,
    seconds: Annotated[float, typer.Option(min=60, help="Of the shift, in virtual time.")] = 900.0,
    lose_at: Annotated[float | None, typer.Option(min=0, help="When a node is lost. Default: at a third.")] = None,
    away_s: Annotated[float, typer.Option(min=1, help="How long it is away.")] = 300.0,
    lossless: Annotated[bool, typer.Option(help="No node is lost.")] = False,
    lanes: Annotated[int | None, typer.Option(min=1, help="As GLAD_LANES. Default: all that were measured.")] = None,
    max_bundles: Annotated[int, typer.Option(min=1, help="As GLAD_MAX_BUNDLES.")] = 4,
    pools: Annotated[int, typer.Option(min=1, help="Products and nodes shared out over so many pools.")] = 1,
    seed: Annotated[int, typer.Option(help="Another one is another shift.")] = 0,
    picture: Annotated[Path | None, typer.Option(help="Where a picture of the last shift goes, as PNG.")] = None,
    json_file: JsonFile = None,
) -> None:
    """A plant in virtual time: the real engine, scheduler and queue, on a device that takes measured seconds."""
    from bench.plant.arithmetic import mean_nodes
    from bench.plant.lines import mixed_plant, read_outcomes
    from bench.plant.node import NodeSettings
    from bench.plant.simulation import Fleet, Loss, Measured, Shift
    from bench.plant.steps import read_steps

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with explained(ValueError, OSError):
        read = {path.name: read_outcomes(path) for path in outcomes}
        measured = Measured(read_steps(steps), read)
        made = mixed_plant(cameras, products, tuple(read), sharing=sharing, deadline_s=deadline_s, seed=seed)
        settings = NodeSettings(lanes or measured.times.lanes, max_bundles=max_bundles)
        at = seconds / 3 if lose_at is None else lose_at
        shift = Shift(seconds, None if lossless else Loss(at, at + away_s), seed)
        fleet = Fleet(nodes or max(pools, mean_nodes(made, measured)), settings, pools)
        tried, story = _shifts(made, fleet, shift, measured, gate_s=gate_s, find=find)
    found = tried[-1]
    show_plant(found)
    if find:
        _show_search(tried)
    if picture is not None:
        from bench.plant.picture import plant_picture

        picture.write_bytes(plant_picture(found, story, shift))
    device = measured.times.model_dump(mode="json", exclude={"settings"})
    scenario = {"fleet": asdict(fleet), "shift": asdict(shift), "gate_s": gate_s, "device": device}
    write(json_file, {**scenario, "found": asdict(found), "tried": [asdict(one) for one in tried[:-1]]})


def _shifts(
    made: Plant, fleet: Fleet, shift: Shift, measured: Measured, *, gate_s: float, find: bool
) -> tuple[list[PlantFigures], Story]:
    """Every shift that was run, and the story of the last one: the answer, where the answer was searched."""
    from bench.plant.search import run_plant, smallest
    from training.progress import named_bars

    runs: dict[int, tuple[Story, PlantFigures]] = {}
    with named_bars() as progress:

        def in_time(nodes: int) -> bool:
            own = replace(fleet, nodes=nodes)
            runs[nodes] = run_plant(made, own, shift, measured, gate_s=gate_s, progress=progress)
            return runs[nodes][1].in_time

        if not find:
            in_time(fleet.nodes)
        elif (answer := smallest(in_time, fleet.nodes, fleet.pools, MOST * fleet.nodes)) is not None:
            runs[answer] = runs.pop(answer)
    return [figures for _, figures in runs.values()], list(runs.values())[-1][0]


def show_plant(found: PlantFigures) -> None:
    """Prints a shift."""
    from bench.plant.figures import fairness

    table(
        ("takt", "lines", "parts", "p50 s", "p95 s", "p99 s", "allowed s", "late", "over a takt"),
        [
            (
                f"{takt.takt_s:g} s",
                str(takt.lines),
                str(takt.times.parts),
                *(f"{value:.2f}" for value in (takt.times.p50_s, takt.times.p95_s, takt.times.p99_s, takt.allowed_s)),
                f"{takt.late:.2%}",
                f"{takt.over_takt:.1%}",
            )
            for takt in found.takts
        ],
    )
    typer.echo()
    rows = [
        ("nodes; by the mean device time", f"{found.nodes}; {found.mean_nodes}"),
        ("images a second", f"{found.images_per_s:.2f}"),
        ("accepted, refused", f"{found.accepted}, {sum(found.refused.values())} {found.refused or ''}".strip()),
        (
            "done, expired, without an end, ended twice",
            f"{found.done}, {found.expired}, {found.unended}, {found.double}",
        ),
        *((f"p99 of {name} priority", f"{times.p99_s:.2f} s") for name, times in found.priorities.items()),
        ("slowest product's mean / the middle one's", f"{fairness(found):.2f}"),
        ("lanes occupied; lanes in a step", f"{found.lane_use:.0%}; {found.lanes_per_step:.2f}"),
        (
            "time in model calls; in loading bundles",
            f"{found.device_use:.0%}; {found.load_share:.1%} ({found.loads} loads)",
        ),
        ("held by the lost node; until all had ended", f"{found.held_at_loss}; {_seconds(found.recovery_s)}"),
    ]
    table(("what", "figure"), rows)


def _show_search(tried: Sequence[PlantFigures]) -> None:
    found = tried[-1]
    typer.echo(
        f"\n{found.nodes} nodes keep every takt with one lost; by the mean device time it would be {found.mean_nodes}"
        if found.in_time
        else f"\nnot in time even with {found.nodes} nodes: an image takes longer than a takt; see --gate-s"
    )
    for one in sorted(tried, key=lambda figures: figures.nodes):
        late = ", ".join(f"{takt.takt_s:g} s: {takt.times.p99_s:.1f}" for takt in one.takts if not takt.in_time)
        typer.echo(f"{one.nodes} nodes: " + (f"p99 too long for takts {late}" if late else "in time"))


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"


def plant_check(
    bundle: BundleFolder,
    *,
    data: Annotated[Path, typer.Option(help="Images to inspect: labelled ones (test/), or any folder of images.")],
    steps: StepsFile,
    seconds: Annotated[float, typer.Option(min=10, help="So long pictures are taken, really.")] = 120.0,
    use: Annotated[float, typer.Option(min=0.05, max=2, help="Images a second, as a share of what is possible.")] = 0.8,
    images: Annotated[int, typer.Option(min=1, help="So many of the folder, in turn.")] = 40,
    seed: Annotated[int, typer.Option(help="Another one is another row of arrivals.")] = 0,
    json_file: JsonFile = None,
) -> None:
    """Is the simulation right? The same Poisson arrivals through `glad serve` on this machine and in virtual time.

    --steps: measured just before, on this machine, of this bundle. GLAD_TORCH_THREADS and the like are passed on.
    """
    from bench.plant.check import CheckPlan, NoVerdict, measure_check
    from bench.plant.steps import read_steps
    from bench.support.images import some_images
    from bench.support.served import NotServed
    from training.progress import named_bars

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with explained(ValueError, OSError, NotServed, NoVerdict), named_bars() as progress:
        times = read_steps(steps)
        steps_of_an_image = len(times.settings.grid)
        rate = use / times.device_s(steps_of_an_image, times.lanes)
        plan = CheckPlan(seconds, rate, "auto", times.lanes, seed)
        found = measure_check(bundle, some_images(data, images), times, plan, progress)
    rows = [
        (name, f"{real:.3f}", f"{simulated:.3f}", f"{simulated / real - 1:+.0%}")
        for name, real, simulated in (
            ("images/s", found.real_images_per_s, found.simulated_images_per_s),
            ("time to verdict, mean s", found.real_mean_s, found.simulated_mean_s),
            ("p50 s", found.real.p50_s, found.simulated.p50_s),
            ("p95 s", found.real.p95_s, found.simulated.p95_s),
            ("p99 s", found.real.p99_s, found.simulated.p99_s),
        )
    ]
    table((f"{found.images} images", "really", "simulated", "difference"), rows)
    write(json_file, {"plan": asdict(plan), "figures": asdict(found)})
