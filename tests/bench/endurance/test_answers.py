"""Which answers of a service that is restarted may be, and which may not."""

from __future__ import annotations

import pytest

from bench.endurance.answers import CameraAnswer, unexpected

API, OTHER, REDIS = "http://api", "http://other", "http://redis"
AWAY = {API: [(10.0, 12.0)], REDIS: [(20.0, 21.0)]}


def answer(began: float, status: int | None, *, retry_after: bool = False, address: str = API) -> CameraAnswer:
    return CameraAnswer(address, began, began + 0.5, status, retry_after)


@pytest.mark.parametrize(
    "one",
    [
        answer(1, 202),
        answer(1, 200),
        answer(9.7, None),  # begun before, cut while the API was away
        answer(11.9, None),
        answer(20.5, 503, retry_after=True),
    ],
)
def test_an_absence_explains(one: CameraAnswer) -> None:
    assert unexpected([one], AWAY, REDIS) == []


@pytest.mark.parametrize(
    "one",
    [
        answer(13, None),
        answer(11, None, address=OTHER),
        answer(20.5, None),
        answer(20.5, 503),  # without Retry-After
        answer(11, 503, retry_after=True),  # Redis was there
        answer(20.5, 500),
        answer(1, 429, retry_after=True),
        answer(1, 404),
    ],
)
def test_nothing_explains(one: CameraAnswer) -> None:
    assert unexpected([answer(1, 200), one], AWAY, REDIS) == [one]
