"""Several hundred hostile files and requests: no server error, nothing kept of a refused one, the next accepted."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from service.queue import keys
from tests.service.conftest import Running
from tests.support import hostile
from tests.support.line import picture

URL = "/v1/products/toy/inspections"
REFUSALS = {400, 403, 404, 405, 413, 415, 422}


def as_requests(files: hostile.Files) -> hostile.Requests:
    """Each file as a body."""
    return {name: {"content": content} for name, content in files.items()}


FAMILIES: dict[str, hostile.Requests] = {
    "truncated": as_requests(hostile.truncated()),
    "flipped": as_requests(hostile.flipped()),
    "bombs": as_requests(hostile.bombs()),
    "wrong types": as_requests(hostile.wrong_types()),
    "names": hostile.hostile_names(),
    "fields": hostile.hostile_fields(),
    "paths": hostile.hostile_paths(),
    "headers": hostile.hostile_headers(),
}


def test_there_are_enough_of_them() -> None:
    assert sum(map(len, FAMILIES.values())) >= 300


@pytest.mark.parametrize("family", FAMILIES)
async def test_no_hostile_request_is_a_server_error_or_leaves_anything_behind(
    api: Running, client: redis.Redis, family: str
) -> None:
    accepted = 0
    for name, request in FAMILIES[family].items():
        given: dict[str, Any] = {"method": "POST", "url": URL} | request
        answer = await api.http.request(**given)
        assert answer.status_code in REFUSALS | {200, 202}, f"{name}: {answer.status_code} {answer.text[:300]}"
        if answer.status_code in REFUSALS:
            assert answer.headers["content-type"] == "application/problem+json", name
            assert len(answer.content) < 4000, f"{name}: the answer repeats what was sent"
        accepted += answer.status_code == 202
    assert len(api.stored()) == accepted
    assert len(client.keys(keys.INSPECTION_PREFIX + "*")) == accepted
    assert {path.name for path in api.stored()} <= {"image"}
    assert (await api.http.post(URL, content=picture())).status_code == 202


@pytest.mark.parametrize("family", ["truncated", "wrong types"])
async def test_what_cannot_be_an_image_is_never_accepted(api: Running, family: str) -> None:
    for name, request in FAMILIES[family].items():
        answer = await api.http.post(URL, **request)
        assert answer.status_code in {400, 415, 422}, f"{name}: {answer.status_code}"


async def test_no_answer_says_where_things_lie_on_this_machine(api: Running) -> None:
    for family in ("flipped", "bombs", "paths"):
        for name, request in FAMILIES[family].items():
            given: dict[str, Any] = {"method": "POST", "url": URL} | request
            answer = await api.http.request(**given)
            for secret in (str(api.settings.data_dir), api.settings.store_url, "Traceback"):
                assert secret not in answer.text, name


@pytest.mark.parametrize("body", [b"\xff\xfe", b"{", b"[" * 100_000, b"", b"null", b'"' + b"\\ud800" * 10 + b'"'])
async def test_a_json_body_that_cannot_be_read_is_422(api: Running, body: bytes) -> None:
    url = "/v1/inspections/019abc12-3456-7def-8123-456789abcdef/review"
    answer = await api.http.post(url, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:glad:problem:invalid-fields")
