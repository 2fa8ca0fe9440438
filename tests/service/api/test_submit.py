"""Submitting images over HTTP: accepted is kept, the same is the same, a result comes as soon as it is there."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from service.api.dependencies import wait_seconds
from service.contract import Failure, Job
from service.queue import keys
from service.queue.jobs import JobQueue
from service.storage.artifacts import ArtifactStore, ArtifactsUnavailable
from service.storage.pictures import DRAWN_NAMES, Drawing
from tests.service.conftest import Running, StartApp, write_toy
from tests.support.line import findings, picture, result_of
from tests.support.redis_server import RedisServer

URL = "/v1/products/toy/inspections"
FIELDS = {
    "serial": "SN-1",
    "lot": "L-2",
    "view": "top",
    "station": "line-3",
    "captured_at": "2026-11-23T09:15:30.120+01:00",
    "priority": "high",
    "deadline_ms": "5000",
    "metadata": '{"shift": 2}',
}
SHOWN = {
    "serial": "SN-1",
    "lot": "L-2",
    "view": "top",
    "station": "line-3",
    "captured_at": "2026-11-23T08:15:30.120Z",
    "priority": "high",
    "deadline_ms": 5000,
    "metadata": {"shift": 2},
}


def job_of(client: redis.Redis, inspection_id: str) -> Job:
    """What the worker would get."""
    text: Any = client.hget(keys.inspection(inspection_id), "job")
    return Job.model_validate_json(text)


async def test_a_raw_body_is_accepted_with_its_fields_as_query_parameters(api: Running, client: redis.Redis) -> None:
    image = picture(30, 20)
    answer = await api.http.post(URL, params=FIELDS, content=image)
    assert answer.status_code == 202
    shown = answer.json()
    assert SHOWN.items() <= shown.items()
    assert (shown["state"], shown["verdict"], shown["score"]) == ("queued", None, None)
    assert answer.headers["location"] == f"/v1/inspections/{shown['id']}"
    assert answer.headers["retry-after"] == "1"
    job = job_of(client, shown["id"])
    assert (job.width, job.height, job.image_format, job.image_bytes) == (30, 20, "PNG", len(image))
    assert job.image_sha256 == hashlib.sha256(image).hexdigest()


async def test_a_form_is_accepted_with_the_same_fields(api: Running) -> None:
    files = {"image": ("part.png", picture(), "image/png")}
    answer = await api.http.post(URL, data=FIELDS, files=files)
    assert answer.status_code == 202, answer.text
    assert SHOWN.items() <= answer.json().items()


async def test_the_job_pins_bundle_and_thresholds_and_points_to_the_bytes_as_they_came(
    api: Running, client: redis.Redis
) -> None:
    image = picture(kind="JPEG")
    shown = (await api.http.post(URL, content=image)).json()
    job = job_of(client, shown["id"])
    active = api.services.store.resolve("toy")
    assert (job.bundle_version, job.bundle_hash) == ("1", active.hash)
    assert (job.thresholds.review, job.thresholds.fail, job.thresholds.pixel) == (0.5, 1.0, 1.0)
    assert api.services.artifacts.get(job.image_ref) == image
    assert len(job.to_json().encode()) <= 2048


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("header", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "x/y"])
async def test_the_content_decides_and_not_the_header(api: Running, kind: str, header: str) -> None:
    image = picture(kind=kind)
    answer = await api.http.post(URL, content=image, headers={"Content-Type": header})
    assert answer.status_code == 202, answer.text
    fetched = await api.http.get(answer.json()["artifacts"]["image"])
    assert fetched.content == image
    assert fetched.headers["content-type"] == f"image/{kind.lower()}"


async def test_the_name_of_an_uploaded_file_means_nothing(api: Running) -> None:
    files = {"image": ("../../etc/passwd\0.html", picture(), "text/html")}
    assert (await api.http.post(URL, files=files)).status_code == 202
    assert {path.name for path in api.stored()} == {"image"}


async def test_an_exif_rotated_image_is_measured_upright(api: Running) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    shown = (await api.http.post(URL, content=picture(30, 20, "JPEG", exif=exif))).json()
    assert (shown["width"], shown["height"]) == (20, 30)


async def test_a_waiting_client_gets_the_result_as_soon_as_it_is_there(api: Running, client: redis.Redis) -> None:
    queue = JobQueue(client, lease_ms=60_000)
    waiting = asyncio.create_task(api.http.post(URL, content=picture(), headers={"Prefer": "wait=30"}))
    [claimed] = await asyncio.to_thread(queue.claim, 1, 20_000)
    queue.complete(claimed, result_of(claimed, 1.5))
    answer = await waiting
    assert answer.status_code == 200
    assert (answer.json()["verdict"], answer.json()["calibrated_score"]) == ("fail", 0.6)  # 1.5 / (1.5 + 1.0)
    assert answer.headers["preference-applied"] == "wait=30"
    assert answer.headers["location"] == f"/v1/inspections/{claimed.id}"


async def test_a_client_that_waits_in_vain_gets_202(api: Running) -> None:
    answer = await api.http.post(URL, content=picture(), headers={"Prefer": "respond-async, wait=1"})
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "wait=1")
    assert answer.json()["state"] == "queued"


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (None, 0),
        ("wait=7", 7),
        ("WAIT = 7", 7),
        ('wait="7"; foo, handling=lenient', 7),
        ("wait=30", 30),
        ("wait=31", 30),
    ],
)
def test_a_wait_is_what_was_asked_for_up_to_half_a_minute(prefer: str | None, seconds: int) -> None:
    assert wait_seconds(prefer) == seconds


@pytest.mark.parametrize("prefer", ["wait=x", "wait=-1", "wait", "return=minimal", "wait=٣"])
async def test_a_preference_that_is_not_understood_is_ignored(api: Running, prefer: str) -> None:
    answer = await api.http.post(URL, content=picture(), headers={b"Prefer": prefer.encode()})
    assert answer.status_code == 202
    assert "preference-applied" not in answer.headers


async def test_a_failed_inspection_ends_the_wait_without_a_verdict(api: Running, client: redis.Redis) -> None:
    from service.contract import Failure

    queue = JobQueue(client, lease_ms=60_000)
    waiting = asyncio.create_task(api.http.post(URL, content=picture(), headers={"Prefer": "wait=30"}))
    [claimed] = await asyncio.to_thread(queue.claim, 1, 20_000)
    queue.fail(claimed, Failure(code="bundle_unavailable", detail="hash does not match"))
    answer = await waiting
    assert answer.status_code == 200
    assert (answer.json()["state"], answer.json()["verdict"]) == ("failed", None)
    assert answer.json()["error"] == {"code": "bundle_unavailable", "detail": "hash does not match"}


async def test_the_same_key_is_the_same_inspection_and_stores_once(api: Running) -> None:
    headers = {"Idempotency-Key": "part-1"}
    image = picture()
    answers = [await api.http.post(URL, params=FIELDS, content=image, headers=headers) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202] * 3
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(api.stored()) == 1


async def test_a_repeat_after_the_end_gets_the_result_at_once(api: Running, client: redis.Redis) -> None:
    headers = {"Idempotency-Key": "part-1"}
    image = picture()
    first = await api.http.post(URL, content=image, headers=headers)
    queue = JobQueue(client, lease_ms=60_000)
    [claimed] = queue.claim(1)
    queue.complete(claimed, result_of(claimed))
    again = await api.http.post(URL, content=image, headers=headers)
    assert (again.status_code, again.json()["state"]) == (200, "done")
    assert again.json()["id"] == first.json()["id"]


@pytest.mark.parametrize(
    ("colour", "params"), [("red", {}), ("teal", {"serial": "other"}), ("teal", {"priority": "high"})]
)
async def test_a_key_with_another_request_is_a_conflict_and_keeps_nothing(
    api: Running, colour: str, params: dict[str, str]
) -> None:
    headers = {"Idempotency-Key": "part-1"}
    first = await api.http.post(URL, content=picture(colour="teal"), headers=headers)
    other = await api.http.post(URL, params=params, content=picture(colour=colour), headers=headers)
    assert other.status_code == 409
    assert other.json()["type"] == "urn:glad:problem:idempotency-key-reused"
    assert first.json()["id"] in other.json()["detail"]
    assert len(api.stored()) == 1


async def test_a_hundred_posts_at_once_with_one_key_are_one_inspection(api: Running, client: redis.Redis) -> None:
    image = picture()
    answers = await asyncio.gather(
        *(api.http.post(URL, content=image, headers={"Idempotency-Key": "part-1"}) for _ in range(100))
    )
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(JobQueue(client).claim(100)) == 1
    assert len(api.stored()) == 1


async def test_a_full_backlog_is_429_and_keeps_nothing(
    client: redis.Redis, shared_redis: RedisServer, start_app: StartApp
) -> None:
    running: Running = await start_app(shared_redis.url, max_backlog=1, retry_after_s=7)
    headers = {"Idempotency-Key": "first"}
    image = picture()
    accepted = await running.http.post(URL, content=image, headers=headers)
    for refusal in (
        await running.http.post(URL, content=image),
        await running.http.post(URL, content=image, headers={"Idempotency-Key": "second"}),
    ):
        assert refusal.status_code == 429
        assert refusal.json()["type"] == "urn:glad:problem:backlog-full"
        assert refusal.headers["retry-after"] == "7"
    repeat = await running.http.post(URL, content=image, headers=headers)
    assert (repeat.status_code, repeat.json()["id"]) == (202, accepted.json()["id"])
    assert len(running.stored()) == 1


async def test_an_inspection_is_followed_from_queued_to_done(api: Running, client: redis.Redis) -> None:
    location = (await api.http.post(URL, content=picture())).headers["location"]

    async def state() -> tuple[str, bool]:
        answer = await api.http.get(location)
        assert answer.status_code == 200
        return answer.json()["state"], "retry-after" in answer.headers

    assert await state() == ("queued", True)
    queue = JobQueue(client, lease_ms=60_000)
    [claimed] = queue.claim(1)
    assert await state() == ("running", True)
    queue.complete(claimed, result_of(claimed))
    assert await state() == ("done", False)


async def test_pictures_are_served_under_their_types(api: Running, client: redis.Redis) -> None:
    image = picture(kind="TIFF")
    inspection_id = (await api.http.post(URL, content=image)).json()["id"]
    queue = JobQueue(client, lease_ms=60_000)
    [claimed] = queue.claim(1)
    names: Any = ("heatmap.png", "map.npy")
    for name in names:
        api.services.artifacts.put(claimed.id, name, name.encode())
    queue.complete(claimed, result_of(claimed, artifacts=names))
    links = (await api.http.get(f"/v1/inspections/{inspection_id}")).json()["artifacts"]
    assert list(links) == ["heatmap.png", "map.npy", "image"]
    kinds = {}
    for name, link in links.items():
        answer = await api.http.get(link)
        assert (answer.status_code, answer.content) == (200, image if name == "image" else name.encode())
        assert answer.headers["x-content-type-options"] == "nosniff"
        kinds[name] = answer.headers["content-type"]
    assert kinds == {"heatmap.png": "image/png", "map.npy": "application/octet-stream", "image": "image/tiff"}
    missing = await api.http.get(f"/v1/inspections/{inspection_id}/overlay.png")
    assert (missing.status_code, missing.json()["type"]) == (404, "urn:glad:problem:unknown-artifact")


async def passed_part(api: Running, client: redis.Redis, image: bytes) -> str:
    """An inspection of which the worker stored a drawing alone."""
    inspection_id: str = (await api.http.post(URL, content=image)).json()["id"]
    queue = JobQueue(client, lease_ms=60_000)
    [claimed] = queue.claim(1)
    assert claimed.job.pictures == "on_demand"
    values = np.zeros((20, 30), np.float32)
    values[4:8, 10:20] = 1.5
    api.services.artifacts.put(claimed.id, "drawing.npz", Drawing(values, 2.0, 1.0).to_bytes())
    queue.complete(claimed, result_of(claimed, artifacts=(*DRAWN_NAMES, "reconstruction.png")))
    return inspection_id


async def test_pictures_of_a_part_that_passed_are_drawn_at_the_first_question_and_kept(
    api: Running, client: redis.Redis
) -> None:
    image = picture()
    inspection_id = await passed_part(api, client, image)
    stored = {"image", "drawing.npz"}
    assert {path.name for path in api.stored()} == stored
    for name in DRAWN_NAMES:
        first = await api.http.get(f"/v1/inspections/{inspection_id}/{name}")
        stored.add(name)
        assert (first.status_code, {path.name for path in api.stored()}) == (200, stored)
        assert (await api.http.get(f"/v1/inspections/{inspection_id}/{name}")).content == first.content
    found = np.load(io.BytesIO(first.content))
    assert (found.dtype, found.shape, found.max()) == (np.float32, (20, 30), 1.5)
    hidden = await api.http.get(f"/v1/inspections/{inspection_id}/drawing.npz")
    assert hidden.status_code == 404


async def test_pictures_are_drawn_from_what_the_visible_attempt_stored(api: Running, client: redis.Redis) -> None:
    inspection_id = (await api.http.post(URL, content=picture())).json()["id"]
    queue = JobQueue(client, lease_ms=60_000)
    queue.hand_back(queue.claim(1)[0])
    [claimed] = queue.claim(1)
    for attempt, value in ((1, 1.5), (2, 0.25)):  # the first one's worker slept past its lease, and stored all the same
        drawing = Drawing(np.full((20, 30), value, np.float32), 2.0, 1.0).to_bytes()
        api.services.artifacts.put(claimed.id, "drawing.npz", drawing, attempt)
    names: Any = (*DRAWN_NAMES, "reconstruction.png")
    for name in names:
        api.services.artifacts.put(claimed.id, name, b"of the first attempt")
    queue.complete(claimed, result_of(claimed, artifacts=names))
    path = f"/v1/inspections/{inspection_id}"
    for _ in range(2):  # drawn, and then stored
        found = np.load(io.BytesIO((await api.http.get(f"{path}/map.npy")).content))
        assert (found.min(), found.max()) == (0.25, 0.25)
    assert (await api.http.get(f"{path}/heatmap.png")).content[:4] == b"\x89PNG"
    assert (await api.http.get(f"{path}/reconstruction.png")).status_code == 202
    [request] = queue.claim(1)
    assert (request.picture_only, request.stores_as) == (True, 2)


async def test_pictures_that_an_older_version_stored_are_still_shown(api: Running, client: redis.Redis) -> None:
    inspection_id = (await api.http.post(URL, content=picture())).json()["id"]
    queue = JobQueue(client, lease_ms=60_000)
    queue.hand_back(queue.claim(1)[0])
    [claimed] = queue.claim(1)
    # It gave the pictures of every attempt the names of the first.
    api.services.artifacts.put(claimed.id, "drawing.npz", Drawing(np.ones((2, 2), np.float32), 2.0, 1.0).to_bytes())
    api.services.artifacts.put(claimed.id, "reconstruction.png", picture())
    queue.complete(claimed, result_of(claimed, artifacts=(*DRAWN_NAMES, "reconstruction.png")))
    shown = [(await api.http.get(f"/v1/inspections/{inspection_id}/{name}")) for name in DRAWN_NAMES]
    assert [answer.status_code for answer in shown] == [200] * len(DRAWN_NAMES)
    assert (await api.http.get(f"/v1/inspections/{inspection_id}/reconstruction.png")).content == picture()


async def test_a_full_disk_does_not_keep_a_picture_from_being_seen(
    api: Running, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspection_id = await passed_part(api, client, picture())

    def full(*_: object) -> str:
        raise ArtifactsUnavailable("no space left")

    monkeypatch.setattr(ArtifactStore, "put", full)
    answer = await api.http.get(f"/v1/inspections/{inspection_id}/overlay.png")
    assert (answer.status_code, answer.content[:4]) == (200, b"\x89PNG")


async def test_the_reconstruction_of_a_part_that_passed_comes_from_a_worker(api: Running, client: redis.Redis) -> None:
    inspection_id = await passed_part(api, client, picture())
    path = f"/v1/inspections/{inspection_id}/reconstruction.png"
    for _ in range(2):
        answer = await api.http.get(path)
        assert (answer.status_code, answer.content, answer.headers["retry-after"]) == (202, b"", "1")
    queue = JobQueue(client)
    [claimed] = queue.claim(1)
    assert (claimed.id, claimed.picture_only) == (inspection_id, True)
    api.services.artifacts.put(claimed.id, "reconstruction.png", picture())
    queue.end_picture(claimed)
    assert (await api.http.get(path)).content == picture()
    assert (await api.http.get(f"/v1/inspections/{inspection_id}")).json()["state"] == "done"


async def test_a_reconstruction_that_cannot_be_drawn_is_not_promised(api: Running, client: redis.Redis) -> None:
    inspection_id = await passed_part(api, client, picture())
    path = f"/v1/inspections/{inspection_id}/reconstruction.png"
    await api.http.get(path)
    queue = JobQueue(client)
    [claimed] = queue.claim(1)
    queue.end_picture(claimed, Failure(code="bundle_unavailable", detail="bundle 1 is gone"))
    answer = await api.http.get(path)
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:glad:problem:unknown-artifact")
    assert "bundle 1 is gone" in answer.json()["detail"]


async def test_nothing_is_drawn_of_an_image_that_is_not_kept(api: Running, client: redis.Redis) -> None:
    inspection_id = await passed_part(api, client, picture())
    api.services.artifacts.remove(api.services.artifacts.ref(inspection_id, "image"))
    for name in ("overlay.png", "reconstruction.png"):
        answer = await api.http.get(f"/v1/inspections/{inspection_id}/{name}")
        assert (answer.status_code, "no longer kept" in answer.text) == (404, True)
    assert not client.exists(keys.picture(inspection_id))


@pytest.mark.parametrize(
    "path",
    [
        "/v1/inspections/x",
        "/v1/inspections/019abc12-3456-7def-8123-456789abcdef",
        "/v1/inspections/019abc12-3456-7def-8123-456789abcdef/heatmap.png",
        "/v1/inspections/019abc12-3456-7def-8123-456789abcdef/..%2f..%2fsecret",
        "/v1/inspections/" + "a" * 5000,
    ],
)
async def test_what_was_never_accepted_is_404(api: Running, path: str) -> None:
    answer = await api.http.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


async def test_products_show_their_bundles_and_thresholds(api: Running) -> None:
    products = (await api.http.get("/v1/products")).json()["products"]
    [listed] = [one for one in products if one["product"] == "toy"]  # the shipped products are listed as well
    shown = (await api.http.get("/v1/products/toy")).json()
    assert listed == shown
    assert (shown["product"], shown["active"]["version"]) == ("toy", "1")
    assert shown["active"]["thresholds"] == {"review": 0.5, "fail": 1.0, "pixel": 1.0}
    assert shown["versions"] == [shown["active"]]
    unknown = await api.http.get("/v1/products/toi")
    assert (unknown.status_code, unknown.json()["type"]) == (404, "urn:glad:problem:unknown-product")


async def test_a_product_that_is_not_calibrated_has_no_usable_bundle(
    start_app: StartApp, shared_redis: RedisServer, tmp_path: Path
) -> None:
    root = tmp_path / "drafts"
    for product, version, calibrated in (("toy", "1", True), ("toy", "2", False), ("raw", "1", False)):
        write_toy(root / product / version, calibrated=calibrated)
    api: Running = await start_app(shared_redis.url, store=str(root))
    refused = await api.http.post("/v1/products/raw/inspections", content=picture())
    assert (refused.status_code, refused.json()["type"]) == (404, "urn:glad:problem:product-unusable")
    assert (await api.http.get("/v1/products/raw")).status_code == 404
    shown = (await api.http.get("/v1/products/toy")).json()
    assert [one["version"] for one in shown["versions"]] == ["1"]
    listed = (await api.http.get("/v1/products")).json()["products"]
    assert "raw" not in [one["product"] for one in listed]


async def test_the_openapi_document_shows_every_status_with_an_example(api: Running) -> None:
    document = (await api.http.get("/openapi.json")).json()
    submit = document["paths"]["/v1/products/{product}/inspections"]["post"]
    refusals = {"400", "401", "403", "404", "408", "409", "413", "415", "422", "429", "503"}
    assert set(submit["responses"]) == {"200", "202"} | refusals
    names = {parameter["name"] for parameter in submit["parameters"]}
    assert set(FIELDS) | {"product", "Idempotency-Key", "Prefer"} == names
    assert set(submit["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]) == {*FIELDS, "image"}
    for path, operations in document["paths"].items():
        form = "application/json" if path.startswith("/v2") else "application/problem+json"
        for operation in operations.values():
            assert operation["summary"]
            for status, response in operation["responses"].items():
                if status >= "400" and status != "503":
                    assert response["content"][form]["examples"]
    assert "HTTPValidationError" not in json.dumps(document)


async def test_examples_in_the_document_are_real_results() -> None:
    from service.api.openapi.examples import DONE, QUEUED
    from service.contract import Result

    for example in (QUEUED, DONE):
        assert json.loads(Result.model_validate(example).to_json()) == example


async def test_metrics_count_what_happened(api: Running, client: redis.Redis) -> None:
    await api.http.post(URL, content=picture())
    await api.http.post(URL, content=b"%PDF-1.7")
    text = (await api.http.get("/metrics")).text
    assert 'glad_inspections_submitted_total{priority="normal",product="toy",station="none"} 1.0' in text
    assert 'glad_inspections_rejected_total{reason="unknown-format"} 1.0' in text
    assert 'glad_queue_depth{pool="default"} 1.0' in text
    assert 'glad_queue_inflight{pool="default"} 0.0' in text
    assert "glad_build_info{" in text


async def test_ready_says_what_is_missing(api: Running, client: redis.Redis) -> None:
    first = await api.http.get("/health/ready")
    assert (first.status_code, first.json()["status"]) == (200, "degraded")
    assert first.json()["checks"]["worker"]["ok"] is False
    JobQueue(client).renew()
    second = await api.http.get("/health/ready")
    assert (second.status_code, second.json()["status"]) == (200, "ready")
    assert (await api.http.get("/health/live")).json() == {"status": "alive"}


async def test_two_submissions_share_nothing(api: Running) -> None:
    image = picture()
    first, second = [(await api.http.post(URL, content=image)).json()["id"] for _ in range(2)]
    assert first != second
    assert len(api.stored()) == 2
    assert ArtifactStore.ref(first, "image") != ArtifactStore.ref(second, "image")


async def test_findings_reach_the_client_unchanged(api: Running, client: redis.Redis) -> None:
    location = (await api.http.post(URL, content=picture())).headers["location"]
    queue = JobQueue(client, lease_ms=60_000)
    [claimed] = queue.claim(1)
    queue.complete(claimed, result_of(claimed, 0.75))
    shown = (await api.http.get(location)).json()
    expected = json.loads(findings(0.75).model_dump_json())
    for name in ("score", "regions", "denoising_step", "unet_evaluations", "seed", "timings_ms"):
        assert shown[name] == expected[name]
    assert shown["verdict"] == "review"
