"""`glad bench reliability`: the long run as a command."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.support.show import JsonFile, table, write
from model_store.cli.common import give_up

if TYPE_CHECKING:
    from bench.endurance.reliability import Report


def reliability(
    *,
    count: Annotated[int, typer.Option(min=1, help="Inspections.")] = 10_000,
    cameras: Annotated[int, typer.Option(min=1, help="Cameras that post at the same time.")] = 8,
    workers: Annotated[int, typer.Option(min=1, help="Workers; one of them is always the next to be killed.")] = 2,
    kill_every: Annotated[float, typer.Option(min=0.5, help="Seconds between two kills of a worker.")] = 4.0,
    redis_kills: Annotated[int, typer.Option(min=0, help="How often Redis is killed, evenly over the run.")] = 2,
    json_file: JsonFile = None,
) -> None:
    """Kill workers and Redis while cameras post: does every accepted image end, once? Toy models, from a checkout."""
    from bench.endurance.reliability import Trial, run

    trial = Trial(count, cameras, workers, kill_every, redis_kills)
    with tempfile.TemporaryDirectory(prefix="glad-reliability-") as folder:
        try:
            report = run(trial, Path(folder), lambda line: typer.echo(line, err=True))
        except RuntimeError as error:
            give_up(error)
    table(("what", "figure"), _rows(report))
    write(json_file, {"trial": asdict(trial), "report": asdict(report)})
    if not report.sound:
        raise typer.Exit(1)


def _rows(report: Report) -> list[tuple[str, str]]:
    return [
        ("accepted", str(report.accepted)),
        ("ended", str(report.ended)),
        ("without a verdict", ", ".join(f"{count} {code}" for code, count in report.failures.items()) or "0"),
        ("lost", str(report.lost)),
        ("double", str(report.double)),
        ("left in the queue", str(report.left_in_queue)),
        ("taken up more than once", str(report.redelivered)),
        ("widest spread of one image's scores", f"{report.widest_score_spread:.1e}"),
        ("kills of workers, of Redis", f"{report.worker_kills}, {report.redis_kills}"),
        ("recovery from a killed worker", _times(report.worker_recovery_s)),
        ("recovery from a killed Redis", _times(report.redis_recovery_s)),
        ("inspections per second", f"{report.ended / report.seconds:.1f} over {report.seconds:.0f} s"),
    ]


def _times(seconds: Sequence[float]) -> str:
    if not seconds:
        return "none"
    return f"median {statistics.median(seconds):.1f} s, longest {max(seconds):.1f} s, of {len(seconds)}"
