"""The load's client hides no queue, the ladder finds the rate that a target takes, and the command tells both."""

from __future__ import annotations

import asyncio
import json
import random
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench import cli
from bench.endurance.load_ladder import Step, highest, next_rate, step_of
from bench.support.open_loop import Arrival, Latency, TargetAnswer, drive

pytestmark = pytest.mark.timeout(600)  # real processes or trainings: slow where other work shares the machine

YES = TargetAnswer(accepted=True)


def passed(rate: float) -> Step:
    return Step(rate, 10, 10, 0, 0, Latency(1, 1, 1, 1), None, {})


def missed(rate: float) -> Step:
    return Step(rate, 10, 10, 0, 0, Latency(1, 1, 900, 900), None, {})


async def test_an_answer_that_takes_long_delays_no_later_arrival() -> None:
    begun, all_there = [], asyncio.Event()

    async def send(number: int) -> TargetAnswer:
        begun.append(number)
        if len(begun) == 5:
            all_there.set()
        await all_there.wait()  # the first four are answered only once the fifth has come
        return YES

    shots = await asyncio.wait_for(drive(send, rate=1000, seconds=0.05, rng=random.Random(1)), 30)
    assert len(shots) >= 5
    assert [one.answer for one in shots] == [YES] * len(shots)


async def test_arrivals_repeat_by_seed_and_count_as_due_however_late_they_are_sent() -> None:
    async def send(number: int) -> TargetAnswer:
        return YES

    first, second = [await drive(send, rate=500, seconds=0.2, rng=random.Random(7)) for _ in range(2)]
    gaps = [[b.due - a.due for a, b in pairwise(shots)] for shots in (first, second)]
    assert gaps[0] == pytest.approx(gaps[1], abs=1e-5)
    assert all(one.due <= one.sent + 1e-3 <= one.answered + 2e-3 for one in first)
    assert Arrival(due=1.0, sent=1.5, answered=1.75, answer=YES).latency_s == 0.75


async def test_a_failed_connection_is_counted_and_ends_nothing() -> None:
    async def send(number: int) -> TargetAnswer:
        if number == 0:
            raise ConnectionError
        return TargetAnswer(accepted=number > 1, refused=number == 1)

    step = step_of(100, await drive(send, rate=200, seconds=0.2, rng=random.Random(3)), {})
    assert (step.failed, step.refused, step.accepted) == (1, 1, step.offered - 2)
    assert not step.passes(1e9)


def test_the_ladder_rises_by_half_and_then_halves_the_gap_twice() -> None:
    tried: list[Step] = []
    while (rate := next_rate(tried, 250)) is not None:
        tried.append(passed(rate) if rate <= 45 else missed(rate))
    assert [step.rate for step in tried] == [16, 24, 36, 54, 45, 50]
    assert highest(tried, 250) == 45


def test_a_target_that_takes_nothing_is_told_as_nothing() -> None:
    tried: list[Step] = []
    while (rate := next_rate(tried, 250)) is not None:
        tried.append(missed(rate))
    assert [step.rate for step in tried] == [16, 8, 4]
    assert highest(tried, 250) == 0


def test_the_command_tells_ceilings_and_verdicts(tmp_path: Path) -> None:
    file = tmp_path / "load.json"
    words = ["load", "--rounds", "1", "--step", "0.5", "--p99", "1", "--rates", "2", "--seconds", "1.5"]
    done = CliRunner().invoke(cli.app, [*words, "--json", str(file)])
    assert done.exit_code == 0, done.output
    figures = json.loads(file.read_text())["figures"]
    assert figures["taken_per_s"].keys() == {"service", "bare web server", "Redis, same writes", "disk, same files"}
    for rounds in figures["ladders"].values():
        assert all(step["accepted"] == step["offered"] for steps in rounds for step in steps)
    (verdict,) = figures["verdicts"]
    assert verdict["ended"] == verdict["step"]["accepted"] == verdict["step"]["offered"]
    assert verdict["result"] is None or verdict["result"]["p50"] > verdict["step"]["accept"]["p50"]
