"""Dead letters are listed; what ended without a verdict is replayed: once, as a new inspection of the same image."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
import redis
from typer.testing import CliRunner, Result

from service.cli.queue import app
from service.contract import Failure, Job, new_inspection_id
from service.queue import keys
from service.queue.jobs import JobQueue
from tests.service.conftest import Running
from tests.support.line import picture, result_of

POOL = keys.PoolKeys("default")
URL = "/v1/products/toy/inspections"
RunCli = Callable[..., Result]


@pytest.fixture
def glad_queue(api: Running, monkeypatch: pytest.MonkeyPatch) -> RunCli:
    """`glad queue ...` on the same Redis, store and artifacts."""
    monkeypatch.setenv("GLAD_REDIS_URL", str(api.settings.redis_url))
    monkeypatch.setenv("GLAD_STORE", str(api.settings.store))
    monkeypatch.setenv("GLAD_DATA_DIR", str(api.settings.data_dir))
    return lambda *words: CliRunner().invoke(app, list(words))


async def given_up(api: Running, client: redis.Redis, **params: Any) -> str:
    """An inspection that ended as a dead letter."""
    inspection_id: str = (await api.http.post(URL, content=picture(), params=params)).json()["id"]
    client.zadd(POOL.suspects, {inspection_id: 1})
    [claimed] = JobQueue(client).claim(1)
    client.hset(keys.inspection(inspection_id), "deaths", 2)
    client.zadd(POOL.leases, {inspection_id: 1})
    # No lease: one of any length would be granted anew to all while Redis is younger than it.
    assert JobQueue(client, lease_ms=0).reclaim().dead == (claimed.id,)
    return inspection_id


def job_of(client: redis.Redis, inspection_id: str) -> Job:
    """What the worker would get."""
    text: Any = client.hget(keys.inspection(inspection_id), "job")
    return Job.model_validate_json(text)


async def test_a_replay_is_a_new_inspection_of_the_same_image_without_the_old_deadline(
    api: Running, client: redis.Redis
) -> None:
    old = await given_up(api, client, serial="SN-1", deadline_ms=60_000, priority="high")
    answer = await api.http.post(f"/v1/inspections/{old}/replay", params={"by": "a.meier"})
    assert answer.status_code == 202
    new = answer.json()
    assert answer.headers["location"] == f"/v1/inspections/{new['id']}"
    assert (new["state"], new["replay_of"], new["serial"], new["priority"]) == ("queued", old, "SN-1", "high")
    assert (new["id"] != old, new["deadline_ms"]) == (True, None)
    assert (await api.http.get(new["artifacts"]["image"])).content == picture()
    assert client.xlen(POOL.dead) == 0

    [claimed] = JobQueue(client, lease_ms=60_000).claim(1)
    JobQueue(client).complete(claimed, result_of(claimed))
    shown = (await api.http.get(f"/v1/inspections/{new['id']}")).json()
    assert (shown["state"], shown["replay_of"], shown["replayed_by"]) == ("done", old, "a.meier")
    assert (await api.http.get(f"/v1/inspections/{old}")).json()["state"] == "failed"


async def test_a_replay_of_an_image_of_a_held_station_does_not_pass_either(api: Running, client: redis.Redis) -> None:
    await api.http.put("/v1/stations/line-3", json={"product": "toy", "hold": "lens is dirty"})
    old = await given_up(api, client, serial="SN-1", station="line-3")
    await api.http.delete("/v1/stations/line-3/hold")  # the image was taken through the dirty lens all the same
    new = (await api.http.post(f"/v1/inspections/{old}/replay")).json()
    [claimed] = JobQueue(client, lease_ms=60_000).claim(1)
    JobQueue(client).complete(claimed, result_of(claimed, 0.25))
    shown = (await api.http.get(f"/v1/inspections/{new['id']}")).json()
    assert (shown["verdict"], shown["review_reasons"], shown["hold"]) == ("review", ["station_held"], "lens is dirty")
    assert (await api.http.get("/v1/parts/SN-1")).json()["verdict"] == "review"


async def test_a_replay_asked_for_twice_is_one(api: Running, client: redis.Redis) -> None:
    old = await given_up(api, client)
    answers = [(await api.http.post(f"/v1/inspections/{old}/replay")).json()["id"] for _ in range(3)]
    assert len(set(answers)) == 1
    assert len(api.stored()) == 2
    assert len(JobQueue(client).claim(10)) == 1


async def test_an_expired_inspection_is_replayed_too_and_one_with_a_verdict_is_not(
    api: Running, client: redis.Redis
) -> None:
    queue = JobQueue(client)
    ids = [(await api.http.post(URL, content=picture())).json()["id"] for _ in range(2)]
    expired, done = queue.claim(2)
    queue.fail(expired, Failure(code="deadline_passed", detail="late"))
    queue.complete(done, result_of(done))
    assert (await api.http.post(f"/v1/inspections/{ids[0]}/replay")).status_code == 202
    refused = await api.http.post(f"/v1/inspections/{ids[1]}/replay")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:glad:problem:not-replayable")


async def test_what_still_runs_or_never_was_is_404(api: Running) -> None:
    waiting = (await api.http.post(URL, content=picture())).json()["id"]
    for name in (waiting, new_inspection_id(), "x"):
        assert (await api.http.post(f"/v1/inspections/{name}/replay")).status_code == 404


async def test_without_its_image_nothing_is_replayed_and_the_letter_stays(api: Running, client: redis.Redis) -> None:
    old = await given_up(api, client)
    api.services.artifacts.remove(job_of(client, old).image_ref)
    refused = await api.http.post(f"/v1/inspections/{old}/replay")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:glad:problem:not-replayable")
    assert "no longer kept" in refused.json()["detail"]
    assert client.xlen(POOL.dead) == 1


async def test_a_full_queue_takes_no_replay_and_the_letter_stays(api: Running, client: redis.Redis) -> None:
    old = await given_up(api, client)
    client.hset(POOL.pace, mapping={"busy_ms": 1e9, "completions": 1})
    assert (await api.http.post(URL, content=picture())).status_code == 202
    refused = await api.http.post(f"/v1/inspections/{old}/replay")
    assert refused.status_code == 429
    assert client.xlen(POOL.dead) == 1
    assert len(api.stored()) == 2


async def test_the_command_lists_and_replays(api: Running, client: redis.Redis, glad_queue: RunCli) -> None:
    old = await given_up(api, client, serial="SN-1")
    assert 'glad_redis_stream_length{stream="dead"} 1.0' in (await api.http.get("/metrics")).text
    listed = await asyncio.to_thread(glad_queue, "dead")
    assert listed.exit_code == 0, listed.output
    assert old in listed.stdout
    assert "3 workers died" in listed.stdout
    lines = (await asyncio.to_thread(glad_queue, "dead", "--json")).stdout.splitlines()
    [letter] = [json.loads(line) for line in lines]
    assert (letter["id"], letter["product"], letter["serial"]) == (old, "toy", "SN-1")

    done = await asyncio.to_thread(glad_queue, "replay", old)
    assert done.exit_code == 0, done.output
    shown = (await api.http.get(f"/v1/inspections/{done.stdout.strip()}")).json()
    assert (shown["state"], shown["replay_of"]) == ("queued", old)
    assert (await asyncio.to_thread(glad_queue, "dead")).stdout == ""


async def test_a_letter_that_was_seen_to_is_discarded_and_its_inspection_stays_failed(
    api: Running, client: redis.Redis, glad_queue: RunCli
) -> None:
    old, other = await given_up(api, client), await given_up(api, client)
    done = await asyncio.to_thread(glad_queue, "discard", old)
    assert (done.exit_code, done.stdout) == (0, f"{old} discarded\n")
    assert other in (await asyncio.to_thread(glad_queue, "dead")).stdout
    assert 'glad_redis_stream_length{stream="dead"} 1.0' in (await api.http.get("/metrics")).text
    assert (await api.http.get(f"/v1/inspections/{old}")).json()["state"] == "failed"
    again = await asyncio.to_thread(glad_queue, "discard", old)
    assert again.exit_code == 1
    assert "is not among the dead letters" in again.stderr


async def test_the_command_says_why_it_cannot(api: Running, client: redis.Redis, glad_queue: RunCli) -> None:
    unknown = await asyncio.to_thread(glad_queue, "replay", new_inspection_id())
    assert unknown.exit_code == 1
    assert "glad: no ended inspection" in unknown.stderr


async def test_a_letter_outlives_its_inspections_record(api: Running, client: redis.Redis) -> None:
    old = await given_up(api, client)
    client.delete(keys.inspection(old))
    assert (await api.http.post(f"/v1/inspections/{old}/replay")).status_code == 202


async def test_an_unreadable_letter_is_listed_but_not_replayed(
    api: Running, client: redis.Redis, glad_queue: RunCli
) -> None:
    inspection_id = (await api.http.post(URL, content=picture())).json()["id"]
    client.hset(keys.inspection(inspection_id), "job", "?")
    assert JobQueue(client).claim(1) == []
    listed = await asyncio.to_thread(glad_queue, "dead")
    assert f"{inspection_id}  (unreadable)" in listed.stdout
    refused = await asyncio.to_thread(glad_queue, "replay", inspection_id)
    assert "cannot be read by this version" in refused.stderr
