"""Several images in one call: each has its own outcome, and the call may be repeated."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import redis

from service.contract import Job
from service.queue import keys
from service.queue.jobs import JobQueue
from tests.service.conftest import Running, StartApp
from tests.support.line import picture, result_of
from tests.support.redis_server import RedisServer

URL = "/v1/products/toy/inspections:batch"
SEVERAL = [picture(), picture(40, 20), picture(colour="red")]


async def post(api: Running, images: list[bytes], key: str | None = None, **fields: Any) -> httpx.Response:
    """One batch."""
    files = [("image", (f"{number}.png", image, "image/png")) for number, image in enumerate(images)]
    headers = {} if key is None else {"Idempotency-Key": key}
    return await api.http.post(URL, files=files, data=fields, headers=headers)


async def test_each_image_is_an_inspection_with_the_common_fields_and_its_own(
    api: Running, client: redis.Redis
) -> None:
    items = [{"view": "top"}, {"view": "side", "lot": "L-9", "deadline_ms": 500}, {"metadata": {"shift": 2}}]
    answer = await post(api, SEVERAL, serial="SN-1", lot="L-1", items=json.dumps(items))
    assert answer.status_code == 202, answer.text
    found = answer.json()["items"]
    assert [(one["index"], one["status"], one["problem"]) for one in found] == [(n, 202, None) for n in range(3)]
    shown = [one["inspection"] for one in found]
    assert [(one["serial"], one["lot"], one["view"], one["deadline_ms"], one["metadata"]) for one in shown] == [
        ("SN-1", "L-1", "top", None, None),
        ("SN-1", "L-9", "side", 500, None),
        ("SN-1", "L-1", None, None, {"shift": 2}),
    ]
    assert [one["width"] for one in shown] == [30, 40, 30]
    claimed = JobQueue(client).claim(3)
    assert [one.id for one in claimed] == [one["id"] for one in shown]  # in the order of the form
    assert api.services.artifacts.get(claimed[2].job.image_ref) == SEVERAL[2]


async def test_a_bad_image_is_refused_alone(api: Running) -> None:
    answer = await post(
        api, [SEVERAL[0], b"", b"%PDF-1.7", SEVERAL[1], SEVERAL[2]], items='[{},{},{},{},{"vieuw":"x"}]'
    )
    assert answer.status_code == 202
    found = answer.json()["items"]
    assert [one["status"] for one in found] == [202, 400, 415, 202, 422]
    problem = found[1]["problem"]
    assert (problem["type"], problem["status"], problem["instance"]) == ("urn:glad:problem:empty-image", 400, URL)
    assert found[4]["problem"]["errors"][0]["field"] == "vieuw"
    assert len(api.stored()) == 2
    assert (await api.services.jobs.estimate()).backlog == 2


async def test_a_repeated_batch_gives_the_same_inspections(api: Running, client: redis.Redis) -> None:
    first = (await post(api, SEVERAL, key="k")).json()["items"]
    queue = JobQueue(client)
    [claimed] = queue.claim(1)
    queue.complete(claimed, result_of(claimed))
    second = (await post(api, SEVERAL, key="k")).json()["items"]
    assert [one["inspection"]["id"] for one in second] == [one["inspection"]["id"] for one in first]
    assert [one["status"] for one in second] == [200, 202, 202]
    swapped = (await post(api, SEVERAL[::-1], key="k")).json()["items"]
    assert [one["status"] for one in swapped] == [409, 202, 409]
    assert len(api.stored()) == 3


async def test_an_items_own_key_is_the_key_of_a_single_submission(api: Running) -> None:
    alone = await api.http.post(URL.removesuffix(":batch"), content=SEVERAL[0], headers={"Idempotency-Key": "part-1"})
    items = json.dumps([{"idempotency_key": "part-1"}, {"idempotency_key": "no blanks"}, {}])
    found = (await post(api, SEVERAL, key="k", items=items)).json()["items"]
    assert found[0]["inspection"]["id"] == alone.json()["id"]
    assert [one["status"] for one in found] == [202, 422, 202]


@pytest.mark.parametrize(
    ("items", "reason"),
    [("[{}, {}]", "2 entries for 3 images"), ("{}", "array"), ("[1, 2, 3]", "object"), ("[{}, {}, {}", "JSON")],
)
async def test_items_that_fit_no_images_refuse_the_whole_call(api: Running, items: str, reason: str) -> None:
    answer = await post(api, SEVERAL, items=items)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "items")
    assert reason in answer.json()["detail"]
    assert api.stored() == []


async def test_a_batch_has_one_to_thirty_two_images(api: Running) -> None:
    assert (await post(api, [picture()] * 32)).status_code == 202
    assert (await post(api, [picture()] * 33)).status_code == 422
    assert (await api.http.post(URL, files={"serial": (None, "SN-1")})).status_code == 422
    assert (await api.http.post(URL, content=picture())).status_code == 400  # no form
    unknown = await api.http.post(URL.replace("toy", "toi"), files={"image": picture()})
    assert (unknown.status_code, unknown.json()["type"]) == (404, "urn:glad:problem:unknown-product")


async def test_a_full_queue_takes_what_fits(
    start_app: StartApp, client: redis.Redis, shared_redis: RedisServer
) -> None:
    api: Running = await start_app(shared_redis.url, max_backlog=2)
    found = (await post(api, SEVERAL)).json()["items"]
    assert [one["status"] for one in found] == [202, 202, 429]
    text: Any = client.hget(keys.inspection(found[0]["inspection"]["id"]), "job")
    assert Job.model_validate_json(text).product == "toy"


async def test_a_redis_that_refuses_writes_refuses_every_image(own_redis: RedisServer, start_app: StartApp) -> None:
    api: Running = await start_app(own_redis.url)
    with own_redis.connect() as client:
        client.config_set("maxmemory", "1")
        found = (await post(api, SEVERAL)).json()["items"]
    assert [one["problem"]["type"] for one in found] == ["urn:glad:problem:queue-unavailable"] * 3
    assert api.stored() == []
