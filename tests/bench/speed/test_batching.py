"""`glad bench batching`: what each policy makes of the same arrivals, on a device whose calls take known times."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
from typer.testing import CliRunner

from bench import cli
from bench.speed.batching import Device, Line, run_continuous, run_static
from glad.image_codec import decode_image
from tests.support.tiny_bundle import make_tiny_bundle


@dataclass(eq=False)
class Clockwork:
    """A device: 1 s to start, 10 s a step whatever the lanes, 0.5 s to finish."""

    steps: Sequence[int]
    """That each image needs."""
    now: float = 0.0
    in_use: list[int] = field(default_factory=list)
    left: dict[int, int] = field(default_factory=dict)

    def start(self, number: int) -> bool:
        self.now += 1
        self.left[number] = self.steps[number]
        return self.left[number] > 0

    def step(self, numbers: Sequence[int]) -> list[int]:
        walking = [number for number in numbers if self.left[number]]
        if walking:
            self.now += 10
            self.in_use.append(len(walking))
        for number in walking:
            self.left[number] -= 1
        return [number for number in numbers if not self.left[number]]

    def finish(self, number: int) -> None:
        self.now += 0.5


def served(policy: str, steps: Sequence[int], due: Sequence[float], wait_s: float = 0.0) -> tuple[Clockwork, Line]:
    device, line = Clockwork(steps), Line(due)
    if policy == "continuous":
        run_continuous(cast(Device, device), line, 2)
    else:
        run_static(cast(Device, device), line, 2, wait_s)
    return device, line


def test_continuous_batching_ends_each_image_by_itself_and_gives_its_lane_on() -> None:
    """Image 1 is clear, 0 needs a step, 2 two: 2 takes the lane that 1 leaves before 0 has made its step."""
    device, line = served("continuous", (1, 0, 2), (0, 0, 0))
    assert line.ended == {1: 2.5, 0: 14.0, 2: 24.5}
    assert device.in_use == [2, 1]


def test_a_static_batch_ends_with_its_slowest_image() -> None:
    device, line = served("static", (1, 0, 2), (0, 0, 0))
    assert line.ended == {0: 13.0, 1: 13.0, 2: 34.5}
    assert device.in_use == [1, 1, 1]


def test_a_static_batch_waits_for_nobody_and_a_dynamic_one_a_little() -> None:
    assert served("static", (0, 0), (0, 1.2))[1].ended == {0: 1.5, 1: 3.0}
    assert served("dynamic", (0, 0), (0, 1.2), wait_s=2)[1].ended == pytest.approx({0: 4.2, 1: 4.2})
    assert served("dynamic", (0, 0), (0, 9.0), wait_s=2)[1].ended == pytest.approx({0: 3.5, 1: 12.5})


@pytest.mark.parametrize("policy", ["continuous", "static"])
def test_the_clock_jumps_over_the_time_in_which_nothing_waits(policy: str) -> None:
    assert served(policy, (0, 0), (5, 100))[1].ended == {0: 6.5, 1: 101.5}


def test_the_command_compares_the_policies_on_a_bundle(tmp_path: Path, parts: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "store", steps=4, t_min=100, trigger={"delta": 0.05})
    figures, plot = tmp_path / "batching.json", tmp_path / "batching.png"
    words = ["batching", bundle, "--data", parts, "--device", "cpu", "--images", 3, "--arrivals", 6, "--lanes", 2]
    words += ["--loads", "0.5,2", "--engine", "torch", "--json", figures, "--plot", plot]
    done = CliRunner().invoke(cli.app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    rows = json.loads(figures.read_text())["figures"]["rows"]
    assert [(row["load"], row["policy"]) for row in rows] == [
        (load, policy) for load in (0.5, 2.0) for policy in ("continuous", "static", "dynamic")
    ]
    assert all(0 < row["verdict"]["p50"] <= row["verdict"]["p99"] for row in rows)
    assert all(1 <= row["lanes_in_use"] <= 2 for row in rows)
    assert decode_image(plot.read_bytes()).pixels.shape[1] > 500
