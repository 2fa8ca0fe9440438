"""The command `glad bench fullsize`: a device measured with networks of full size and random weights."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from bench.speed.commands import Device
from bench.support.command_line import JsonFile, print_table, write_figures
from model_store.cli.common import explained, numbers

if TYPE_CHECKING:
    from bench.speed.device_table import DeviceFigures


def fullsize(
    *,
    side: Annotated[
        list[int] | None, typer.Option(help="Side of the model image in pixels; again for more. Default: 512 and 256.")
    ] = None,
    device: Device = "auto",
    dtype: Annotated[str, typer.Option(help="float32, float16, bfloat16, or several.")] = "float32",
    batch: Annotated[str, typer.Option(help="Rows in a call, and images side by side, such as 1,4,16.")] = "1",
    minutes: Annotated[float, typer.Option(min=0.1, help="What does not fit into so many is left out, and named.")] = (
        10.0
    ),
    rounds: Annotated[int, typer.Option(min=1, help="The figures are their medians.")] = 3,
    invariance: Annotated[
        bool, typer.Option(help="Also, on the CPU: is a lane's result the same in every batch?")
    ] = False,
    narrow: Annotated[
        bool, typer.Option(hidden=True, help="The same depth at a small width, to try the bench.")
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Measure a device with networks of full size and random weights: ms and TFLOP/s of each part, images a second.

    Stable Diffusion 1.5 with DINO ViT-B/8; and the feature form on features as large as EfficientNet-B4's and
    DINOv2-B's.

    Example: glad bench fullsize --device cuda --dtype float16,bfloat16 --batch 1,4,16
    """
    from diffusers.utils import logging as diffusers_logging

    from bench.speed.device_table import DTYPES, DevicePlan, measure_device
    from bench.speed.fullsize import FULL, NARROW, measure_invariance, random_models
    from bench.speed.fullsize_features import dinov2_size, efficientnet_size
    from bench.support.command_line import choose_some
    from model_store.engines.loading import choose_device
    from training.progress import named_bars

    diffusers_logging.set_verbosity_error()  # a warning of each cast
    architecture, sides = NARROW if narrow else FULL, tuple(side or [512, 256])
    backbones = {
        "EfficientNet-B4's size": efficientnet_size(0.5, 0.5) if narrow else efficientnet_size(1.4, 1.8),
        "DINOv2-B's size": dinov2_size(32, 4) if narrow else dinov2_size(768, 12),
    }
    with explained(ValueError), named_bars() as show:
        dtypes = choose_some("--dtype", dtype, tuple(DTYPES))
        batches = tuple(numbers("--batch", batch, int) or (1,))
        place = choose_device(device)
        plan = DevicePlan(sides, batches, dtypes, place, architecture, backbones, minutes, rounds)
        found = measure_device(plan, show)
    show_device(found)
    varied = []
    if invariance:
        built = random_models(architecture)
        varied = [one for size in sides for one in measure_invariance(built, size)]
        cells = [(str(v.side), v.calls, str(v.calls_compared), f"{v.latents:.3g}", f"{v.scores:.3g}") for v in varied]
        print_table(("side", "call shapes", "batches", "latents differ by", "scores differ by"), cells)
    write_figures(json_file, {**asdict(found), "invariance": [asdict(one) for one in varied]})


def show_device(found: DeviceFigures) -> None:
    """Print what was measured, and what was not."""
    from bench.speed.device_table import share_of_peak

    for name, counted in found.parameters.items():
        millions = ", ".join(f"{part} {count / 1e6:.1f} M" for part, count in counted.items())
        typer.echo(f"{name}: {millions}")
    reached = ", ".join(f"{peak:.3g} in {dtype}" for dtype, peak in found.matrix_tflop_per_s.items())
    typer.echo(f"{found.device_name or found.device}: a matrix product reaches {reached} TFLOP/s\n")
    parts = [
        (
            f"{row.models}, {row.side}², {row.dtype}",
            f"{row.part} × {row.batch}",
            f"{row.ms:.3g}",
            f"{row.tflop:.3g}",
            f"{row.tflop / row.ms * 1e3:.3g}",
            f"{share_of_peak(row, found.matrix_tflop_per_s[row.dtype]):.0%}",
        )
        for row in found.parts
    ]
    print_table(("models", "part", "ms", "TFLOP", "TFLOP/s", "of the product's"), parts)
    typer.echo()
    whole = [
        (
            f"{row.models}, {row.side}², {row.dtype}",
            f"{row.images}, {row.way}",
            f"{row.p50_ms:.3g}",
            f"{row.images_per_s:.3g}",
            f"{row.peak_gb:.2f}",
        )
        for row in found.whole
    ]
    print_table(("models", "images at once", "p50, ms", "images/s", "peak memory, GB"), whole)
    for one in found.left_out:
        typer.echo(f"not measured: {one}")
