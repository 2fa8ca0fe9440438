"""`glad bench queue`: the queue model as a command, with a table and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.support.command_line import JsonFile, print_table, write_figures
from model_store.cli.common import explained, numbers

if TYPE_CHECKING:
    from bench.speed.queue_model import QueueFigures

WORKERS_TRIED = 5
"""From the least number by the mean device time upwards, where none is named."""


def queue(
    steps: Annotated[
        Path, typer.Argument(metavar="STEPS", exists=True, dir_okay=False, help="What `glad bench steps --json` wrote.")
    ],
    *,
    cameras: Annotated[str, typer.Option(help="Lines, each with one camera; several numbers, as 5,10,20.")] = "10",
    takt: Annotated[float, typer.Option(min=0.01, help="Seconds between two posts of a camera.")] = 10.0,
    workers: Annotated[str, typer.Option(help="Several numbers, as 4,5,6. Default: from the least number on.")] = "",
    lanes: Annotated[int | None, typer.Option(min=1, help="As GLAD_LANES. Default: all that were measured.")] = None,
    outcomes: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="What `glad evaluate --json` wrote: how often images compare. Default: as often as any.",
        ),
    ] = None,
    slower: Annotated[
        float, typer.Option(min=0.01, help="Step times that are so many times as long: a device that others use too.")
    ] = 1.0,
    defects: Annotated[float, typer.Option(min=0, max=1, help="Share of defective parts.")] = 0.02,
    bursts: Annotated[float, typer.Option(min=0, max=1, help="Share of the posts that are a burst.")] = 0.0,
    burst_size: Annotated[int, typer.Option(min=1, help="Images of a burst, posted at once.")] = 8,
    poisson: Annotated[bool, typer.Option(help="Posts at random moments, not by the takt.")] = False,
    max_backlog: Annotated[int | None, typer.Option(min=1, help="As GLAD_MAX_BACKLOG. Default: no limit.")] = None,
    max_wait_s: Annotated[float | None, typer.Option(min=0, help="As GLAD_MAX_WAIT_S. Default: no limit.")] = None,
    decode_buffer: Annotated[int, typer.Option(min=0, help="As GLAD_DECODE_BUFFER.")] = 2,
    codec_threads: Annotated[int, typer.Option(min=1, help="As GLAD_CODEC_THREADS.")] = 2,
    seconds: Annotated[float, typer.Option(min=1, help="How long cameras post in a run.")] = 900.0,
    warm_up: Annotated[float, typer.Option(min=0, help="Seconds at the start whose images do not count.")] = 60.0,
    runs: Annotated[int, typer.Option(min=1, help="Independent runs; the interval of the mean needs two.")] = 5,
    seed: Annotated[int, typer.Option(help="The same seed gives the same figures.")] = 0,
    picture: Annotated[Path | None, typer.Option(dir_okay=False, help="Where the curves go, as PNG.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Model the queue: time from post to verdict by the number of workers and cameras, on measured step times.

    Left out: bundle loads, the API, Redis, the network, priorities, deadlines, lost workers, images of several tiles.

    Example: glad bench queue steps.json --cameras 5,10 --takt 10
    """
    from bench.speed.queue_model import QueueScenario, simulate
    from bench.speed.step_table import ComparisonCounts, least_workers, mean_device_s, read_comparisons, read_steps

    with explained(ValueError):
        times = read_steps(steps).slowed(slower)
        settings = times.settings
        counts = ComparisonCounts.most(settings) if outcomes is None else read_comparisons(outcomes, settings)
        base = QueueScenario(
            cameras=1,
            takt_s=takt,
            workers=1,
            lanes=lanes or times.lanes,
            seconds=seconds,
            warm_up_s=warm_up,
            runs=runs,
            seed=seed,
            poisson=poisson,
            burst_share=bursts,
            burst_size=burst_size,
            defect_share=defects,
            decode_buffer=decode_buffer,
            codec_threads=codec_threads,
            max_backlog=max_backlog,
            max_wait_s=max_wait_s,
        )
        device_s = mean_device_s(times, counts, defects)
        rates = [replace(base, cameras=count) for count in numbers("--cameras", cameras, int) or ()]
        least = least_workers(rates[-1].images_per_s, device_s)
        tried = numbers("--workers", workers, int) or tuple(range(least, least + WORKERS_TRIED))
        found = [simulate(times, counts, replace(one, workers=count)) for one, count in product(rates, tried)]
    show_queue(found, device_s)
    if picture is not None:
        picture.write_bytes(queue_plot(found))
    arithmetic = {"mean_device_s": device_s, "least_workers": least_workers(rates[-1].images_per_s, device_s)}
    device = times.model_dump(mode="json", exclude={"settings"})
    write_figures(
        json_file, {"device": device, "slower": slower, **arithmetic, "figures": [asdict(one) for one in found]}
    )


def show_queue(found: Sequence[QueueFigures], device_s: float) -> None:
    """Print the arithmetic and the figures of every scenario."""
    from bench.speed.step_table import least_workers

    for rate in dict.fromkeys(one.scenario.images_per_s for one in found):
        least = least_workers(rate, device_s)
        typer.echo(
            f"{rate:.3g} images/s x {device_s:.3f} s = {rate * device_s:.2f} devices: least number of workers {least}"
        )
    typer.echo()
    rows = [
        (
            str(one.scenario.cameras),
            str(one.scenario.workers),
            f"{one.utilisation:.0%}",
            f"{one.mean_s:.2f} ± {one.mean_error_s:.2f}",
            *(f"{value:.2f}" for value in (one.p50_s, one.p95_s, one.p99_s)),
            f"{one.refused / max(1, one.posted):.2%}",
            str(one.in_flight),
        )
        for one in found
    ]
    header = ("cameras", "workers", "device use", "mean s", "p50 s", "p95 s", "p99 s", "refused", "not ended in time")
    print_table(header, rows)


def queue_plot(found: Sequence[QueueFigures]) -> bytes:
    """Return time to verdict against the number of workers, a line for each arrival rate, as PNG.

    Against the arrival rate, a line for each number of workers, where more rates than numbers were modelled.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    from training.html_page import as_png

    by_rate = len({one.scenario.cameras for one in found}) > len({one.scenario.workers for one in found})
    curves: dict[str, list[tuple[float, QueueFigures]]] = {}
    for one in found:
        rate, workers = one.scenario.images_per_s, one.scenario.workers
        label, place = (f"{workers} workers", rate) if by_rate else (f"{rate:.3g} images/s", workers)
        curves.setdefault(label, []).append((place, one))
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    for axis, name in zip(figure.subplots(1, 3, sharex=True, sharey=True), ("p50_s", "p95_s", "p99_s"), strict=True):
        for label, points in curves.items():
            axis.plot([at for at, _ in points], [getattr(one, name) for _, one in points], "o-", label=label)
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.grid(color="0.9", linewidth=0.5, which="both")
        axis.set_xlabel("images/s" if by_rate else "workers")
        axis.set_title(f"{name.removesuffix('_s')} of the time to verdict, s", fontsize=10)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=6, frameon=False)
    return as_png(figure)
