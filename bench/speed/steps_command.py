"""`glad bench steps`: the step times of a bundle on this machine, as a table and as the file that a plant runs on."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import structlog
import typer

from bench.speed.engine_commands import BundleFolder, Device
from bench.support.show import JsonFile, shown, table, write
from model_store.cli.common import explained

if TYPE_CHECKING:
    from bench.speed.step_table import StepTimes


def steps(
    bundle: BundleFolder,
    *,
    data: Annotated[Path, typer.Option(help="Images to inspect: labelled ones (test/), or any folder of images.")],
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
    """Seconds of every part of a worker's loop, by the number of lanes: what `glad bench plant` runs on."""
    import torch

    from bench.speed.step_table import Clock
    from bench.speed.step_times import StepsPlan, measure_steps
    from bench.support.images import some_images
    from model_store.engines.loading import choose_device
    from service.worker.main import default_lanes, torch_threads

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with explained(ValueError), shown("walks") as progress:
        place = choose_device(device)
        torch.set_num_threads(torch_threads(threads))
        if shared_machine and (place != "cpu" or torch.get_num_threads() > 1):
            raise ValueError("--shared-machine counts the time of one thread: add --device cpu --threads 1")
        clock = Clock.THREAD if shared_machine else Clock.WALL
        files = [path.read_bytes() for path in some_images(data, rounds)]
        plan = StepsPlan(place, lanes or default_lanes(place), engine, rounds, clock)
        found = measure_steps(bundle, files, plan, progress)
    show_steps(found)
    write(json_file, found.model_dump(mode="json"))


def show_steps(times: StepTimes) -> None:
    """Prints them."""
    per_image = {
        "encode": times.encode_s,
        "finish (decode, score)": times.finish_s,
        "codec: read and frame": times.decode_s,
        "codec: draw and store": times.draw_s,
        "load the bundle": times.load_s,
    }
    table(("part", "ms"), [(name, f"{seconds * 1e3:.1f}") for name, seconds in per_image.items()])
    typer.echo()
    rows = [
        (str(count + 1), f"{times.denoise_s[count] * 1e3:.1f}", f"{times.compare_s[count] * 1e3:.1f}")
        for count in range(times.lanes)
    ]
    table(("lanes", "step, ms", "comparing as well, ms more"), rows)
    typer.echo(
        f"{times.product}/{times.version} on {times.engine}, {times.threads} threads {times.device_name}".strip()
    )
