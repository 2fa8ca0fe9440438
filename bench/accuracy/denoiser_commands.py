"""The commands `glad bench atp` and `glad bench lora`: small denoisers trained in several ways, on rendered parts."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.support.command_line import JsonFile, choose_some, print_table, write_figures
from model_store.cli.common import explained

if TYPE_CHECKING:
    from bench.accuracy.adapted_rows import AdaptationCost
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

    The ways differ by ATP's weight, its sign, the loss and the source of anomalies. A row that is done is not done
    again.

    Example: glad bench atp --out atp-study
    """
    from bench.accuracy.atp_rows import SHORT, atp_rows, begin_study, measure_rows
    from bench.accuracy.denoiser_table import compare_denoisers
    from bench.accuracy.twin_images import StudySize
    from training.interrupts import resumable
    from training.progress import named_bars

    with explained(ValueError), resumable(), named_bars() as show:
        known = {row.key: row for row in atp_rows(textures)}
        chosen = [known[key] for key in choose_some("--rows", rows or ",".join(known), tuple(known))]
        short, size = with_steps(SHORT, steps), StudySize()
        study = begin_study(out, size, short, show)
        readings = measure_rows(study, chosen, _numbers(seeds), typer.echo)
    found = compare_denoisers(readings, study.images)
    about = {"images": asdict(size), "nano_with": short, "rows": {row.title: row.changes for row in chosen}}
    _show(found, out / "table.md")
    write_figures(json_file, {**about, "measured": [asdict(row) for row in found]})


def lora(
    *,
    out: StudyFolder,
    ways: Annotated[str, typer.Option(help="Some of the ways, such as all,base,lora-16. Default: all of them.")] = "",
    seeds: Seeds = "1,2",
    steps: Annotated[int, typer.Option(min=1, help="Of each way, on the changed product.")] = 200,
    base_steps: Annotated[int | None, typer.Option(min=1, help="Of the base.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Steps of each way whose time is taken, in turns.")] = 12,
    json_file: JsonFile = None,
) -> None:
    """Make a bracket's small denoiser fit for brackets in other light: by LoRA, by all weights, anew, or not at all.

    A folder of `glad bench atp` has the base already. What is done is not done again.

    Example: glad bench lora --out atp-study
    """
    from bench.accuracy.adapted_rows import ADAPTATIONS, AdaptationStudy
    from bench.accuracy.atp_rows import SHORT, begin_study
    from bench.accuracy.denoiser_table import compare_denoisers
    from bench.accuracy.twin_images import StudySize
    from training.interrupts import resumable
    from training.progress import named_bars

    with explained(ValueError), resumable(), named_bars() as show:
        short, numbers = with_steps(SHORT, base_steps), _numbers(seeds)
        known = {way.key: way for way in ADAPTATIONS}
        chosen = [known[key] for key in choose_some("--ways", ways or ",".join(known), tuple(known))]
        base = begin_study(out, StudySize(), short, show)
        size = StudySize(seed=StudySize().seed + 1)
        changed = base.in_other_light(out / "other-light", size)
        study = AdaptationStudy(base, changed, steps, chosen)
        readings = study.measure(numbers, typer.echo)
        costs = study.costs(numbers[0], rounds)
    found = compare_denoisers(readings, changed.images)
    _show(found, out / "lora-table.md")
    print_table(
        ("", "trained weights", "kept for the changed product", "its bundle", "time of a step"),
        [(title, *_cost_cells(cost)) for title, cost in costs.items()],
    )
    content = {"images": asdict(size), "nano_with": short, "steps": steps, "measured": [asdict(row) for row in found]}
    write_figures(json_file, {**content, "costs": {title: asdict(cost) for title, cost in costs.items()}})


def with_steps(short: tuple[str, ...], steps: int | None) -> tuple[str, ...]:
    """Return changes of a recipe with other steps of the UNet; None: as they are."""
    return short if steps is None else (*short, f"unet.steps={steps}")


def _cost_cells(cost: AdaptationCost) -> tuple[str, ...]:
    ratio = "–" if cost.step_ratio is None else f"{cost.step_ratio:.2f}"
    sizes = (f"{size / 1e6:.2f} MB" for size in (cost.kept_bytes, cost.bundle_bytes))
    return (f"{cost.trained_weights:,}", *sizes, ratio)


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
