"""Small images that cost a decoder much, posted to a real API process: refused in words, beside good ones."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import redis

from service.contract import Priority
from service.queue import keys
from tests.service.conftest import Running, StartApp
from tests.support import costly_images as costly
from tests.support.api_process import Api, running_api
from tests.support.line import picture
from tests.support.processes import children_of
from tests.support.redis_server import RedisServer

STREAM = keys.PoolKeys("default").jobs(Priority.NORMAL)
REFUSED = costly.refused_by_their_headers()
RUNS = costly.run_lengths(3000)
"""Nothing in its header tells that it is slow."""
GIANT = costly.clear_level(7900)
"""62 million pixels of 16 bit: good, and within every limit."""


@pytest.fixture
def api_process(client: redis.Redis, shared_redis: RedisServer, toy_store: Path, tmp_path: Path) -> Iterator[Api]:
    """The API as a process of its own, whose decoders have little time."""
    settings = {"GLAD_REDIS_URL": shared_redis.url, "GLAD_STORE": str(toy_store), "GLAD_DECODE_LIMIT_S": "8"}
    with running_api(settings, tmp_path) as api:
        yield api


def post(api: Api, image: bytes) -> httpx.Response:
    """Post as a camera does: again, when the queue did not answer; a machine's slow disk is not what is tested here."""
    answer = httpx.post(api.url, content=image, timeout=170)
    for _ in range(3):
        if answer.status_code != 503 or answer.json()["type"] != "urn:glad:problem:queue-unavailable":
            break
        time.sleep(int(answer.headers["Retry-After"]))
        answer = httpx.post(api.url, content=image, timeout=170)
    return answer


def test_costly_images_are_refused_in_words_while_good_ones_beside_them_are_accepted(
    api_process: Api, client: redis.Redis
) -> None:
    hostile = [*REFUSED.values(), RUNS, RUNS]
    with ThreadPoolExecutor(4) as pool:
        refused = [pool.submit(post, api_process, image) for image in hostile]
        accepted = [pool.submit(post, api_process, picture()) for _ in range(8)]
        answers, good = [one.result() for one in refused], [one.result() for one in accepted]
    assert [one.text for one in good if one.status_code != 202] == []
    kinds = dict(zip([*REFUSED, "runs", "runs again"], (answer.json()["type"] for answer in answers), strict=True))
    costly_kind, large = "urn:glad:problem:decoding-too-costly", "urn:glad:problem:too-many-pixels"
    assert kinds == {name: large if name.startswith("WebP") else costly_kind for name in kinds}
    assert {answer.status_code for answer in answers} == {422}
    assert "raise GLAD_DECODE_LIMIT_S" in answers[-1].json()["detail"]
    # One whose answer was lost on the way may have been posted twice.
    assert client.xlen(STREAM) >= 8


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_no_image_makes_the_api_process_large(api_process: Api) -> None:
    assert post(api_process, picture()).status_code == 202
    before = peak_bytes(api_process.pid)
    with ThreadPoolExecutor(2) as pool:
        statuses = [one.status_code for one in pool.map(lambda image: post(api_process, image), [GIANT, GIANT])]
    assert statuses == [202, 202]
    assert {post(api_process, image).status_code for image in REFUSED.values()} == {422}
    assert peak_bytes(api_process.pid) < before + (64 << 20)
    assert all(peak_bytes(decoder) < 512 << 20 for decoder in children_of(api_process.pid))


def peak_bytes(pid: int) -> int:
    """The most memory that a process has taken so far."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


async def test_a_decoder_that_an_image_ended_is_counted(
    client: redis.Redis, shared_redis: RedisServer, start_app: StartApp
) -> None:
    api: Running = await start_app(shared_redis.url, decode_limit_s=2, decode_memory_bytes=64 << 20)
    large = costly.clear_level(6000)
    answers = [await api.http.post("/v1/products/toy/inspections", content=image) for image in (RUNS, large)]
    assert [answer.json()["type"].rpartition(":")[2] for answer in answers] == ["decoding-too-costly"] * 2
    assert "raise GLAD_DECODE_MEMORY_BYTES" in answers[1].json()["detail"]
    metrics = (await api.http.get("/metrics")).text
    for reason in ("time", "memory"):
        assert f'glad_decoders_ended_total{{reason="{reason}"}} 1.0' in metrics
    assert 'glad_inspections_rejected_total{reason="decoding-too-costly"} 2.0' in metrics
    assert api.stored() == []
