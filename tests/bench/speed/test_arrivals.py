"""`glad bench arrivals`: images at random times, each counted from when it was due, beside an M/D/1 queue."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench import cli
from bench.speed.arrivals import SIMULATED, md1_latency, md1_waits
from tests.support.tiny_bundle import make_tiny_bundle


@pytest.mark.parametrize("load", [0.2, 0.5, 0.8])
def test_the_queue_waits_as_pollaczek_and_khinchin_say(load: float) -> None:
    waits = md1_waits(load, 0.1)
    assert len(waits) == SIMULATED
    assert waits.mean() == pytest.approx(load * 0.1 / (2 * (1 - load)), rel=0.04)
    assert (waits == 0).mean() == pytest.approx(1 - load, abs=0.01)


def test_an_image_takes_its_own_time_and_the_wait() -> None:
    found = md1_latency(0.2, 0.1, 0.25)
    assert found.p50 == 250.0
    assert found.p99 > found.p95 > found.p50


@pytest.mark.timeout(600)
def test_a_service_is_offered_loads_with_each_number_of_lanes(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"DEVICE": "cpu", "TORCH_THREADS": "1", "REDIS_URL": "redis://127.0.0.1:1/0"}.items():
        monkeypatch.setenv(f"GLAD_{name}", value)
    for name, few in {"ALONE": 4, "AT_ONCE": 8, "WARM_IMAGES": 2}.items():
        monkeypatch.setattr(f"bench.speed.arrivals.{name}", few)
    bundle = make_tiny_bundle(tmp_path / "store", steps=4, t_min=100, trigger={"delta": 0.05})
    figures = tmp_path / "arrivals.json"
    words = ["arrivals", bundle, "--data", parts, "--loads", "0.3", "--lanes", "1,2", "--seconds", 3, "--json", figures]
    done = CliRunner().invoke(cli.app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    told = json.loads(figures.read_text())["figures"]["lanes"]
    assert [of["lanes"] for of in told] == [1, 2]
    for of in told:
        (offered,) = of["loads"]
        assert offered["refused"] == 0
        assert offered["images"] > 0
        assert offered["verdict"]["p50"] > offered["overhead"]["p50"] > 0
        assert offered["lanes_in_use"] >= 1
