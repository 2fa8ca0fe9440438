"""A body with a Content-Digest is taken only as it was sent: what no image format shows is found all the same."""

from __future__ import annotations

import hashlib
import io
import json
from base64 import b64encode
from typing import Any

import pytest
import redis
from PIL import Image

from service.contract import Priority
from service.queue import keys
from tests.service.conftest import Running
from tests.support.line import picture

URL = "/v1/products/toy/inspections"
MISMATCH = (400, "urn:glad:problem:digest-mismatch")
NAMES = {"sha256": "sha-256", "sha512": "sha-512", "md5": "md5"}


def bmp() -> bytes:
    target = io.BytesIO()
    Image.open(io.BytesIO(picture())).convert("RGB").save(target, "BMP")
    return target.getvalue()


def changed(image: bytes) -> bytes:
    """The image with one pixel of another colour: as good a BMP as before."""
    return image[:-5] + bytes([image[-5] ^ 0x55]) + image[-4:]


def digest(content: bytes, algorithm: str = "sha256") -> str:
    return f"{NAMES[algorithm]}=:{b64encode(hashlib.new(algorithm, content).digest()).decode()}:"


def form(content: bytes, part_headers: str = "") -> bytes:
    head = f'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n{part_headers}\r\n'
    return head.encode() + content + b"\r\n--b--\r\n"


FORM_HEADERS = {"Content-Type": "multipart/form-data; boundary=b"}


def queued(client: redis.Redis) -> int:
    return sum(client.xlen(keys.PoolKeys("default").jobs(priority)) for priority in Priority)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_a_pixel_that_changed_on_its_way_is_found(api: Running, client: redis.Redis, algorithm: str) -> None:
    headers = {"Content-Digest": digest(bmp(), algorithm)}
    refused = await api.http.post(URL, content=changed(bmp()), headers=headers)
    assert (refused.status_code, refused.json()["type"]) == MISMATCH
    for sent in (bmp(), changed(bmp())):
        assert digest(sent, algorithm).split(":")[1] in refused.json()["detail"]
    assert (api.stored(), queued(client)) == ([], 0)
    assert (await api.http.post(URL, content=bmp(), headers=headers)).status_code == 202


async def test_every_digest_of_a_list_must_be_right(api: Running) -> None:
    right, wrong = digest(bmp()), digest(changed(bmp()), "sha512")
    answer = await api.http.post(URL, content=bmp(), headers={"Content-Digest": f"{right}, {wrong}"})
    assert (answer.status_code, answer.json()["type"]) == MISMATCH
    two = [("Content-Digest", right), ("Content-Digest", wrong)]
    assert (await api.http.post(URL, content=bmp(), headers=two)).status_code == 400


async def test_an_algorithm_that_is_not_known_is_passed_over(api: Running) -> None:
    headers = {"Content-Digest": digest(b"something else", "md5")}
    assert (await api.http.post(URL, content=bmp(), headers=headers)).status_code == 202


@pytest.mark.parametrize(
    "header",
    [
        f"sha-256={hashlib.sha256(bmp()).hexdigest()}",
        f"sha-256=:{hashlib.sha256(bmp()).hexdigest()}:",
        "sha-256=:AAAA:",
        "sha-256=:A:",
        "sha-256",
        "\xe9" * 5000,
    ],
    ids=["hex", "hex in colons", "too short", "no base64", "no value", "no text"],
)
async def test_a_digest_of_another_form_is_told_the_right_one(api: Running, header: str) -> None:
    headers = [(b"Content-Digest", header.encode("latin-1"))]
    answer = await api.http.post(URL, content=bmp(), headers=headers)
    assert (answer.status_code, answer.json()["type"]) == MISMATCH
    assert "sha-256=:BASE64:" in answer.json()["detail"]
    assert len(answer.json()["detail"]) < 500


@pytest.mark.parametrize("path", [URL, f"{URL}:batch"])
async def test_a_form_may_have_a_digest_and_so_may_its_parts(api: Running, path: str) -> None:
    part = f"Content-Digest: {digest(bmp())}\r\n"
    taken = await api.http.post(path, content=form(bmp(), part), headers=FORM_HEADERS)
    assert taken.status_code == 202
    refused = await api.http.post(path, content=form(changed(bmp()), part), headers=FORM_HEADERS)
    assert (refused.status_code, refused.json()["type"]) == MISMATCH
    assert "the part 'image'" in refused.json()["detail"]
    whole = FORM_HEADERS | {"Content-Digest": digest(form(bmp()))}
    refused = await api.http.post(path, content=form(changed(bmp())), headers=whole)
    assert (refused.status_code, refused.json()["type"]) == MISMATCH


async def test_an_inference_request_may_have_a_digest(api: Running) -> None:
    tensor: dict[str, Any] = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [b64encode(bmp()).decode()]}
    body = json.dumps({"inputs": [tensor]}).encode()
    headers = {"Content-Type": "application/json", "Content-Digest": digest(body + b" ")}
    refused = await api.http.post("/v2/models/toy/infer", content=body, headers=headers)
    assert refused.status_code == 400
    assert "Content-Digest" in refused.json()["error"]
