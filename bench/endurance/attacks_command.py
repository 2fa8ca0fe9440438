"""`glad bench attacks`: the command and its table."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.support.command_line import JsonFile, choose_some, print_table, write_figures
from model_store.cli.common import give_up

if TYPE_CHECKING:
    from bench.endurance.attacks import AttackReport


def attacks(
    *,
    only: Annotated[str | None, typer.Option(help="Some attacks, such as silent-uploads,hostile-images.")] = None,
    seconds: Annotated[float, typer.Option(min=1, help="So long goes each.")] = 20.0,
    json_file: JsonFile = None,
) -> None:
    """Misuse a service in all known ways: is a camera refused, does a probe fail, does the API outgrow its pod? Linux.

    Example: glad bench attacks --only silent-uploads,hostile-images
    """
    from bench.endurance.attack_kinds import ATTACKS
    from bench.endurance.attacks import AttackPlan, run_attacks
    from bench.support.servers import NotServed

    plan = AttackPlan(tuple(ATTACKS) if only is None else choose_some("--only", only, tuple(ATTACKS)), seconds)
    with tempfile.TemporaryDirectory(prefix="glad-attacks-") as folder:
        try:
            report = run_attacks(plan, Path(folder), lambda line: typer.echo(line, err=True))
        except (NotServed, ValueError) as error:
            give_up(error)
    header = ("attack", "images accepted", "refused", "slowest, s", "slowest result, s", "without a verdict")
    print_table((*header, "failed probes", "slowest, s", "API at most, MiB"), _attack_rows(report))
    typer.echo(f"The API's pod has {report.limit_mib:.0f} MiB.")
    write_figures(json_file, {"plan": asdict(plan), **asdict(report), "broken": report.broken_promises})
    if report.broken_promises:
        raise typer.Exit(1)


def _attack_rows(report: AttackReport) -> Iterator[tuple[str, ...]]:
    for one in report.outcomes:
        camera, probes = one.camera, one.probes.values()
        yield (
            one.what,
            str(camera.accepted),
            str(sum(camera.refused.values())),
            f"{camera.slowest_accept_s:.1f}",
            f"{camera.slowest_result_s:.1f}",
            str(camera.lost),
            f"{sum(probe.failed for probe in probes)} of {sum(probe.asked for probe in probes)}",
            f"{max(probe.slowest_s for probe in probes):.1f}",
            f"{one.peak_mib:.0f}",
        )
