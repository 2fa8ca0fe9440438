"""Clocks that disagree: what came first is told by Redis's clock, whichever machine an image came to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import httpx
import pytest
import redis

from service.contract import Failure, State
from service.maintenance.retention import ArtifactLimits, Sweeper, Swept
from service.queue import keys
from service.queue.jobs import JobQueue
from service.storage.artifacts import ArtifactStore
from tests.support.line import picture, result_of
from tests.support.processes import eventually
from tests.support.redis_server import RedisServer
from tests.support.shifted_clock import LIBRARY, shifted, shifted_api

pytestmark = [
    pytest.mark.skipif(LIBRARY is None, reason="libfaketime (Debian: faketime) is missing"),
    pytest.mark.timeout(600),  # real processes: slow where other work shares the machine
]

PART = "/v1/parts/SN-1"
SKEW_S = 30
"""Far more than a busy machine takes between two calls of a test."""
WEEK_S = 7 * 86_400
Apis = Callable[[int], httpx.Client]
MakeQueue = Callable[..., JobQueue]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that all API processes share."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def apis(shared_redis: RedisServer, toy_store: Path, data: Path) -> Iterator[Apis]:
    """seconds ahead -> an API process with this clock; each is started once."""
    settings = {"GLAD_REDIS_URL": shared_redis.url, "GLAD_STORE": str(toy_store), "GLAD_DATA_DIR": str(data)}
    started: dict[int, httpx.Client] = {}
    with ExitStack() as stack:

        def start(seconds: int) -> httpx.Client:
            if seconds not in started:
                log = data / f"api{seconds:+d}.log"
                started[seconds] = stack.enter_context(shifted_api(seconds, settings, log))
            return started[seconds]

        yield start


def post(api: httpx.Client, to: str = "/v1/products/toy/inspections", **fields: Any) -> dict[str, Any]:
    """An accepted image of the part."""
    answer = api.post(to, content=picture(), params={"serial": "SN-1", "view": "top", **fields})
    assert answer.status_code == 202, answer.text
    accepted: dict[str, Any] = answer.json()
    return accepted


def end(queue: JobQueue, accepted: dict[str, Any], score: float) -> None:
    """The inspection ends with this score."""
    [claimed] = queue.claim(1)
    assert claimed.id == accepted["id"]
    assert queue.complete(claimed, result_of(claimed, score))


def redis_s(client: redis.Redis) -> float:
    """Redis's clock, in seconds since 1970."""
    seconds, micros = cast("Any", client.time())
    return float(seconds + micros / 1e6)


def moment_s(text: str) -> float:
    """A time of an answer, in seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(("first", "second"), [(SKEW_S, 0), (0, -SKEW_S)])
def test_a_part_whose_last_image_failed_does_not_pass_by_the_clock_of_another_machine(
    apis: Apis, client: redis.Redis, make_queue: MakeQueue, first: int, second: int
) -> None:
    queue = make_queue()
    end(queue, post(apis(first)), 0.1)
    last = post(apis(second))
    end(queue, last, 2.0)
    for api in (apis(first), apis(second)):
        part = api.get(PART).json()
        assert (part["verdict"], [one["inspection_id"] for one in part["views"]]) == ("fail", [last["id"]])


def test_a_view_that_the_station_expected_is_missed_by_a_machine_that_is_behind_too(
    apis: Apis, client: redis.Redis, make_queue: MakeQueue
) -> None:
    api, queue = apis(-SKEW_S), make_queue()
    api.put("/v1/stations/s1", json={"product": "toy", "expected_views": ["top", "bottom"]})
    end(queue, post(api, "/v1/stations/s1/inspections"), 0.1)
    part = api.get(PART).json()
    assert part["verdict"] == "review"
    assert [one["view"] for one in part["views"] if one["reason"] == "missing"] == ["bottom"]


def test_a_view_that_the_station_no_longer_expected_is_not_missed_by_a_machine_that_is_behind(
    apis: Apis, client: redis.Redis, make_queue: MakeQueue
) -> None:
    api, queue = apis(-SKEW_S), make_queue()
    settings = {"product": "toy", "expected_views": ["top", "bottom"]}
    change: dict[Any, Any] = {"change": json.dumps({"at": "2026-11-23T08:15:30Z", "settings": settings})}
    client.xadd(keys.station("s1"), change, id=f"{round((redis_s(client) - 2 * SKEW_S) * 1000)}-0")
    api.put("/v1/stations/s1", json={"product": "toy", "expected_views": ["top"]})
    end(queue, post(api, "/v1/stations/s1/inspections"), 0.1)
    assert api.get(PART).json()["verdict"] == "pass"


@pytest.mark.parametrize("skew_s", [-8 * 86_400, 8 * 86_400])
def test_ids_and_times_of_acceptance_are_by_the_clock_of_redis(
    apis: Apis, client: redis.Redis, data: Path, skew_s: int
) -> None:
    began = redis_s(client)
    accepted = post(apis(skew_s))
    ended = redis_s(client)
    [stored] = [
        one
        for store in [ArtifactStore(data / "artifacts")]
        for day in store.days()
        for one in store.inspections(day)
        if one.inspection_id == accepted["id"]
    ]
    # Both are to the millisecond, rounded down.
    assert began - 0.001 <= stored.at_ms / 1000 <= moment_s(accepted["accepted_at"]) <= ended
    assert apis(skew_s).get(f"/v1/inspections/{accepted['id']}").json()["accepted_at"] == accepted["accepted_at"]


def test_a_replay_is_by_the_clock_of_redis_too(apis: Apis, client: redis.Redis, make_queue: MakeQueue) -> None:
    api, queue = apis(-8 * 86_400), make_queue()
    old = post(api)
    [claimed] = queue.claim(1)
    queue.fail(claimed, Failure(code="deadline_passed", detail="too late"), state=State.EXPIRED)
    began = redis_s(client)
    new = api.post(f"/v1/inspections/{old['id']}/replay").json()
    assert began - 0.001 <= (UUID(new["id"]).int >> 80) / 1000 <= moment_s(new["accepted_at"]) <= redis_s(client)


def test_the_first_sweep_leaves_what_a_machine_that_is_a_week_behind_accepted(
    apis: Apis, client: redis.Redis, make_queue: MakeQueue, data: Path
) -> None:
    accepted = post(apis(-8 * 86_400))
    end(make_queue(), accepted, 0.1)
    store = ArtifactStore(data / "artifacts")
    client.set(keys.BORN, 1)
    for _ in range(2):  # whatever other tests left there goes with the first
        client.delete(keys.SWEEPER)
        swept = Sweeper(client, store, ArtifactLimits(WEEK_S, young_s=0)).sweep()
    assert swept == Swept()
    assert apis(0).get(f"/v1/inspections/{accepted['id']}/image").status_code == 200


def test_a_changeover_is_told_by_the_clock_of_redis(apis: Apis, client: redis.Redis) -> None:
    began = redis_s(client)
    changed = apis(-SKEW_S).put("/v1/stations/s1", json={"product": "toy"}).json()
    assert began - 0.001 <= moment_s(changed["changed_at"]) <= redis_s(client)


@pytest.mark.parametrize(("skew_s", "word"), [(-3600, "behind"), (3600, "ahead of")])
def test_a_machine_whose_clock_is_off_is_degraded_and_says_by_how_much(
    apis: Apis, client: redis.Redis, make_queue: MakeQueue, skew_s: int, word: str
) -> None:
    clock = readiness(apis(skew_s), make_queue(), "degraded")["clock"]
    assert (clock["ok"], clock["required"]) == (False, False)
    assert word in clock["detail"]
    assert round(offset_of(apis(skew_s)) / 60) == skew_s / 60


def test_a_machine_whose_clock_is_right_is_ready(apis: Apis, client: redis.Redis, make_queue: MakeQueue) -> None:
    assert readiness(apis(0), make_queue(), "ready")["clock"]["ok"] is True
    assert abs(offset_of(apis(0))) < 1


def readiness(api: httpx.Client, worker: JobQueue, status: str) -> dict[str, Any]:
    """The checks of the API, with a worker that lives, once it has this status: a slow probe counts as failed."""
    answers: list[dict[str, Any]] = []

    def has_status() -> bool:
        worker.renew()
        answers.append(api.get("/health/ready").json())
        return bool(answers[-1]["status"] == status)

    eventually(has_status)
    checks: dict[str, Any] = answers[-1]["checks"]
    return checks


def offset_of(api: httpx.Client) -> float:
    """What the process's metrics say of its clock, once Redis has answered in time."""
    found: list[float] = []

    def is_told() -> bool:
        lines = api.get("/metrics").text.splitlines()
        found.extend(float(line.split()[1]) for line in lines if line.startswith("glad_clock_offset_seconds "))
        return bool(found)

    eventually(is_told)
    return found[-1]


WORKER = """
import sys
from service.contract import Failure, done_result
from service.queue.connection import connect
from service.queue.jobs import JobQueue
from tests.support.line import findings

queue = JobQueue(connect(sys.argv[1]))
good, bad = queue.claim(2)
queue.complete(good, done_result(good.job, findings(), **good.result_fields))
queue.fail(bad, Failure(code="image_undecodable", detail="its end is missing"))
"""


@pytest.mark.parametrize("skew_s", [-3600, 3600])
def test_a_result_is_never_older_than_its_image_whatever_the_workers_clock_says(
    apis: Apis, client: redis.Redis, shared_redis: RedisServer, skew_s: int
) -> None:
    accepted = [post(apis(0)) for _ in range(2)]
    command = [sys.executable, "-c", WORKER, shared_redis.url]
    subprocess.run(command, env=os.environ | shifted(skew_s), check=True, timeout=120)
    ended = redis_s(client)
    for one in accepted:
        shown = apis(0).get(f"/v1/inspections/{one['id']}").json()
        times = [moment_s(shown[name]) for name in ("accepted_at", "started_at", "finished_at")]
        assert times == sorted(times)
        # The reply to the claim took its time: what this machine adds to Redis's clock begins after it.
        assert times[-1] <= ended + 0.001
