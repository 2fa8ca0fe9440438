"""The commands `glad bench atp` and `glad bench lora`: small denoisers trained in several ways, on rendered parts."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.support.command_line import JsonFile, choose_some, print_table, write_figures
from model_store.cli.common import explained

if TYPE_CHECKING:
    from bench.accuracy.denoiser_table import DenoiserRow

StudyFolder = Annotated[
    Path, typer.Option(file_okay=False, help="Images, networks and rows; the same folder goes on where it stopped.")
]
Seeds = Annotated[str, typer.Option(help="Of the UNets; the figures are means over them.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Of each UNet.")]


def atp(
    *,
    out: StudyFolder,
    rows: Annotated[str, typer.Option(help="Some of the rows, such as nano,minus. Default: all.")] = "",
    seeds: Seeds = "1,2",
    steps: Steps = None,
    textures: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="Pictures for MemSeg's anomalies, such as the DTD. Default: computed."
        ),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Train a small denoiser in ten ways on rendered brackets, and measure what each leaves of a defect.

    The ways differ by ATP's weight, its sign, the loss and the source of anomalies. One thread takes about two hours
    for two seeds; a row that is done is not done again.

    Example: glad bench atp --out atp-study
    """
    from bench.accuracy.atp_rows import SHORT, DenoiserStudy, atp_rows, measure_rows
    from bench.accuracy.denoiser_table import compare_denoisers
    from bench.accuracy.twin_images import StudySize
    from training.interrupts import resumable
    from training.progress import named_bars

    with explained(ValueError), resumable(), named_bars() as show:
        known = {row.key: row for row in atp_rows(textures)}
        chosen = [known[key] for key in choose_some("--rows", rows or ",".join(known), tuple(known))]
        short = SHORT if steps is None else (*SHORT, f"unet.steps={steps}")
        size = StudySize()
        study = DenoiserStudy(out, size, short, show)
        readings = measure_rows(study, chosen, _numbers(seeds), typer.echo)
    found = compare_denoisers(readings, study.images)
    about = {"images": asdict(size), "nano_with": short, "rows": {row.title: row.changes for row in chosen}}
    _show(found, out / "table.md")
    write_figures(json_file, {**about, "measured": [asdict(row) for row in found]})


def _numbers(seeds: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(int(word) for word in seeds.split(",")))
    except ValueError:
        raise ValueError(f"--seeds is {seeds!r}: give whole numbers, such as 1,2") from None


def _show(found: tuple[DenoiserRow, ...], file: Path) -> None:
    from bench.accuracy.denoiser_table import denoiser_table

    table = denoiser_table(found)
    print_table(table.header, table.rows)
    file.write_text(table.as_markdown() + "\n", encoding="utf-8")
