"""The history's measurement, on a small one."""

from __future__ import annotations

from bench.endurance.history import measure_history


def test_every_call_is_timed_and_finds_what_there_is() -> None:
    found = measure_history(2000, 10, lambda done, total: None)
    assert found.results == 2000
    by_call = {one.call: one for one in found.latencies}
    assert by_call["the newest 50"].found == 50
    assert by_call["500 from anywhere"].found > 0
    assert by_call["one serial"].found == 2  # two views
    # product-0 has the numbers 0, 10, 20 ...; station-1 has 1, 21, 41 ...
    assert by_call["two filters that never meet"].found == 0
    assert all(0 < one.p50_ms <= one.p99_ms for one in found.latencies)
