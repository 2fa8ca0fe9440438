"""The Open Inference Protocol, as its stock client speaks it, on a real server over a real Redis."""

from __future__ import annotations

import base64
import gzip
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import redis
from PIL import Image
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, InferResult
from tritonclient.utils import InferenceServerException

from service.auth.api_keys import KeyStore
from service.auth.scopes import Scope
from service.contract import Failure, State
from service.queue.jobs import JobQueue
from service.settings import Settings
from tests.support.http_server import server_on
from tests.support.line import picture
from tests.support.redis_server import RedisServer
from tests.support.working import MAP, working


@pytest.fixture
def settings(client: redis.Redis, shared_redis: RedisServer, toy_store: Path, tmp_path: Path) -> Settings:
    return Settings(redis_url=shared_redis.url, store=str(toy_store), data_dir=tmp_path, oip_wait_s=30, max_pixels=1000)


@pytest.fixture
def url(settings: Settings) -> Iterator[str]:
    with server_on(settings) as url:
        yield url


@pytest.fixture
def triton(url: str) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(url.removeprefix("http://")) as client:
        yield client


def files(*images: bytes, raw: bool = True) -> InferInput:
    """The input `image`."""
    given = InferInput("image", [len(images)], "BYTES")
    elements = [image if raw else base64.b64encode(image) for image in images]
    return given.set_data_from_numpy(np.array(elements, dtype=np.object_), binary_data=raw)


def values(result: InferResult, name: str) -> list[Any]:
    found: list[Any] = result.as_numpy(name).tolist()
    return [value.decode() if isinstance(value, bytes) else value for value in found]


def test_server_and_model_are_live_ready_and_described(triton: InferenceServerClient) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready("toy")
    assert triton.is_model_ready("toy", "1")
    assert not triton.is_model_ready("nothing")
    assert not triton.is_model_ready("toy", "2")
    assert triton.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    described = triton.get_model_metadata("toy")
    assert described == triton.get_model_metadata("toy", "1")
    assert described["versions"] == ["1"]
    assert described["inputs"] == [
        {"name": "image", "datatype": "BYTES", "shape": [-1]},
        {"name": "pixels", "datatype": "UINT8", "shape": [-1, -1, 3]},
    ]
    assert {output["name"]: output["datatype"] for output in described["outputs"]} == {
        "verdict": "BYTES",
        "score": "FP64",
        "calibrated_score": "FP64",
        "denoising_step": "INT32",
        "regions": "BYTES",
        "inspection_id": "BYTES",
        "quality": "BYTES",
        "map": "FP32",
    }


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "json"])
def test_an_image_is_inspected_and_all_outputs_but_the_map_come_back(
    settings: Settings, url: str, triton: InferenceServerClient, raw: bool
) -> None:
    with working(settings):
        result = triton.infer("toy", [files(picture(), raw=raw)])
    assert values(result, "verdict") == ["pass"]  # 0.25 is below the review threshold, 0.5
    assert values(result, "score") == [0.25]
    assert values(result, "calibrated_score") == [0.2]  # 0.25 / (0.25 + 1): the fail threshold is 1
    assert values(result, "denoising_step") == [421]
    assert [json.loads(text) for text in values(result, "regions")] == [
        [{"box": [1, 2, 3, 4], "area_px": 9, "peak": 1.5}]
    ]
    assert result.as_numpy("map") is None
    assert (result.get_response()["model_name"], result.get_response()["model_version"]) == ("toy", "1")
    (inspection_id,) = values(result, "inspection_id")
    kept = httpx.get(f"{url}/v1/inspections/{inspection_id}").json()
    assert (kept["state"], kept["score"]) == ("done", 0.25)
    assert httpx.get(f"{url}/v1/inspections/{inspection_id}/image").content == picture()


def test_outputs_come_as_asked_for_in_json_or_raw(settings: Settings, triton: InferenceServerClient) -> None:
    asked = [InferRequestedOutput("map", binary_data=True), InferRequestedOutput("verdict", binary_data=False)]
    with working(settings):
        result = triton.infer("toy", [files(picture())], outputs=asked)
    assert np.array_equal(result.as_numpy("map"), MAP)
    assert result.as_numpy("map").dtype == np.float32
    assert [output["name"] for output in result.get_response()["outputs"]] == ["map", "verdict"]
    assert "data" not in result.get_output("map")
    assert result.get_output("verdict")["data"] == ["pass"]


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "json"])
def test_raw_pixels_are_inspected_as_they_are(
    settings: Settings, url: str, triton: InferenceServerClient, raw: bool
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    given = InferInput("pixels", [20, 30, 3], "UINT8").set_data_from_numpy(pixels, binary_data=raw)
    with working(settings):
        result = triton.infer("toy", [given])
    (inspection_id,) = values(result, "inspection_id")
    kept = httpx.get(f"{url}/v1/inspections/{inspection_id}/image").content
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(kept))), pixels)


def test_several_images_are_several_inspections_in_their_order(
    settings: Settings, triton: InferenceServerClient
) -> None:
    images = [picture(colour=colour) for colour in ("red", "green", "blue", "white")]
    with working(settings) as worker:
        result = triton.infer("toy", [files(*images)])
    assert values(result, "score") == [0.25, 0.5, 0.75, 1.0]
    assert values(result, "verdict") == ["pass", "review", "review", "fail"]
    assert values(result, "inspection_id") == [claimed.id for claimed in worker.seen]


def test_parameters_are_the_fields_of_the_inspection_and_the_id_is_kept(
    settings: Settings, url: str, triton: InferenceServerClient
) -> None:
    fields = {"serial": "SN-1", "lot": "L-42", "station": "line-3", "deadline_ms": 60_000}
    with working(settings):
        result = triton.infer("toy", [files(picture())], request_id="a7", parameters=fields, priority=1)
    assert result.get_response()["id"] == "a7"
    kept = httpx.get(f"{url}/v1/inspections/{values(result, 'inspection_id')[0]}").json()
    assert {name: kept[name] for name in fields} == fields
    assert (kept["priority"], kept["metadata"]) == ("high", {"request_id": "a7"})


def test_the_same_request_with_the_same_id_is_the_same_inspection_and_another_one_is_not(
    settings: Settings, triton: InferenceServerClient
) -> None:
    def inspection_id(image: bytes, **options: Any) -> str:
        return str(values(triton.infer("toy", [files(image)], **options), "inspection_id")[0])

    with working(settings) as worker:
        first = inspection_id(picture(), request_id="1")
        assert inspection_id(picture(), request_id="1") == first
        others = {
            inspection_id(picture(), request_id="2"),
            inspection_id(picture(), request_id="1", parameters={"serial": "SN-2"}),
            inspection_id(picture(colour="red"), request_id="1"),
            inspection_id(picture()),
            inspection_id(picture()),
        }
    assert len(others - {first}) == 5
    assert len(worker.seen) == 6


def test_who_waits_too_long_is_told_the_inspection_and_may_wait_on_with_the_same_request(
    settings: Settings, url: str, triton: InferenceServerClient
) -> None:
    with pytest.raises(InferenceServerException, match=r"is queued after 0\.01 s; it goes on") as refused:
        triton.infer("toy", [files(picture())], request_id="1", timeout=10_000)
    assert refused.value.status() == "504"
    inspection_id = refused.value.message().split()[1]
    assert httpx.get(f"{url}/v1/inspections/{inspection_id}").json()["state"] == "queued"
    with working(settings):
        result = triton.infer("toy", [files(picture())], request_id="1", timeout=30_000_000)
    assert values(result, "inspection_id") == [inspection_id]


def test_the_longest_wait_is_a_setting(client: redis.Redis, settings: Settings) -> None:
    short = settings.model_copy(update={"oip_wait_s": 0.01})
    with (
        server_on(short) as url,
        InferenceServerClient(url.removeprefix("http://")) as triton,
        pytest.raises(InferenceServerException, match=r"after 0\.01 s"),
    ):
        triton.infer("toy", [files(picture())])


def test_an_inspection_that_fails_is_an_error_that_names_it(settings: Settings, triton: InferenceServerClient) -> None:
    failure = Failure(code="model_not_finite", detail="the model gave NaN")
    with working(settings, failure) as worker, pytest.raises(InferenceServerException) as refused:
        triton.infer("toy", [files(picture())])
    assert refused.value.status() == "500"
    assert refused.value.message() == f"inspection {worker.seen[0].id} is failed: model_not_finite: the model gave NaN"


def test_a_deadline_that_passes_is_an_error_that_names_the_inspection(url: str, client: redis.Redis) -> None:
    gone = Failure(code="deadline_passed", detail="waited 5 ms")
    answers: list[InferenceServerException] = []

    def ask() -> None:
        with (
            InferenceServerClient(url.removeprefix("http://")) as triton,
            pytest.raises(InferenceServerException) as refused,
        ):
            triton.infer("toy", [files(picture())])
        answers.append(refused.value)

    asking = threading.Thread(target=ask)
    asking.start()
    queue = JobQueue(client)
    (claimed,) = queue.claim(1, block_ms=30_000)
    queue.fail(claimed, gone, state=State.EXPIRED)
    asking.join()
    assert answers[0].status() == "504"
    assert answers[0].message() == f"inspection {claimed.id} is expired: deadline_passed: waited 5 ms"


def test_compressed_requests_are_read(settings: Settings, triton: InferenceServerClient) -> None:
    with working(settings):
        for algorithm in ("gzip", "deflate"):
            result = triton.infer("toy", [files(picture())], request_compression_algorithm=algorithm)
            assert len(values(result, "inspection_id")) == 1


@pytest.mark.parametrize("name", ["GZIP", "x-gzip"])
def test_an_encoding_is_known_by_all_its_names(url: str, name: str) -> None:
    body = gzip.compress(b'{"inputs": []}', mtime=0)
    answer = httpx.post(f"{url}/v2/models/toy/infer", content=body, headers={"Content-Encoding": name})
    assert (answer.status_code, answer.json()["error"][:8]) == (400, "inputs: ")


@pytest.mark.parametrize(
    ("given", "status", "reason"),
    [
        (files(b"%PDF-1.7"), "415", "the content is a PDF document"),
        (files(picture()[:60]), "400", "does not decode"),
        (files(b""), "400", "0 bytes"),
        (files(picture(40, 30)), "422", "1200 pixels"),
        (files(*[picture()] * 17), "400", r"shape \[17\]: send 1 to 16 images"),
        (InferInput("x", [1], "BYTES").set_data_from_numpy(np.array([b"a"], np.object_)), "400", "the inputs are 'x'"),
        (
            InferInput("pixels", [2, 2], "UINT8").set_data_from_numpy(np.zeros((2, 2), np.uint8)),
            "400",
            r"\[height, width, 3\]",
        ),
        (
            InferInput("pixels", [40, 30, 3], "UINT8").set_data_from_numpy(np.zeros((40, 30, 3), np.uint8)),
            "400",
            "1200 pixels; the limit is 1000",
        ),
        (
            InferInput("image", [1], "FP32").set_data_from_numpy(np.zeros(1, np.float32)),
            "400",
            "datatype 'FP32': send BYTES",
        ),
    ],
)
def test_what_cannot_be_inspected_is_refused_and_nothing_is_accepted(
    triton: InferenceServerClient, client: redis.Redis, given: InferInput, status: str, reason: str
) -> None:
    with pytest.raises(InferenceServerException, match=reason) as refused:
        triton.infer("toy", [given])
    assert refused.value.status() == status
    assert JobQueue(client).claim(1) == []


@pytest.mark.parametrize(
    ("options", "status", "reason"),
    [
        ({"model_name": "toi"}, "404", "no product 'toi'; known: bracket, toy"),
        ({"model_version": "7"}, "404", "version '7' of 'toy' is not active; '1' is"),
        ({"parameters": {"serail": "SN-1"}}, "400", "parameter 'serail' is not known here: send serial, lot"),
        ({"parameters": {"deadline_ms": 0}}, "422", "deadline_ms: "),
        ({"outputs": [InferRequestedOutput("mapp")]}, "400", "output 'mapp' is not known: ask for verdict"),
        ({"timeout": -5}, "400", "parameter 'timeout' is '-5'"),
        ({"request_id": "x" * 257}, "400", "id: String should have at most 256 characters"),
    ],
)
def test_a_request_that_asks_for_what_there_is_not_is_refused(
    triton: InferenceServerClient, client: redis.Redis, options: dict[str, Any], status: str, reason: str
) -> None:
    with pytest.raises(InferenceServerException, match=reason) as refused:
        triton.infer(**{"model_name": "toy", "inputs": [files(picture())], **options})
    assert refused.value.status() == status
    assert JobQueue(client).claim(1) == []


def test_the_map_is_given_for_one_image_only(triton: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="'map' is given for one image; 2 came"):
        triton.infer("toy", [files(picture(), picture())], outputs=[InferRequestedOutput("map")])


def test_a_bad_image_among_several_names_those_that_were_accepted_before_it(
    triton: InferenceServerClient, client: redis.Redis
) -> None:
    with pytest.raises(InferenceServerException, match="image 1 of 3: the content is a PDF document") as refused:
        triton.infer("toy", [files(picture(), b"%PDF-1.7", picture())])
    (claimed,) = JobQueue(client).claim(2)
    assert refused.value.message().endswith(f"accepted before it: {claimed.id}")


def _shaped(*sides: str) -> bytes:
    """A request for pixels of this shape, each side as JSON has it."""
    return (
        f'{{"inputs": [{{"name": "pixels", "datatype": "UINT8", "shape": [{", ".join(sides)}], "data": [1]}}]}}'
    ).encode()


@pytest.mark.parametrize(
    ("body", "headers", "reason"),
    [
        (b"", {}, "request: "),
        (b"[]", {}, "request: "),
        (b'{"inputs": []}', {}, "inputs: "),
        (b'{"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1]}]}', {}, "one of the two"),
        (b'{"inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1], "data": []}]}', {}, "no side is negative"),
        (_shaped("2147483648"), {}, "shape.0: Input should be less than or equal to 2147483647"),
        (_shaped("9" * 4000, "9" * 4000, "3"), {}, "shape.0: Input should be less than or equal to 2147483647"),
        (_shaped("9" * 9000), {}, "number out of range"),
        (_shaped(*["2147483647"] * 8), {}, "send one RGB image"),
        (_shaped("2147483647", "2147483647", "3"), {}, "has 4611686014132420609 pixels; the limit is"),
        (
            b'{"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["?"]}]}',
            {},
            "is not base64 text",
        ),
        (b'{"inputs": [{"name": "image", "datatype": "BYTES", "shape": [2], "data": ["YQ=="]}]}', {}, "1 came"),
        (b'{"inputs": [{"name": "pixels", "datatype": "UINT8", "shape": [1,1,3], "data": [1,2,256]}]}', {}, "0 to 255"),
        (b"{}", {"Inference-Header-Content-Length": "9"}, "is 9; the body has 2 bytes"),
        (b"{}", {"Inference-Header-Content-Length": "-1"}, "is '-1': send the number"),
        (b"no gzip", {"Content-Encoding": "gzip"}, "is not gzip"),
        (b"{}", {"Content-Encoding": "br"}, "send gzip, deflate"),
        (gzip.compress(b"{}", mtime=0)[:-9], {"Content-Encoding": "gzip"}, "ends before its gzip data does"),
        (gzip.compress(b" " * (65 << 20), mtime=0), {"Content-Encoding": "gzip"}, "when it is unpacked"),
        (b" " * ((8 << 20) + 1), {}, "the JSON has 8388609 bytes"),
        (b"[" * 100_000, {}, "request: "),
    ],
)
def test_a_malformed_request_is_400_in_the_protocols_form(
    url: str, body: bytes, headers: dict[str, str], reason: str
) -> None:
    answer = httpx.post(f"{url}/v2/models/toy/infer", content=body, headers=headers, timeout=60)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/json")
    assert list(answer.json()) == ["error"]
    assert reason in answer.json()["error"]


@pytest.mark.parametrize(
    ("sizes", "behind", "reason"),
    [
        ([9], b"abc", "binary_data_size is 9; 3 bytes are left"),
        ([2], b"abc", "3 bytes lie behind the JSON; the inputs' binary_data_size name 2"),
        ([3], b"abc", "an element ends beyond the tensor's 3 bytes"),
        ([5], b"\x02\x00\x00\x00a", "an element ends beyond the tensor's 5 bytes"),
        ([5], b"\x00\x00\x00\x00a", "an element ends beyond the tensor's 5 bytes"),
        ([-1], b"abc", "binary_data_size is '-1'"),
        (["3"], b"abc", "binary_data_size is '3'"),
    ],
)
def test_raw_tensors_that_do_not_fit_their_sizes_are_refused(
    url: str, sizes: list[Any], behind: bytes, reason: str
) -> None:
    inputs = [
        {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": size}} for size in sizes
    ]
    head = json.dumps({"inputs": inputs}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    answer = httpx.post(f"{url}/v2/models/toy/infer", content=head + behind, headers=headers)
    assert answer.status_code == 400
    assert reason in answer.json()["error"]


def test_an_unknown_call_is_an_error_of_the_protocols_form(url: str) -> None:
    answer = httpx.get(f"{url}/v2/repository/index")
    assert answer.status_code == 404
    assert list(answer.json()) == ["error"]


def test_keys_and_scopes_count_here_too(settings: Settings, url: str, client: redis.Redis) -> None:
    store = KeyStore(client)
    camera, mes = store.create("camera", [Scope.SUBMIT]), store.create("mes", [Scope.READ])
    with server_on(settings) as fresh, InferenceServerClient(fresh.removeprefix("http://")) as triton:
        assert triton.is_server_live()
        assert triton.is_server_ready()
        with pytest.raises(InferenceServerException, match="send an API key") as refused:
            triton.get_model_metadata("toy")
        assert refused.value.status() == "401"
        with pytest.raises(InferenceServerException, match="takes 'submit'") as forbidden:
            triton.infer("toy", [files(picture())], headers={"X-API-Key": mes})
        assert forbidden.value.status() == "403"
        assert triton.get_model_metadata("toy", headers={"X-API-Key": mes})["name"] == "toy"
        with working(settings):
            result = triton.infer("toy", [files(picture())], headers={"Authorization": f"Bearer {camera}"})
        assert values(result, "verdict") == ["pass"]


def test_without_redis_the_answer_is_503_in_the_protocols_form(
    own_redis: RedisServer, toy_store: Path, tmp_path: Path
) -> None:
    settings = Settings(redis_url=own_redis.url, store=str(toy_store), data_dir=tmp_path)
    with server_on(settings) as url, InferenceServerClient(url.removeprefix("http://")) as triton:
        assert triton.is_server_ready()
        own_redis.kill()
        assert triton.is_server_live()
        assert not triton.is_server_ready()
        with pytest.raises(InferenceServerException, match="try again later") as refused:
            triton.infer("toy", [files(picture())])
        assert refused.value.status() == "503"
