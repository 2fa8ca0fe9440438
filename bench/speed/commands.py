"""The commands of `glad bench` about speed: engines, serving, export, steps, fullsize."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import structlog
import typer

from bench.support.command_line import JsonFile, print_table, progress_shown, write_figures
from model_store.cli.common import BundleFolder, explained, numbers

if TYPE_CHECKING:
    from bench.speed.engines import EngineFigures
    from bench.speed.export import ExportFigures
    from bench.speed.serving import ServingRun
    from bench.speed.step_table import StepTimes
    from bench.support.device_cost import MemoryTaken


Engines = Annotated[str, typer.Option(help="As GLAD_ENGINE has them; the first is what the others are compared with.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...", envvar="GLAD_DEVICE")]


def engines(
    bundle: BundleFolder,
    *,
    engines: Engines = "torch,onnx",
    device: Device = "auto",
    data: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Images for the whole way: labelled ones (test/), or any folder of images.",
        ),
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="So many of them.")] = 8,
    rounds: Annotated[int, typer.Option(min=1, help="Each engine's turns; the figures are their medians.")] = 5,
    lanes: Annotated[int | None, typer.Option(min=1, help="As GLAD_LANES. Default: the worker's.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of a call. Default: torch's; a worker leaves a core.")] = (
        None
    ),
    json_file: JsonFile = None,
) -> None:
    """Measure images per second of each engine: every component, and with --data whole images; timed in turn.

    Example: glad bench engines bracket --engines torch,onnx --data my-product
    """
    import torch

    from bench.speed.engines import EnginePlan, measure_engines
    from bench.support.command_line import engine_names, some_images
    from model_store.engines.loading import choose_device
    from service.worker.main import default_lanes
    from training.progress import named_bars

    with explained(ValueError), named_bars() as show:
        place = choose_device(device)
        plan = EnginePlan(engine_names(engines), place, rounds, lanes or default_lanes(place))
        if threads is not None:
            torch.set_num_threads(threads)
        files = some_images(data, images) if data is not None else ()
        found = measure_engines(bundle, files, plan, show)
    _show_engines(found)
    write_figures(json_file, {**_setting(place), "lanes": plan.lanes, **asdict(found)})


def _show_engines(found: EngineFigures) -> None:
    loaded = [
        (one.wanted, one.engine, f"{one.load_s:.1f}", *_gigabytes(one.memory), "; ".join(one.passed_over))
        for one in found.engines
    ]
    print_table(("wanted", "runs on", "loaded in s", "torch's peak, GB", "device memory, GB", "passed over"), loaded)
    first, *others = [one.wanted for one in found.engines]
    rows = [
        (
            one.what,
            *(f"{one.images_per_s(name):.3g}" for name in (first, *others)),
            *(f"{one.ratio(name):.2f}" for name in others),
        )
        for one in found.timings
    ]
    per_s = (f"{name}, images/s" for name in (first, *others))
    typer.echo()
    print_table(("what", *per_s, *(f"{name} / {first}" for name in others)), rows)


def serving(
    bundle: BundleFolder,
    *,
    data: Annotated[
        Path,
        typer.Option(
            exists=True, file_okay=False, help="Images to inspect: labelled ones (test/), or any folder of images."
        ),
    ],
    engines: Engines = "torch,onnx",
    images: Annotated[int, typer.Option(min=1, help="So many, evenly spread over all that there are.")] = 200,
    rate: Annotated[
        float | None, typer.Option(min=0.01, help="Images per second that are posted. Default: all at once.")
    ] = None,
    passes: Annotated[int, typer.Option(min=1, help="Each engine's turns; with two, A, B, A, B.")] = 1,
    json_file: JsonFile = None,
) -> None:
    """Serve the same images by `glad serve` on one engine after another: images per second, and differences.

    GLAD_DEVICE, GLAD_LANES, GLAD_TORCH_THREADS, GLAD_CODEC_THREADS and GLAD_DECODE_BUFFER are passed on.

    Example: glad bench serving bracket --data my-product --images 50
    """
    import training.evaluation.tables  # noqa: F401 - what print_table needs is missed now, not after an hour
    from bench.speed.serving import AT_ONCE, NoVerdict, ServingPlan, measure_serving, throughput
    from bench.support.command_line import engine_names, some_images
    from bench.support.servers import NotServed, settings_passed
    from training.progress import named_bars

    with explained(ValueError, NotServed, NoVerdict), named_bars() as show:
        plan = ServingPlan(engine_names(engines), passes, rate or AT_ONCE)
        runs = measure_serving(bundle, some_images(data, images), plan, show)
    _show_runs(runs)
    speeds = {name: throughput(runs, name) for name in plan.engines}
    first = plan.engines[0]
    for name, speed in speeds.items():
        typer.echo(f"{name}: {speed:.3g} images/s, {speed / speeds[first]:.2f} x {first}")
    told = [{**asdict(run), "images_per_s": run.images_per_s} for run in runs]
    write_figures(json_file, {"settings": settings_passed(), "images_per_s": speeds, "runs": told})


def _show_runs(runs: Sequence[ServingRun]) -> None:
    rows = [
        (
            f"{run.wanted}, turn {run.turn}",
            run.engine,
            str(run.images),
            f"{run.images_per_s:.3g}",
            " / ".join(str(count) for count in run.verdicts.values()),
            str(run.difference.verdict_flips),
            f"{run.difference.largest_score_difference:.2g} ({run.difference.largest_of_fail:.2g} of fail)",
            f"{run.difference.mean_score_difference:.2g}",
            str(run.difference.differing_steps),
        )
        for run in runs
    ]
    compared = ("verdict flips", "largest score difference", "mean", "other denoising step")
    print_table(("run", "engine", "images", "images/s", "pass / review / fail", *compared), rows)
    typer.echo(f"differences are from {runs[0].wanted}, turn {runs[0].turn}")


def export(
    *,
    side: Annotated[list[int] | None, typer.Option(help="Of the model image in pixels; again for more.")] = None,
    precision: Annotated[str, typer.Option(help="Of the ONNX files: float32, float16, or both.")] = "float32",
    torch_dtype: Annotated[str, typer.Option(help="In which torch computes: float32, float16, bfloat16.")] = "float32",
    device: Device = "cpu",
    provider: Annotated[
        str, typer.Option(help="Of ONNX Runtime: cpu, cuda, tensorrt. Default: cpu; on a GPU cuda.")
    ] = "",
    batch: Annotated[str, typer.Option(help="Rows in a call, such as 1,2,4,8.")] = "1",
    rounds: Annotated[int, typer.Option(min=1, help="Each engine's turns; the figures are their medians.")] = 3,
    narrow: Annotated[
        bool, typer.Option(hidden=True, help="The same depth at a small width, to try the bench.")
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Export Stable Diffusion 1.5 and DINO ViT-B/8 with random weights: what the export costs, and both engines.

    Example: glad bench export --device cuda --torch-dtype bfloat16 --precision float32,float16 --batch 1,2,4,8
    """
    import torch

    from bench.speed.export import DTYPES, PRECISIONS, PROVIDERS, ExportPlan, measure_export
    from bench.speed.fullsize import FULL, NARROW, fullsize_settings, random_modules
    from bench.support.command_line import choose_one, choose_some
    from model_store.engines.loading import choose_device
    from training.export.onnx import ExportFailed

    with explained(ValueError, ExportFailed):
        place = choose_device(device)
        precisions = choose_some("--precision", precision, PRECISIONS)
        providers = choose_some("--provider", provider or torch.device(place).type, PROVIDERS)
        dtype = choose_one("--torch-dtype", torch_dtype, DTYPES)
        batches = numbers("--batch", batch, int) or (1,)
        plan = ExportPlan(precisions, dtype, place, providers, batches, rounds)
        width = NARROW if narrow else FULL
        found = [
            measure_export(random_modules(width), fullsize_settings(one), plan, say=typer.echo) for one in side or [512]
        ]
    for figures in found:
        show_export(figures)
    write_figures(json_file, {**_setting(place), "sides": [asdict(figures) for figures in found]})


def show_export(found: ExportFigures) -> None:
    """Print what an export cost and how both engines ran."""
    typer.echo(f"\n{found.side}²: the process's peak memory was {found.export_peak_gb:.1f} GB when all was exported\n")
    files = [(made.part, made.precision, f"{made.megabytes:.0f}", f"{made.seconds:.0f}") for made in found.files]
    print_table(("file", "precision", "MB", "seconds"), files)
    typer.echo()
    loaded = [
        (one.name, f"{one.load_s:.1f}", *_gigabytes(one.memory), f"{one.process_peak_gb:.1f}")
        for one in found.candidates
    ]
    print_table(("engine", "loaded in s", "torch's peak, GB", "device memory, GB", "process's peak so far, GB"), loaded)
    typer.echo()
    rows = [
        (
            f"{row.component}, {row.batch} at once",
            name,
            f"{rounds.median:.3g}",
            f"{row.images_per_s(name):.3g}",
            f"{row.ratio(name):.2f}",
            f"{row.errors[name]:.2g}" if name in row.errors else "",
        )
        for row in found.rows
        for name, rounds in row.rounds.items()
    ]
    print_table(("what", "engine", "seconds a call", "images/s", "x torch", "largest error / RMS"), rows)


def _gigabytes(memory: MemoryTaken | None) -> tuple[str, str]:
    return ("-", "-") if memory is None else (f"{memory.torch_peak_gb:.2f}", f"{memory.device_gb:.2f}")


def _setting(device: str) -> dict[str, Any]:
    """Return the device and threads that it was measured with."""
    import torch

    return {
        "device": device,
        "device_name": torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else "",
        "threads": torch.get_num_threads(),
    }


def steps(
    bundle: BundleFolder,
    *,
    data: Annotated[
        Path,
        typer.Option(
            exists=True, file_okay=False, help="Images to inspect: labelled ones (test/), or any folder of images."
        ),
    ],
    device: Device = "auto",
    engine: Annotated[str, typer.Option(help="As GLAD_ENGINE.")] = "auto",
    lanes: Annotated[int | None, typer.Option(min=1, help="As GLAD_LANES. Default: the worker's.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="As GLAD_TORCH_THREADS. Default: the worker's.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="The figures are their medians.")] = 5,
    shared_machine: Annotated[
        bool, typer.Option(help="Count the thread's time on its core, not the wall's: a CPU, one thread.")
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Time each part of a worker's loop, by the number of lanes. `glad bench queue` runs on the file.

    Example: glad bench steps bracket --data my-product --json steps.json
    """
    import torch

    from bench.speed.step_table import Clock
    from bench.speed.step_times import StepsPlan, measure_steps
    from bench.support.command_line import some_images
    from model_store.engines.loading import choose_device
    from service.worker.main import default_lanes, torch_threads

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with explained(ValueError), progress_shown("walks") as progress:
        place = choose_device(device)
        torch.set_num_threads(torch_threads(threads))
        if shared_machine and (place != "cpu" or torch.get_num_threads() > 1):
            raise ValueError("--shared-machine counts the time of one thread: add --device cpu --threads 1")
        clock = Clock.THREAD if shared_machine else Clock.WALL
        files = [path.read_bytes() for path in some_images(data, rounds)]
        plan = StepsPlan(place, lanes or default_lanes(place), engine, rounds, clock)
        found = measure_steps(bundle, files, plan, progress)
    show_steps(found)
    write_figures(json_file, found.model_dump(mode="json"))


def show_steps(times: StepTimes) -> None:
    """Print the step times."""
    per_image = {
        "encode": times.encode_s,
        "finish (decode, score)": times.finish_s,
        "codec: read and frame": times.decode_s,
        "codec: draw and store": times.draw_s,
        "load the bundle": times.load_s,
    }
    print_table(("part", "ms"), [(name, f"{seconds * 1e3:.1f}") for name, seconds in per_image.items()])
    typer.echo()
    rows = [
        (str(count + 1), f"{times.denoise_s[count] * 1e3:.1f}", f"{times.compare_s[count] * 1e3:.1f}")
        for count in range(times.lanes)
    ]
    print_table(("lanes", "step, ms", "comparing as well, ms more"), rows)
    typer.echo(
        f"{times.product}/{times.version} on {times.engine}, {times.threads} threads {times.device_name}".strip()
    )


def startup(
    *,
    against: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PYTHON",
            help="Also the interpreter of another version, such as ../before/.venv/bin/python; repeatable.",
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Starts of each version; the figures are their medians.")] = 3,
    product: Annotated[str, typer.Option(help="That every version ships.")] = "bracket",
    json_file: JsonFile = None,
) -> None:
    """Measure how soon `glad serve` judges its first image, and again after its worker was killed.

    Example: glad bench startup --rounds 1
    """
    import training.evaluation.tables  # noqa: F401 - what print_table needs is missed now, not after an hour
    from bench.speed.startup import Startup, measure_startups, sample_image, startup_figures
    from bench.support.servers import NotServed
    from training.progress import named_bars

    with explained(NotServed), named_bars() as show:
        pythons = [Path(sys.executable), *(path.absolute() for path in against or ())]
        figures = startup_figures(measure_startups(pythons, rounds, sample_image(), product, show))
    header = ("seconds", "glad --help", "API answers", "first verdict", "one image, warm", "verdict after a kill")
    medians = ((python, found["median"]) for python, found in figures.items())
    print_table(
        header,
        [(python, *(f"{of[name]:.2f}" for name in Startup.__dataclass_fields__)) for python, of in medians],
    )
    write_figures(json_file, figures)
