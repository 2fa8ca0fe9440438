"""The commands of `glad bench` about an image's time: stages, where it goes; speed, beside what it finds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.speed.commands import Device
from bench.support.command_line import JsonFile, print_table, progress_shown, write_figures
from model_store.cli.common import BundleFolder, RequiredBundleFolders, explained

if TYPE_CHECKING:
    from bench.speed.stages import StageTimes
    from bench.support.open_loop import Latency

Plot = Annotated[Path | None, typer.Option(help="Where the plot goes, as PNG.", dir_okay=False)]


def stages(
    bundle: BundleFolder,
    *,
    data: Annotated[
        Path,
        typer.Option(
            exists=True, file_okay=False, help="Images to inspect: labelled ones (test/), or any folder of images."
        ),
    ],
    images: Annotated[int, typer.Option(min=1, help="So many, evenly spread over all that there are.")] = 40,
    device: Device = "auto",
    engine: Annotated[str, typer.Option(help="As GLAD_ENGINE.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="As GLAD_TORCH_THREADS. Default: the worker's.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Of each image; the figures are medians.")] = 3,
    plot: Plot = None,
    json_file: JsonFile = None,
) -> None:
    """Show where the time of an image goes: each stage of the worker, of images that pass and of those that don't.

    Example: glad bench stages bracket --data my-product --images 20
    """
    import logging

    import structlog
    import torch

    from bench.speed.stages import measure_stages, plot_stages
    from bench.support.command_line import some_images
    from model_store.engines.loading import choose_device
    from service.worker.main import torch_threads

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with explained(ValueError), progress_shown("images") as progress:
        place = choose_device(device)
        torch.set_num_threads(torch_threads(threads))
        files = [path.read_bytes() for path in some_images(data, images)]
        found = measure_stages(bundle, files, device=place, engine=engine, rounds=rounds, progress=progress)
    show_stages(found)
    if plot is not None:
        plot.parent.mkdir(parents=True, exist_ok=True)
        plot_stages(found).savefig(plot, dpi=120)
        typer.echo(f"plot: {plot}")
    write_figures(json_file, {**asdict(found), "median_ms": {name: ms for name, (_, ms) in found.groups.items()}})


def show_stages(times: StageTimes) -> None:
    """Print the median ms of each stage, by verdict."""
    from bench.speed.stages import CODEC_STAGES, STAGES

    groups = times.groups
    header = ("ms", *(f"{name}, {count} images" for name, (count, _) in groups.items()), "thread")
    rows = [
        (stage, *(f"{ms[stage]:.1f}" for _, ms in groups.values()), "codec" if stage in CODEC_STAGES else "device")
        for stage in STAGES
    ]
    for thread, chosen in (
        ("device", [stage for stage in STAGES if stage not in CODEC_STAGES]),
        ("codec", list(CODEC_STAGES)),
    ):
        sums = (sum(ms[stage] for stage in chosen) for _, ms in groups.values())
        rows.append((f"all of the {thread} thread", *(f"{one:.1f}" for one in sums), thread))
    print_table(header, rows)
    typer.echo(f"{times.product}/{times.version} on {times.engine}, {times.threads} threads, {times.device}")


def speed(
    *,
    data: Annotated[
        Path,
        typer.Option(exists=True, file_okay=False, help="One class: DIR/train/good, DIR/test/good, DIR/test/<defect>."),
    ],
    bundle: RequiredBundleFolders,
    engines: Annotated[str, typer.Option(help="As GLAD_ENGINE has them; what a bundle lacks is left out.")] = (
        "torch,onnx"
    ),
    yardstick: Annotated[
        bool,
        typer.Option("--yardstick/--no-yardstick", help="Also the yardsticks, which learn from train/good."),
    ] = True,
    threads: Annotated[int | None, typer.Option(min=1, help="Of a call. Default: torch's.")] = None,
    plot: Plot = None,
    json_file: JsonFile = None,
) -> None:
    """Measure images per second beside I-AUROC: bundles on each engine, the authors' steps, and the yardsticks.

    Example: glad bench speed --data my-product --bundle bracket
    """
    import torch

    from bench.speed.speed import SpeedPlan, measure_speed, plot_speed, row_figures, same_bundle_first
    from bench.support.command_line import engine_names
    from model_store.engines.loading import choose_device
    from training.data.dataset import test_images
    from training.progress import named_bars
    from training.yardstick.patch_memory import YARDSTICK

    if threads is not None:
        torch.set_num_threads(threads)
    with explained(ValueError), named_bars() as show:
        place = choose_device("auto")
        plan = SpeedPlan(tuple(bundle), engine_names(engines), YARDSTICK if yardstick else None, place)
        rows = measure_speed(data, test_images(data), plan, show)
    first = rows[0]
    shown = []
    for row in rows:
        flips = row.flips(same_bundle_first(rows, row))
        shown.append(
            (
                row.name,
                row.engine,
                f"{row.images_per_s:.3g}",
                f"{row.good_ms:.0f}",
                "-" if row.defective_ms is None else f"{row.defective_ms:.0f}",
                f"{row.images_per_s / first.images_per_s:.2f}",
                str(row.image_auroc),
                "-" if flips is None or row is same_bundle_first(rows, row) else str(flips),
            )
        )
    header = ("", "engine", "good images/s", "a good one, ms", "a defective one", f"x {first.name}", "I-AUROC")
    print_table((*header, "other verdicts than on the first engine"), shown)
    if plot is not None:
        plot.parent.mkdir(parents=True, exist_ok=True)
        plot_speed(rows, data.name).savefig(plot, dpi=120)
        typer.echo(f"plot: {plot}")
    write_figures(json_file, {"threads": torch.get_num_threads(), "rows": [row_figures(row) for row in rows]})


def arrivals(
    bundle: BundleFolder,
    *,
    data: Annotated[
        Path,
        typer.Option(
            exists=True, file_okay=False, help="Images to inspect: labelled ones (test/), or any folder of images."
        ),
    ],
    loads: Annotated[str, typer.Option(help="Shares of the rate that the service keeps.")] = "0.2,0.5,0.8,1,1.2",
    lanes: Annotated[str, typer.Option(help="A service with so many lanes each, as GLAD_LANES.")] = "1,4",
    seconds: Annotated[float, typer.Option(min=1, help="Of each load.")] = 30.0,
    images: Annotated[int, typer.Option(min=1, help="So many different ones, posted in turn.")] = 40,
    engine: Annotated[str, typer.Option(help="As GLAD_ENGINE.")] = "auto",
    json_file: JsonFile = None,
) -> None:
    """Offer images at random times to `glad serve`: time to the verdict by load, beside an M/D/1 queue's.

    Example: glad bench arrivals bracket --data my-product --seconds 10
    """
    import training.evaluation.tables  # noqa: F401 - what print_table needs is missed now, not after an hour
    from bench.speed.arrivals import ArrivalsPlan, measure_arrivals
    from bench.support.command_line import some_images
    from bench.support.servers import NotServed, settings_passed
    from model_store.cli.common import numbers
    from training.progress import named_bars

    with explained(ValueError, NotServed), named_bars() as show:
        shares, counts = numbers("--loads", loads, float), numbers("--lanes", lanes, int)
        plan = ArrivalsPlan(tuple(shares or ()), tuple(counts or ()), seconds, engine)
        files = [path.read_bytes() for path in some_images(data, images)]
        found = measure_arrivals(bundle, files, plan, show)
    for of in found:
        typer.echo(
            f"\n{of.lanes} lanes on {of.engine}: {of.kept_per_s:.1f} images/s when all come at once; one alone "
            f"{of.alone.p50:.0f} ms to its verdict, {of.alone_overhead.p50:.0f} of them not decoding, models or score"
        )
        header = (
            "load",
            "images/s",
            "answered/s",
            "refused",
            "p50, ms",
            "p95",
            "p99",
            "M/D/1 p95",
            "ratio",
            "lanes",
        )
        rows = [
            (
                f"{one.load:g}",
                f"{one.offered_per_s:.1f}",
                f"{one.answered_per_s:.1f}",
                str(one.refused),
                *(("-",) * 3 if one.verdict is None else (f"{ms:.0f}" for ms in _percentiles(one.verdict))),
                f"{one.expected.p95:.0f}",
                "-" if one.verdict is None else f"{one.verdict.p95 / one.expected.p95:.2f}",
                "-" if one.lanes_in_use is None else f"{one.lanes_in_use:.2f}",
            )
            for one in of.loads
        ]
        print_table(header, rows)
    write_figures(json_file, {"settings": settings_passed(), "lanes": [asdict(of) for of in found]})


def batching(
    bundle: BundleFolder,
    *,
    data: Annotated[
        Path,
        typer.Option(
            exists=True, file_okay=False, help="Images to inspect: labelled ones (test/), or any folder of images."
        ),
    ],
    loads: Annotated[
        str, typer.Option(help="Shares of the rate that continuous batching keeps.")
    ] = "0.2,0.5,0.8,1,1.2",
    lanes: Annotated[int, typer.Option(min=1, help="As GLAD_LANES; also the size of a static batch.")] = 4,
    arrivals: Annotated[int, typer.Option(min=1, help="Images that arrive under each load.")] = 300,
    wait_ms: Annotated[float, typer.Option(min=0, help="How long a dynamic batch that is not full waits.")] = 50.0,
    images: Annotated[int, typer.Option(min=1, help="So many different ones, in turn.")] = 40,
    device: Device = "auto",
    engine: Annotated[str, typer.Option(help="As GLAD_ENGINE.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="As GLAD_TORCH_THREADS. Default: the worker's.")] = None,
    plot: Plot = None,
    json_file: JsonFile = None,
) -> None:
    """Compare continuous, static and dynamic batching of a worker's device loop, images arriving at random.

    Example: glad bench batching bracket --data my-product
    """
    import logging

    import structlog
    import torch

    from bench.speed.batching import BatchingPlan, measure_batching, plot_batching
    from bench.support.command_line import some_images
    from model_store.cli.common import numbers
    from model_store.engines.loading import choose_device
    from service.worker.main import torch_threads
    from training.progress import named_bars

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with explained(ValueError), named_bars() as show:
        place = choose_device(device)
        torch.set_num_threads(torch_threads(threads))
        shares = numbers("--loads", loads, float) or ()
        plan = BatchingPlan(tuple(shares), lanes, arrivals, wait_ms / 1e3, place, engine)
        found = measure_batching(bundle, [path.read_bytes() for path in some_images(data, images)], plan, show)
    typer.echo(f"{found.engine}, {lanes} lanes: {found.kept_per_s:.1f} images/s when images always wait")
    rows = [
        (
            f"{row.load:g}",
            row.policy,
            f"{row.answered_per_s:.1f}",
            *(f"{ms:.0f}" for ms in _percentiles(row.verdict)),
            "-" if row.lanes_in_use is None else f"{row.lanes_in_use:.2f}",
        )
        for row in found.rows
    ]
    print_table(("load", "batching", "images/s", "p50, ms", "p95", "p99", "lanes in use"), rows)
    if plot is not None:
        plot.parent.mkdir(parents=True, exist_ok=True)
        plot_batching(found, bundle.name).savefig(plot, dpi=120)
        typer.echo(f"plot: {plot}")
    write_figures(json_file, {**asdict(found), "wait_ms": wait_ms, "threads": torch.get_num_threads()})


def products(
    bundle: BundleFolder,
    *,
    data: Annotated[
        Path,
        typer.Option(
            exists=True, file_okay=False, help="Images to inspect: labelled ones (test/), or any folder of images."
        ),
    ],
    counts: Annotated[str, typer.Option(help="So many products in one worker; the first is compared with.")] = "2,10",
    images: Annotated[int, typer.Option(min=1, help="So many different ones, in turn.")] = 10,
    device: Device = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="As GLAD_TORCH_THREADS. Default: the worker's.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Measure what a further product costs a worker: memory, loading, and images of several in turn.

    Example: glad bench products bracket --data my-product --counts 2,4
    """
    import torch

    from bench.speed.products import ProductsPlan, figures_json, measure_products, own_share
    from bench.support.command_line import some_images
    from model_store.cli.common import numbers
    from model_store.engines.loading import choose_device
    from service.worker.main import torch_threads
    from training.progress import named_bars

    with explained(ValueError), named_bars() as show:
        torch.set_num_threads(torch_threads(threads))
        plan = ProductsPlan(tuple(sorted(numbers("--counts", counts, int) or ())), choose_device(device))
        own_mib, found = measure_products(bundle, some_images(data, images), plan, show)
    header = ("products", "memory, MiB", "load, ms", "loads", "an image after its like, ms", "after another product")
    rows = [
        (
            str(one.products),
            f"{one.memory_mib:.0f}",
            f"{one.load_ms:.0f}",
            str(one.loads),
            f"{one.same_ms:.1f}",
            f"{one.turns_ms:.1f}",
        )
        for one in found
    ]
    print_table(header, rows)
    typer.echo(
        f"A product's own weights are {own_mib:.1f} MiB in float32. Beyond those of the further products, "
        f"{found[-1].products} take {own_share(found, own_mib):+.1%} of the memory of {found[0].products}."
    )
    write_figures(json_file, figures_json(own_mib, found))


def _percentiles(of: Latency) -> tuple[float, float, float]:
    return of.p50, of.p95, of.p99
