"""Bad input: a clear problem with the right status, nothing kept, nothing queued, the next image unaffected."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import json
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import numpy as np
import pytest
import redis
from PIL import Image

from service.api.middleware.body_limits import MAX_JSON_BYTES
from service.contract import Priority
from service.queue import keys
from service.queue.jobs import JobQueue
from tests.service.conftest import Running, StartApp
from tests.support.line import picture, result_of
from tests.support.redis_server import RedisServer

URL = "/v1/products/toy/inspections"


def bomb(width: int = 20_000, height: int = 20_000) -> bytes:
    """A PNG of 400 million pixels in some kilobytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width // 8 + 1) * 64), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def form(*parts: tuple[str, bytes], end: bytes = b"\r\n--b--\r\n") -> dict[str, Any]:
    """A hand-made multipart request: (Content-Disposition, content) of each part."""
    body = b"".join(b"\r\n--b\r\nContent-Disposition: " + name.encode() + b"\r\n\r\n" + text for name, text in parts)
    return {"content": body[2:] + end, "headers": {"Content-Type": "multipart/form-data; boundary=b"}}


IMAGE = ('form-data; name="image"; filename="a.png"', picture())

BAD: dict[str, tuple[int, str, dict[str, Any]]] = {
    "no bytes": (400, "empty-image", {"content": b""}),
    "a text file": (415, "unknown-format", {"content": b"hello, this is no image"}),
    "a GIF": (415, "unknown-format", {"content": b"GIF89a" + bytes(50)}),
    "a pickle": (415, "unknown-format", {"content": b"\x80\x04\x95" + bytes(50)}),
    "gzipped": (415, "unknown-format", {"content": b"\x1f\x8b\x08" + bytes(50)}),
    "a truncated JPEG": (400, "undecodable-image", {"content": picture(200, 200, "JPEG")[:-300]}),
    "a truncated PNG": (400, "undecodable-image", {"content": picture(200, 200)[:-30]}),
    "a PNG signature alone": (400, "undecodable-image", {"content": picture()[:8]}),
    "a PNG with flipped bytes": (400, "undecodable-image", {"content": picture()[:40] + bytes(30) + picture()[70:]}),
    "a decompression bomb": (422, "too-many-pixels", {"content": bomb()}),
    "an unknown product": (404, "unknown-product", {"url": "/v1/products/toi/inspections", "content": picture()}),
    "a hostile product": (404, "unknown-product", {"url": "/v1/products/..%2e/inspections", "content": picture()}),
    "an unknown field": (422, "invalid-fields", {"params": {"seriel": "1"}, "content": picture()}),
    "a field twice": (422, "invalid-fields", {"url": URL + "?serial=1&serial=2", "content": picture()}),
    "a long serial": (422, "invalid-fields", {"params": {"serial": "x" * 129}, "content": picture()}),
    "a serial with a newline": (422, "invalid-fields", {"params": {"serial": "a\nb"}, "content": picture()}),
    "a local time": (422, "invalid-fields", {"params": {"captured_at": "2026-11-23T08:15:30"}, "content": picture()}),
    "a time in seconds": (422, "invalid-fields", {"params": {"captured_at": "1795421730"}, "content": picture()}),
    "a day without hyphens": (422, "invalid-fields", {"params": {"captured_at": "20261123"}, "content": picture()}),
    "a plus that a URL lost": (
        422,
        "invalid-fields",
        {"url": URL + "?captured_at=2026-11-23T08:15:30+01:00", "content": picture()},
    ),
    "year 0": (422, "invalid-fields", {"params": {"captured_at": "0001-01-01T00:00:00+23:00"}, "content": picture()}),
    "a strange priority": (422, "invalid-fields", {"params": {"priority": "urgent"}, "content": picture()}),
    "a negative deadline": (422, "invalid-fields", {"params": {"deadline_ms": "-1"}, "content": picture()}),
    "metadata that is a list": (422, "invalid-fields", {"params": {"metadata": "[]"}, "content": picture()}),
    "metadata that is no JSON": (422, "invalid-fields", {"params": {"metadata": "{"}, "content": picture()}),
    "deep metadata": (422, "invalid-fields", {"params": {"metadata": "[" * 900}, "content": picture()}),
    "metadata of a surrogate": (
        422,
        "invalid-fields",
        {"params": {"metadata": '{"a":"\\ud800"}'}, "content": picture()},
    ),
    "2 KB of metadata": (
        422,
        "invalid-fields",
        {"params": {"metadata": '{"a":"' + "x" * 2000 + '"}'}, "content": picture()},
    ),
    "a key with a space": (422, "invalid-fields", {"headers": {"Idempotency-Key": "a b"}, "content": picture()}),
    "an endless key": (422, "invalid-fields", {"headers": {"Idempotency-Key": "a" * 256}, "content": picture()}),
    "fields too long together": (
        422,
        "invalid-fields",
        {"params": dict.fromkeys(("serial", "lot", "view", "station"), "測" * 128), "content": picture()},
    ),
    "a form without an image": (422, "invalid-fields", {"files": {"picture": ("a.png", picture())}}),
    "a form with text only": (422, "invalid-fields", {"data": {"serial": "1"}, "files": {"lot": (None, b"2")}}),
    "a form with two images": (422, "invalid-fields", {"files": [("image", picture()), ("image", picture())]}),
    "a form with an empty image": (400, "empty-image", {"files": {"image": ("a.png", b"")}}),
    "a form with a wrong image": (415, "unknown-format", {"files": {"image": ("a.png", b"hello")}}),
    "a form field that is no UTF-8": (422, "invalid-fields", form(IMAGE, ('form-data; name="serial"', b"\xff\xfe"))),
    "an endless form field": (422, "invalid-fields", form(IMAGE, ('form-data; name="serial"', b"x" * 10_000))),
    "a form field twice": (
        422,
        "invalid-fields",
        form(IMAGE, ('form-data; name="lot"', b"1"), ('form-data; name="lot"', b"2")),
    ),
    "a form that is cut off": (400, "malformed-form", form(IMAGE, end=b"")),
    "a form part without a name": (400, "malformed-form", form(("form-data", b"x"))),
    "a form of a hundred parts": (400, "malformed-form", form(*[IMAGE] * 100)),
    "a form without a boundary": (
        400,
        "malformed-form",
        {"content": b"--b\r\n", "headers": {"Content-Type": "multipart/form-data"}},
    ),
    "a form that is none": (
        400,
        "malformed-form",
        {"content": b"hello", "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_input_is_refused_with_its_own_problem(api: Running, client: redis.Redis, name: str) -> None:
    status, slug, request = BAD[name]
    request = dict(request)
    answer = await api.http.post(request.pop("url", URL), **request)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["type"], problem["status"]) == (f"urn:glad:problem:{slug}", status)
    assert len(problem["detail"]) > 10
    assert api.stored() == []
    assert client.keys("glad:v1:inspection:*") == []
    good = await api.http.post(URL, content=picture())
    assert good.status_code == 202


@pytest.mark.parametrize("time", ["2026-11-23T08:15:30+01:00", "2026-11-23T08:15:30", "2026-11-23T25:00:00Z", "today"])
async def test_a_time_that_is_none_says_what_to_send(api: Running, time: str) -> None:
    """A + in a URL means a space."""
    answer = await api.http.post(f"{URL}?captured_at={time}", content=picture())
    ((field, said),) = [(one["field"], one["message"]) for one in answer.json()["errors"]]
    assert field == "captured_at"
    assert "send such as 2026-11-23T08:15:30Z" in said
    assert "%2B" in said


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "/v1/products/toy/thresholds", {"fail": True}),
        ("PATCH", "/v1/products/toy/thresholds?preview=true", {"review": False}),
        ("PATCH", "/v1/products/toy/thresholds", {"pixel": True}),
        ("PUT", "/v1/stations/line-3", {"deadline_ms": True}),
    ],
)
async def test_true_is_no_number(api: Running, method: str, path: str, body: dict[str, bool]) -> None:
    answer = await api.http.request(method, path, json=body)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:glad:problem:invalid-fields")
    assert "must be a number" in answer.text


async def test_true_is_no_number_in_a_batch_either(api: Running) -> None:
    form_fields = {"items": '[{"deadline_ms": true}]'}
    answer = await api.http.post(f"{URL}:batch", data=form_fields, files=[("image", ("a.png", picture()))])
    (item,) = answer.json()["items"]
    assert (item["status"], item["problem"]["errors"][0]["field"]) == (422, "deadline_ms")


async def test_refused_fields_are_named(api: Running) -> None:
    answer = await api.http.post(URL, params={"seriel": "1", "priority": "urgent"}, content=picture())
    assert [error["field"] for error in answer.json()["errors"]] == ["priority", "seriel"]


Post = Callable[[Running, bytes], Awaitable[httpx.Response]]


async def _announced(running: Running, body: bytes) -> httpx.Response:
    return await running.http.post(URL, content=body)


async def _streamed(running: Running, body: bytes) -> httpx.Response:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]

    return await running.http.post(URL, content=chunks())


async def _as_form(running: Running, body: bytes) -> httpx.Response:
    return await running.http.post(URL, files={"image": ("a.png", body)})


@pytest.mark.parametrize("post", [_announced, _streamed, _as_form])
async def test_a_body_beyond_the_limit_is_413_however_it_comes(
    client: redis.Redis, shared_redis: RedisServer, start_app: StartApp, post: Post
) -> None:
    image = picture()
    running: Running = await start_app(shared_redis.url, max_image_bytes=len(image))
    beyond = await post(running, image + bytes(100_000))
    assert beyond.status_code == 413
    assert beyond.headers["content-type"] == "application/problem+json"
    assert beyond.json()["type"] == "urn:glad:problem:body-too-large"
    one_more = await post(running, image + b"\0")
    assert (one_more.status_code, one_more.json()["type"]) == (413, "urn:glad:problem:body-too-large")
    assert (await post(running, image)).status_code == 202
    text = (await running.http.get("/metrics")).text
    assert 'glad_inspections_rejected_total{reason="body-too-large"} 2.0' in text


async def test_a_call_that_takes_no_image_takes_no_large_body(api: Running) -> None:
    answer = await api.http.put("/v1/stations/line-3", content=b" " * (MAX_JSON_BYTES + 1))
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:glad:problem:body-too-large")
    assert "this call takes a short one" in answer.json()["detail"]
    short = await api.http.put("/v1/stations/line-3", content=b" " * MAX_JSON_BYTES)
    assert short.status_code == 422


async def test_bodies_that_come_at_the_same_time_have_a_limit_together(
    client: redis.Redis, shared_redis: RedisServer, start_app: StartApp
) -> None:
    image = picture() + bytes(40_000)
    running: Running = await start_app(shared_redis.url, max_image_bytes=41_000, max_held_bytes=1)
    assert running.settings.held_bytes == 2 * (41_000 + 65_536)  # always two bodies: five images here
    halves, go_on = asyncio.Queue[None](), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield image
        await halves.put(None)
        await go_on.wait()
        yield bytes(100)

    slow = [asyncio.create_task(running.http.post(URL, content=slowly())) for _ in range(5)]
    for _ in slow:
        await halves.get()
    refused = await running.http.post(URL, content=image)
    assert (refused.status_code, refused.json()["type"]) == (429, "urn:glad:problem:too-many-uploads")
    assert refused.headers["retry-after"] == "2"
    assert (await running.http.post(URL, content=picture())).status_code == 202  # there is room for a small one
    go_on.set()
    assert [answer.status_code for answer in await asyncio.gather(*slow)] == [202] * 5
    assert (await running.http.post(URL, content=image)).status_code == 202  # what was held is given back
    text = (await running.http.get("/metrics")).text
    assert 'glad_inspections_rejected_total{reason="too-many-uploads"} 1.0' in text


async def test_what_a_packed_body_becomes_counts_too(
    client: redis.Redis, shared_redis: RedisServer, start_app: StartApp
) -> None:
    running: Running = await start_app(shared_redis.url, max_image_bytes=41_000, max_held_bytes=200_000)
    image = base64.b64encode(picture() + bytes(38_000)).decode()
    inputs = [{"name": "image", "datatype": "BYTES", "shape": [2], "data": [image] * 2}]
    packed = gzip.compress(json.dumps({"inputs": inputs}).encode())
    assert len(packed) < 2000

    def infer() -> Awaitable[httpx.Response]:
        return running.http.post("/v2/models/toy/infer", content=packed, headers={"Content-Encoding": "gzip"})

    waiting = [asyncio.ensure_future(infer()) for _ in range(2)]
    queue = JobQueue(client, lease_ms=60_000)
    claimed = [one for _ in range(4) for one in await asyncio.to_thread(queue.claim, 1, 20_000)]
    refused = await infer()
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")
    assert "GLAD_MAX_HELD_BYTES" in refused.json()["error"]
    for one in claimed:
        queue.complete(one, result_of(one))
    assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200, 200]


async def test_one_pixel_beyond_the_cap_is_422_and_the_cap_itself_is_accepted(
    client: redis.Redis, shared_redis: RedisServer, start_app: StartApp
) -> None:
    running: Running = await start_app(shared_redis.url, max_pixels=600)
    assert (await running.http.post(URL, content=picture(30, 20))).status_code == 202
    refused = await running.http.post(URL, content=picture(601, 1))
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:glad:problem:too-many-pixels")
    assert "GLAD_MAX_PIXELS" in refused.json()["detail"]


def half_a_jpeg() -> bytes:
    """A JPEG whose second half was lost, and that ends as one ends."""
    target = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(noise).save(target, "JPEG", quality=95)
    return target.getvalue()[: len(target.getvalue()) // 2] + b"\xff\xd9"


async def test_half_a_jpeg_is_refused_however_it_ends(api: Running, client: redis.Redis) -> None:
    refused = await api.http.post(URL, content=half_a_jpeg())
    assert (refused.status_code, refused.json()["type"]) == (400, "urn:glad:problem:undecodable-image")
    assert "premature end of data segment" in refused.json()["detail"]
    assert "GLAD_DAMAGED_IMAGES=inspect" in refused.json()["detail"]
    assert [client.xlen(keys.PoolKeys("default").jobs(priority)) for priority in Priority] == [0, 0]


async def test_a_healthy_file_that_is_not_read_says_what_to_store_and_a_wrapped_one_what_to_send(api: Running) -> None:
    target = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), dtype=np.float32)).save(target, "TIFF")
    refused = await api.http.post(URL, content=target.getvalue())
    assert (refused.status_code, refused.json()["type"]) == (400, "urn:glad:problem:undecodable-image")
    assert "has float samples of 32 bits" in refused.json()["detail"]
    assert "It is not damaged; this kind is not read: store it as grey or RGB" in refused.json()["detail"]
    text = base64.b64encode(picture())
    wrapped = {
        text: "is an image written in base64: decode it",
        b"data:image/png;base64," + text: "is a data URL: decode what follows its comma",
        json.dumps({"image": text.decode()}).encode(): "is JSON: send the image's bytes as the body",
        gzip.compress(picture()): "is packed with gzip: send the image file itself",
    }
    for content, said in wrapped.items():
        answer = await api.http.post(URL, content=content)
        assert (answer.status_code, answer.json()["type"]) == (415, "urn:glad:problem:unknown-format")
        assert said in answer.json()["detail"]


async def test_a_line_may_have_damaged_files_inspected(
    client: redis.Redis, shared_redis: RedisServer, start_app: StartApp
) -> None:
    running: Running = await start_app(shared_redis.url, damaged_images="inspect")
    assert (await running.http.post(URL, content=half_a_jpeg())).status_code == 202


async def test_a_field_that_a_call_has_not_is_refused_with_those_that_it_has(api: Running) -> None:
    of_an_image = "captured_at, deadline_ms, lot, metadata, priority, serial, station, view"
    answer = await api.http.post(URL, params={"seriel": "SN-1"}, content=picture())
    assert answer.json()["errors"][0]["message"] == f"is not a field of this call: it has {of_an_image}"
    page = await api.http.get("/v1/inspections", params={"verdikt": "fail"})
    assert (
        "verdikt: is not a field of this call: it has after, defect_code, disposition, limit, lot, order, "
        in page.json()["detail"]
    )
    changed = await api.http.patch("/v1/products/toy/thresholds?preview=true", json={"fial": 2})
    assert changed.status_code == 422
    assert "fial: is not a field of this call: it has " in changed.json()["detail"]
    assert "fail, last, " in changed.json()["detail"]


async def test_a_call_with_the_wrong_method_is_told_the_right_one(api: Running) -> None:
    answer = await api.http.get(URL)
    assert f"GET {URL}: Method Not Allowed, use POST; /docs lists the calls" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("PUT", "/v1/products", 405), ("GET", URL, 405), ("POST", "/v1/inspections/x", 405)],
)
async def test_wrong_calls_are_problems_too(api: Running, method: str, path: str, status: int) -> None:
    answer = await api.http.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "about:blank"


async def test_nothing_bad_reaches_the_queue(api: Running, client: redis.Redis) -> None:
    for status, _, request in BAD.values():
        given = dict(request)
        assert (await api.http.post(given.pop("url", URL), **given)).status_code == status
    assert [client.xlen(keys.PoolKeys("default").jobs(priority)) for priority in Priority] == [0, 0]
