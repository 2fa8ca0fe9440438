"""`glad bench memory`: what an inspection takes of Redis's memory."""

from __future__ import annotations

from bench.endurance.redis_memory import measure_redis_memory


def test_an_ended_inspection_takes_more_than_its_result_and_its_event() -> None:
    found = measure_redis_memory(300, lambda done, total: None)
    assert found.ended_bytes > found.result_json_bytes + found.event_bytes
    assert found.queued_bytes > found.job_json_bytes
