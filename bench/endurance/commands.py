"""The commands of `glad bench` about endurance, from `reliability` to `hostile`."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.support.command_line import JsonFile, print_table, progress_shown, write_figures
from model_store.cli.common import give_up

if TYPE_CHECKING:
    from bench.endurance.load import LoadPlan, LoadReport
    from bench.endurance.reliability import ReliabilityReport
    from bench.endurance.rolling_report import RollingReport
    from bench.endurance.soak import SoakReport
    from bench.support.open_loop import Latency


def reliability(
    *,
    count: Annotated[int, typer.Option(min=1, help="Inspections.")] = 10_000,
    cameras: Annotated[int, typer.Option(min=1, help="Cameras that post at the same time.")] = 8,
    workers: Annotated[int, typer.Option(min=1, help="Workers; one of them is always the next to be killed.")] = 2,
    kill_every: Annotated[float, typer.Option(min=0.5, help="Seconds between two kills of a worker.")] = 4.0,
    redis_kills: Annotated[int, typer.Option(min=0, help="How often Redis is killed, evenly over the run.")] = 2,
    lease: Annotated[
        float, typer.Option(min=0.5, help="Seconds of silence after which a worker loses its images.")
    ] = 3.0,
    clock_skew: Annotated[int, typer.Option(min=0, help="Seconds by which a second API's clock is ahead.")] = 0,
    bad_stores: Annotated[
        bool, typer.Option("--bad-stores", help="Beside them three workers with an empty, a stale and an absent store.")
    ] = False,
    all_failures: Annotated[
        bool,
        typer.Option("--all-failures", help="In turns with kills: whatever else may happen to a process or store."),
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Kill workers and Redis while cameras post: does each accepted image end once? Toy models, from a checkout.

    Example: glad bench reliability --count 500 --json reliability.json
    """
    from bench.endurance.reliability import BAD_STORES, ReliabilityTrial, run_reliability
    from bench.endurance.trial_plant import DISTURBANCES

    trial = ReliabilityTrial(
        count,
        cameras,
        workers,
        kill_every,
        redis_kills,
        int(1000 * lease),
        clock_skew_s=clock_skew,
        bad_stores=BAD_STORES if bad_stores else (),
        disturbances=tuple(DISTURBANCES) if all_failures else (),
    )
    with tempfile.TemporaryDirectory(prefix="glad-reliability-") as folder:
        try:
            report = run_reliability(trial, Path(folder), lambda line: typer.echo(line, err=True))
        except RuntimeError as error:
            give_up(error)
    print_table(("what", "figure"), _reliability_rows(report))
    write_figures(json_file, {"trial": asdict(trial), "report": asdict(report)})
    if not report.sound:
        raise typer.Exit(1)


def _reliability_rows(report: ReliabilityReport) -> list[tuple[str, str]]:
    return [
        ("accepted", str(report.accepted)),
        ("ended", str(report.ended)),
        ("without a verdict", str(len(report.failures))),
        *((f"{one.id}: {one.code}", f"{one.deaths_alone} deaths alone; {one.message}") for one in report.failures),
        ("lost", str(report.lost)),
        ("double", str(report.double)),
        ("left in the queue", str(report.left_in_queue)),
        ("parts judged by an older image", str(report.by_older_image)),
        ("taken up more than once", str(report.redelivered)),
        ("widest spread of one image's scores", f"{report.widest_score_spread:.1e}"),
        ("kills of workers, of Redis", f"{report.worker_kills}, {report.redis_kills}"),
        *((name, str(count)) for name, count in report.disturbances.items()),
        ("recovery from a killed worker", _recovery(report.worker_recovery_s)),
        ("recovery from a killed Redis", _recovery(report.redis_recovery_s)),
        ("inspections per second", f"{report.ended / report.seconds:.1f} over {report.seconds:.0f} s"),
    ]


def _recovery(seconds: Sequence[float]) -> str:
    if not seconds:
        return "none"
    return f"median {statistics.median(seconds):.1f} s, longest {max(seconds):.1f} s, of {len(seconds)}"


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
    """Restart the compose file's processes one by one while cameras post: is anything lost or refused?

    Runs from a checkout, with docker-compose (which needs no Docker here), redis-server and prometheus.

    Example: glad bench rolling --rounds 1
    """
    from bench.endurance.checkout import check_out, name_of
    from bench.endurance.rolling import run_rolling
    from bench.endurance.rolling_report import OURS, RollingTrial

    with tempfile.TemporaryDirectory(prefix="glad-rolling-") as scratch:
        folder = Path(scratch)
        try:
            tree = None if older is None else check_out(older, folder / "older")
            trial = RollingTrial(count, cameras, rounds)
            if older is not None:
                trial = replace(trial, older=name_of(older), newer=name_of("HEAD"), rolled=OURS)
            report = run_rolling(trial, folder, lambda line: typer.echo(line, err=True), older=tree)
        except RuntimeError as error:
            typer.echo(f"glad bench rolling: {error}", err=True)
            raise typer.Exit(1) from error
    print_table(("what", "figure"), rolling_rows(report))
    write_figures(json_file, {"trial": asdict(trial), "report": asdict(report), "sound": report.sound})
    if not report.sound:
        raise typer.Exit(1)


def rolling_rows(report: RollingReport) -> Iterator[tuple[str, str]]:
    """Return the report as rows of a table."""
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


def soak(
    *,
    minutes: Annotated[float, typer.Option(min=0.2, help="How long images come; a quarter is warm-up.")] = 60,
    rate: Annotated[float, typer.Option(min=0.1, help="Images per second, of about 200 KB.")] = 1.0,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two samples.")] = 5.0,
    picture: Annotated[Path | None, typer.Option(dir_okay=False, help="Where the curves go, as PNG.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Work steadily for an hour: does memory or the number of open files grow? Toy models, from a checkout.

    Example: glad bench soak --minutes 10 --picture soak.png
    """
    from bench.endurance.soak import SoakPlan, run_soak, soak_figures
    from bench.support.servers import NotServed

    plan = SoakPlan(minutes=minutes, rate=rate, sample_every_s=every)
    with tempfile.TemporaryDirectory(prefix="glad-soak-") as folder:
        try:
            found = run_soak(plan, Path(folder), lambda line: typer.echo(line, err=True))
        except (RuntimeError, NotServed, ValueError) as error:
            typer.echo(f"glad bench soak: {error}", err=True)
            raise typer.Exit(1) from error
    header = ("process", "what", "first", "last", "highest", "slope per hour [95 %]", "allowed", "verdict")
    print_table(header, _soak_rows(found))
    typer.echo(
        f"{found.accepted} accepted in {found.seconds / 60:.1f} min, {found.lost} lost, "
        f"{found.told_twice} reported twice; "
        + ", ".join(f"{name} {count}" for name, count in sorted(found.counts.items()))
    )
    if picture is not None:
        from bench.endurance.soak import soak_plot

        picture.write_bytes(soak_plot(found, plan.warm_up * found.seconds))
    write_figures(json_file, soak_figures(plan, found))
    if not found.sound:
        raise typer.Exit(1)


def _soak_rows(found: SoakReport) -> list[tuple[str, ...]]:
    return [
        (
            one.process,
            one.what,
            f"{one.trend.first:.1f}",
            f"{one.trend.last:.1f}",
            f"{one.trend.highest:.1f}",
            f"{one.trend.slope:+.2f} [{one.trend.low:+.2f}, {one.trend.high:+.2f}]",
            f"{one.trend.bound:g}",
            one.trend.verdict.value,
        )
        for one in found.judged
    ]


def calls(
    *,
    rounds: Annotated[int, typer.Option(min=2, help="The later half is told.")] = 6,
    most: Annotated[int, typer.Option("--calls", min=20, help="Of the most frequent kind in a round.")] = 1000,
    quiet: Annotated[float, typer.Option(min=0, help="Seconds after each batch, before memory is read.")] = 1.5,
    json_file: JsonFile = None,
) -> None:
    """Find the call that leaves memory behind: thousands of each, on new connections. Toy models, from a checkout.

    Example: glad bench calls --rounds 4
    """
    from bench.endurance.call_memory import CallMemoryPlan, measure_call_memory, memory_left
    from bench.support.servers import NotServed

    with tempfile.TemporaryDirectory(prefix="glad-calls-") as folder:
        try:
            found = measure_call_memory(
                CallMemoryPlan(rounds, most, quiet), Path(folder), lambda line: typer.echo(line, err=True)
            )
        except (RuntimeError, NotServed, ValueError) as error:
            typer.echo(f"glad bench calls: {error}", err=True)
            raise typer.Exit(1) from error
    kept = memory_left(found)
    print_table(
        ("process", "call", "calls in the later half", "KiB kept by each"),
        [(one.process, one.call, f"{one.calls}", f"{one.kib_each:+.3f}") for one in kept],
    )
    write_figures(json_file, {"left": [asdict(one) for one in kept], "batches": [asdict(one) for one in found]})


def load(
    *,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of the service and its ceilings.")] = 2,
    step: Annotated[float, typer.Option(min=0.5, help="Seconds at each accept rate.")] = 6.0,
    p99: Annotated[float, typer.Option(min=1, help="A rate is taken if 99 of 100 are accepted in so many ms.")] = 250,
    rates: Annotated[str, typer.Option(help="Images per second with a worker.")] = "0.5,1,2,3,4",
    seconds: Annotated[float, typer.Option(min=1, help="Seconds at each of those.")] = 40.0,
    json_file: JsonFile = None,
) -> None:
    """Post images of about 200 KB in an open loop: accepted per second beside the ceilings; times to accept and result.

    Toy models, from a checkout.

    Example: glad bench load --json load.json
    """
    from bench.endurance.load import LoadPlan, run_load
    from bench.support.servers import NotServed

    plan = LoadPlan(rounds, step, p99, tuple(float(word) for word in rates.split(",")), seconds)
    with tempfile.TemporaryDirectory(prefix="glad-load-") as folder:
        try:
            found = run_load(plan, Path(folder), lambda line: typer.echo(line, err=True))
        except (RuntimeError, NotServed) as error:
            typer.echo(f"glad bench load: {error}", err=True)
            raise typer.Exit(1) from error
    print_table(("accepting", "taken per second, by round", "p50", "p95", "p99 ms", "cores"), _ladder_rows(plan, found))
    header = ("with a worker, per second", "accepted", "refused", "accept p50", "p95", "p99 ms", "ended")
    print_table((*header, "result p50", "p95", "p99 ms", "cores"), _verdict_rows(found))
    write_figures(json_file, load_figures(plan, found))


def _ladder_rows(plan: LoadPlan, found: LoadReport) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for target, rounds in found.ladders.items():
        taken = found.highest(target, plan.p99_ms)
        best = next((step for step in rounds[-1] if step.rate == taken[-1]), rounds[-1][0])
        rows.append((target, ", ".join(f"{one:g}" for one in taken), *_percentiles(best.accept), _cores(best.cpu)))
    return rows


def _verdict_rows(found: LoadReport) -> list[tuple[str, ...]]:
    return [
        (
            f"{one.step.rate:g}",
            f"{one.step.accepted} of {one.step.offered}",
            str(one.step.refused),
            *_percentiles(one.step.accept),
            str(one.ended),
            *_percentiles(one.result),
            _cores(one.step.cpu),
        )
        for one in found.verdicts
    ]


def _percentiles(found: Latency | None) -> tuple[str, str, str]:
    return ("", "", "") if found is None else (f"{found.p50:.0f}", f"{found.p95:.0f}", f"{found.p99:.0f}")


def _cores(cpu: dict[str, float]) -> str:
    return ", ".join(f"{name} {cores:.2f}" for name, cores in cpu.items())


def load_figures(plan: LoadPlan, found: LoadReport) -> dict[str, Any]:
    """Return the figures for JSON."""
    taken = {target: found.highest(target, plan.p99_ms) for target in found.ladders}
    return {"plan": asdict(plan), "image_bytes": found.image_bytes, "taken_per_s": taken, **asdict(found)}


def history(
    *,
    results: Annotated[int, typer.Option(min=1000, help="So many are kept; a million takes about 3 GB.")] = 1_000_000,
    repeats: Annotated[int, typer.Option(min=10, help="Calls of each kind.")] = 200,
    json_file: JsonFile = None,
) -> None:
    """Measure how fast the history answers and an inspection ends, with so many results kept, in a Redis of its own.

    Example: glad bench history --results 100000
    """
    from bench.endurance.history import measure_history

    with progress_shown("results") as progress:
        found = measure_history(results, repeats, progress)
    rows = [(one.call, f"{one.p50_ms:.1f}", f"{one.p99_ms:.1f}", str(one.found)) for one in found.latencies]
    print_table(("call", "p50 ms", "p99 ms", "found"), rows)
    typer.echo(
        f"{found.results} results in Redis {found.redis_version}: {found.redis_bytes / 1e9:.2f} GB; "
        f"filled at {found.filled_per_s:.0f} a second"
    )
    write_figures(json_file, asdict(found))


def memory(
    *,
    inspections: Annotated[int, typer.Option(min=100, help="So many are queued, and ended.")] = 10_000,
    json_file: JsonFile = None,
) -> None:
    """Measure Redis's memory of an inspection: while it waits, after its end, its event, a change of a station.

    Example: glad bench memory --inspections 1000
    """
    from bench.endurance.redis_memory import measure_redis_memory

    with progress_shown("ended") as progress:
        found = measure_redis_memory(inspections, progress)
    names = {
        "an accepted image until its end": found.queued_bytes,
        "an ended inspection, all together": found.ended_bytes,
        "of it, its event": found.event_bytes,
        "a station's change": found.change_bytes,
    }
    print_table(("what", "bytes"), [(name, f"{size:.0f}") for name, size in names.items()])
    write_figures(json_file, asdict(found))


def hostile(
    *,
    count: Annotated[int, typer.Option(min=1, help="Files.")] = 5000,
    seed: Annotated[int, typer.Option(help="The same seed makes the same files.")] = 1,
    json_file: JsonFile = None,
) -> None:
    """Decode thousands of hostile image files within the service's limits: what do they cost at worst? Linux.

    Example: glad bench hostile --count 1000
    """
    from bench.endurance.hostile_images import FORMAT_NAMES, measure_hostile_images
    from service.host.decoder_pool import DecodeLimits

    with progress_shown("decode") as progress:
        report = measure_hostile_images(count, seed, DecodeLimits(), progress)
    print_table(("format", "files", "longest, s", "most memory, MiB", "outcomes"), map(report.row, FORMAT_NAMES))
    worst = sorted(report.costs, key=lambda cost: cost.seconds)[-20:]
    figures = {kind: report.outcomes(kind) for kind in FORMAT_NAMES}
    write_figures(json_file, {"seed": seed, "outcomes": figures, "slowest": [asdict(cost) for cost in worst]})
