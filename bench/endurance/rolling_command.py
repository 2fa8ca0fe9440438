"""`glad bench rolling`: the rolling run as a command."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.support.show import JsonFile, table, write

if TYPE_CHECKING:
    from bench.endurance.rolling_report import Report


def rolling(
    *,
    count: Annotated[int, typer.Option(min=1, help="Inspections, at least.")] = 2000,
    cameras: Annotated[int, typer.Option(min=1, help="Cameras that post at the same time.")] = 8,
    rounds: Annotated[int, typer.Option(min=1, help="How often each process is restarted.")] = 3,
    older: Annotated[
        str | None,
        typer.Option(help="A commit or tag: all begin on it, go to this checkout's version one by one, and back."),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Restart the compose file's processes one by one while cameras post: is anything lost, or anybody refused? From a
    checkout, with docker-compose (which needs no Docker here), redis-server and prometheus."""
    from bench.endurance.rolling import run
    from bench.endurance.rolling_report import OURS, Trial
    from bench.support.versions import check_out, name_of

    with tempfile.TemporaryDirectory(prefix="glad-rolling-") as scratch:
        folder = Path(scratch)
        try:
            tree = None if older is None else check_out(older, folder / "older")
            trial = Trial(count, cameras, rounds)
            if older is not None:
                trial = replace(trial, older=name_of(older), newer=name_of("HEAD"), rolled=OURS)
            report = run(trial, folder, lambda line: typer.echo(line, err=True), older=tree)
        except RuntimeError as error:
            typer.echo(f"glad bench rolling: {error}", err=True)
            raise typer.Exit(1) from error
    table(("what", "figure"), rows(report))
    write(json_file, {"trial": asdict(trial), "report": asdict(report), "sound": report.sound})
    if not report.sound:
        raise typer.Exit(1)


def rows(report: Report) -> Iterator[tuple[str, str]]:
    """The report for the eye."""
    yield "accepted, ended", f"{report.accepted}, {report.ended}"
    yield "lost, double, left in the queue", f"{report.lost}, {report.double}, {report.left_in_queue}"
    yield "without a verdict", str(report.without_verdict)
    yield "taken up again; taken for a dead worker's", f"{report.taken_up_again}; {report.suspects}"
    yield "by bundle", ", ".join(f"{count} x {name}" for name, count in sorted(report.bundles.items()))
    yield "by another bundle than was told at acceptance", str(report.repinned)
    yield "results that cannot be read at the end", str(report.unreadable)
    yield "events that a reader missed, read twice", f"{report.events_missed}, {report.events_twice}"
    yield "answers", ", ".join(f"{count} x {status}" for status, count in sorted(report.answers.items()))
    yield "answers that no absence explains", str(len(report.unexpected))
    yield "answers to who waited at an API that stopped", ", ".join(map(str, report.waited))
    for container in dict.fromkeys(roll.container for roll in report.rolls):
        rolls = [roll for roll in report.rolls if roll.container == container]
        stop_s, back_s = max(roll.stop_s for roll in rolls), max(roll.back_s for roll in rolls)
        statuses = {roll.status for roll in rolls}
        told = f"stopped in at most {stop_s:.1f} s (of {rolls[0].grace_s:g}), status {statuses}; back in {back_s:.1f} s"
        yield f"{container}, {len(rolls)} times", told
    yield "alerts", ", ".join(f"{name} ({count})" for name, count in report.alerts.items()) or "none"
    yield "fewest workers seen", str(report.fewest_workers_seen)
    yield "targets up at the end", f"{report.targets_up} of {report.targets}"
    yield "inspections per second", f"{report.ended / report.seconds:.1f} over {report.seconds:.0f} s"
