"""What a call leaves behind: the later rounds are told, per call; and the whole thing in small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench import cli
from bench.endurance.call_memory import CallBatch, memory_left

pytestmark = pytest.mark.timeout(600)  # real processes or trainings: slow where other work shares the machine


def test_the_first_rounds_do_not_count_and_a_call_that_keeps_something_is_found() -> None:
    rounds = [
        CallBatch(number, call, 100, "API", 60.0, 60.0 + grown)
        for number, warm in enumerate((5.0, 1.0, 0.0, 0.0))
        for call, grown in (("liveness", warm), ("leaky", warm + 0.5))
    ]
    told = {one.call: one for one in memory_left(rounds)}
    assert (told["liveness"].calls, told["liveness"].kib_each) == (200, 0.0)
    assert told["leaky"].kib_each == pytest.approx(0.5 * 1024 / 100)


def test_each_kind_of_call_is_made_and_told(tmp_path: Path) -> None:
    file = tmp_path / "calls.json"
    done = CliRunner().invoke(cli.app, ["calls", "--rounds", "2", "--calls", "20", "--quiet", "0", "--json", str(file)])
    assert done.exit_code == 0, done.output
    told = json.loads(file.read_text())["figures"]["left"]
    assert {one["process"] for one in told} == {"API", "worker"}
    assert len({one["call"] for one in told}) == 8
