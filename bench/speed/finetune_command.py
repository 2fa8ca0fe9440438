"""The command `glad bench finetune`: what training at full size takes on this machine, with random weights."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from bench.support.command_line import JsonFile, print_table, write_figures
from model_store.cli.common import explained

if TYPE_CHECKING:
    from bench.speed.fullsize_training import TrainingFigures


def finetune(
    *,
    parts: Annotated[
        str, typer.Option(help="Of unet, lora, autoencoder, dino: two steps of each, and a resume. Default: all.")
    ] = "",
    throughput: Annotated[
        str,
        typer.Option(
            help="Of fp32, bf16, bf16-compiled: images/s of the UNet's training; or none. Default: all on a GPU, else "
            "none."
        ),
    ] = "",
    side: Annotated[int, typer.Option(min=64, help="Of the UNet's model image, px.")] = 512,
    small_side: Annotated[int, typer.Option(min=32, help="Of the autoencoder's and DINO's images, px.")] = 256,
    batch: Annotated[int, typer.Option(min=1, help="Of the throughput. The two steps have a batch of 1.")] = 4,
    minutes: Annotated[float, typer.Option(min=0.1, help="What does not fit into so many is left out, and named.")] = (
        10.0
    ),
    narrow: Annotated[
        bool, typer.Option(hidden=True, help="The same depth at a small width, to try the bench.")
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Measure what training published models takes here: Stable Diffusion 1.5 and DINO ViT-B/8 with random weights.

    Two steps of each part with gradient checkpointing, a checkpoint, and a resume that is compared bit for bit. On a
    GPU also images a second of the UNet's training. A part needs up to 18 GB of memory and 15 GB of disk.

    Example: glad bench finetune --json FILE
    """
    import torch

    from bench.speed.fullsize import FULL, NARROW
    from bench.speed.fullsize_training import PARTS, WAYS, TrainingPlan, measure_training
    from bench.support.command_line import choose_some
    from training.progress import named_bars

    default = ",".join(WAYS) if torch.cuda.is_available() else "none"
    with explained(ValueError), named_bars() as show:
        chosen = choose_some("--parts", parts or ",".join(PARTS), tuple(PARTS))
        asked = throughput or default
        ways = () if asked == "none" else choose_some("--throughput", asked, tuple(WAYS))
        architecture = NARROW if narrow else FULL
        plan = TrainingPlan(architecture, chosen, side, small_side, batch, ways, minutes)
        found = measure_training(plan, show)
    _show(found)
    write_figures(json_file, asdict(found))


def _show(found: TrainingFigures) -> None:
    typer.echo(f"{found.device}; two steps with a batch of 1, gradient checkpointing, AdamW, no moving average\n")
    rows = [
        (
            row.part,
            f"{row.trained / 1e6:.2f}",
            f"{row.step_s:.3g}, {row.resumed_step_s:.3g}",
            f"{row.peak_gb:.2f}",
            f"{row.checkpoint_gb:.2f}",
            "yes" if row.resumed_exactly else "NO",
        )
        for row in found.rows
    ]
    header = ("part", "trained, M weights", "first step, s; after the resume", "peak memory, GB", "checkpoint, GB")
    print_table((*header, "resumed exactly"), rows)
    if found.throughput:
        typer.echo()
        cells = [
            (
                f"{row.way}, {row.side}² × {row.batch}",
                f"{row.images_per_s:.3g}",
                f"{row.first_step_s:.3g}",
                f"{row.peak_gb:.2f}",
            )
            for row in found.throughput
        ]
        print_table(("UNet, all weights", "images/s", "first step, s", "peak memory, GB"), cells)
    for one in found.left_out:
        typer.echo(f"not measured: {one}")
