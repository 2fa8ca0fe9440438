"""The client and the camera against real local servers that misbehave."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from glad_client.async_client import AsyncClient
from glad_client.camera.destination import Destination, Labels
from glad_client.camera.line_camera import CameraShot, LineCamera, find_images, header, make_report, row
from glad_client.client import Client
from glad_client.errors import ApiError, NotFinished, Unreachable
from service.contract import (
    BundleId,
    Failure,
    Result,
    State,
    Thresholds,
    Timings,
    Verdict,
    new_inspection_id,
    now,
    rfc3339,
)


def inspection(state: State = State.DONE, **fields: Any) -> Result:
    """An inspection as the service would send it."""
    ended: dict[State, dict[str, Any]] = {
        State.DONE: {"verdict": Verdict.REVIEW, "score": 0.4321, "denoising_step": 271},
        State.FAILED: {"error": Failure(code="model_error", detail="it broke")},
    }
    timings = Timings(queue=1, decode=2, encode=3, denoise=4, score=5, total=15.4)
    return Result.model_validate(
        {
            "id": new_inspection_id(),
            "state": state,
            "product": "bracket",
            "bundle": BundleId(version="1", hash="0" * 64),
            "thresholds": Thresholds(review=0.3, fail=0.5, pixel=1),
            "image_sha256": "0" * 64,
            "width": 8,
            "height": 8,
            "accepted_at": now(),
            "timings_ms": timings if state is State.DONE else None,
            **ended.get(state, {}),
            **fields,
        }
    )


@dataclass(frozen=True)
class Answer:
    """What the server shall say next."""

    status: int
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Server:
    """Gives its answers in order, the last one for ever, and keeps what it was asked."""

    url: str
    answers: list[Answer] = field(default_factory=list)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._reply()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._reply()

        def _reply(self) -> None:
            with lock:
                told.asked.append(
                    (self.command, self.path, {name.lower(): text for name, text in self.headers.items()})
                )
                answer = told.answers.pop(0) if len(told.answers) > 1 else told.answers[0]
            self.send_response(answer.status)
            for name, value in {**answer.headers, "Content-Length": str(len(answer.body.encode()))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    lock = threading.Lock()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        told = Server(f"http://127.0.0.1:{http.server_address[1]}")
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield told
        http.shutdown()
        thread.join()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url, patience_s=5) as client:
        yield client


def test_every_image_goes_with_its_digest(server: Server, client: Client) -> None:
    server.answers = [Answer(202, inspection(State.QUEUED).model_dump_json())]
    client.submit("bracket", b"part")
    ((_, _, headers),) = server.asked
    # printf part | openssl dgst -sha256 -binary | base64
    assert headers["content-digest"] == "sha-256=:N6aAEzvQk0L5NK+43Sx9nhtiTaXzXjo4rbED43wFXtE=:"


def test_an_image_that_was_changed_on_its_way_is_sent_again_as_the_same_one(server: Server, client: Client) -> None:
    problem = {"type": "urn:glad:problem:digest-mismatch", "title": "Content-Digest not met", "detail": "other bytes"}
    server.answers = [Answer(400, json.dumps(problem)), Answer(200, inspection().model_dump_json())]
    assert client.submit("bracket", b"part").verdict is Verdict.REVIEW
    first, second = (headers["idempotency-key"] for _, _, headers in server.asked)
    assert first == second


def test_a_busy_service_is_asked_again_after_the_time_it_names(server: Server, client: Client) -> None:
    done = inspection()
    server.answers = [
        Answer(503, headers={"Retry-After": "0"}),
        Answer(429, headers={"Retry-After": "0"}),
        Answer(200, done.to_json()),
    ]
    assert client.submit("bracket", b"image") == done
    assert len(server.asked) == 3


def test_every_attempt_of_one_submission_has_the_same_key_and_two_submissions_have_two(
    server: Server, client: Client
) -> None:
    server.answers = [Answer(503, headers={"Retry-After": "0"}), Answer(200, inspection().to_json())]
    client.submit("bracket", b"image")
    client.submit("bracket", b"image")
    keys = [headers["idempotency-key"] for _, _, headers in server.asked]
    assert keys[0] == keys[1] != keys[2]


def test_a_request_that_the_service_refuses_is_not_repeated_and_says_why(server: Server, client: Client) -> None:
    server.answers = [Answer(415, json.dumps({"title": "Unknown format", "detail": "the content starts with 00"}))]
    with pytest.raises(ApiError, match="415 Unknown format: the content starts with 00"):
        client.submit("bracket", b"nonsense")
    assert len(server.asked) == 1


def test_a_wait_longer_than_the_clients_patience_is_given_up(server: Server, client: Client) -> None:
    server.answers = [
        Answer(429, json.dumps({"title": "Full", "detail": "the backlog is full"}), {"Retry-After": "60"})
    ]
    with pytest.raises(Unreachable, match="last: 429 the backlog is full"):
        client.submit("bracket", b"image")
    assert len(server.asked) == 1


def test_nobody_there_is_unreachable() -> None:
    with Client("http://127.0.0.1:9", patience_s=0.2) as client, pytest.raises(Unreachable, match="ConnectError"):
        client.products()


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_key_that_cannot_be_sent_is_refused_at_once(kind: type[Client | AsyncClient]) -> None:
    with pytest.raises(ValueError, match="api_key holds characters that no API key has"):
        kind("http://127.0.0.1:9", api_key="glad_…")


def test_fields_and_the_wish_to_wait_are_sent(server: Server, client: Client) -> None:
    server.answers = [Answer(200, inspection().to_json())]
    client.submit("bracket", b"image", wait_s=5, fields={"serial": "SN 1"})
    _, path, headers = server.asked[0]
    assert path == "/v1/products/bracket/inspections?serial=SN+1"
    assert headers["prefer"] == "wait=5"


def test_a_station_is_an_address_where_no_product_is_named(server: Server, client: Client) -> None:
    server.answers = [Answer(200, inspection().to_json())]
    client.submit(None, b"image", station="line 3/a", fields={"serial": "SN 1"})
    assert server.asked[0][1] == "/v1/stations/line%203%2Fa/inspections?serial=SN+1"
    for product, station in ((None, None), ("bracket", "line-3")):
        with pytest.raises(ValueError, match="give a product, or None and a station"):
            client.submit(product, b"image", station=station)


def test_a_wait_that_the_service_would_refuse_is_refused_here(client: Client) -> None:
    with pytest.raises(ValueError, match="wait_s is 31; it must be 0 to 30"):
        client.submit("bracket", b"image", wait_s=31)


def test_a_name_stays_one_word_of_the_address(server: Server, client: Client) -> None:
    server.answers = [Answer(404, json.dumps({"title": "Unknown"}))]
    for ask in (
        lambda: client.get("a/../b?c#d"),
        lambda: client.artifact("a b", "image"),
        lambda: client.submit("a/b", b"x"),
    ):
        with pytest.raises(ApiError):
            ask()
    assert [path for _, path, _ in server.asked] == [
        "/v1/inspections/a%2F..%2Fb%3Fc%23d",
        "/v1/inspections/a%20b/image",
        "/v1/products/a%2Fb/inspections",
    ]


def test_a_reader_that_is_cut_off_behind_a_reset_asks_again_from_where_it_was(server: Server, client: Client) -> None:
    event = {
        "type": "inspection.expired",
        "inspection_id": new_inspection_id(),
        "product": "bracket",
        "at": rfc3339(now()),
    }
    server.answers = [
        Answer(200, "retry: 2000\nevent: reset\ndata: {}\n\n"),
        Answer(200, f"id: 9-0\nevent: inspection.expired\ndata: {json.dumps(event)}\n\n"),
    ]
    events = client.events(last_event_id="1-0")
    assert [next(events).type, next(events).type] == ["reset", "inspection.expired"]
    assert [headers["last-event-id"] for _, _, headers in server.asked] == ["1-0", "1-0"]


def test_wait_asks_until_the_end(server: Server, client: Client) -> None:
    queued, done = inspection(State.QUEUED), inspection()
    server.answers = [Answer(200, queued.to_json()), Answer(200, done.to_json())]
    assert client.wait(done.id, every_s=0) == done


def test_wait_gives_up_and_names_the_state(server: Server, client: Client) -> None:
    server.answers = [Answer(200, inspection(State.QUEUED).to_json())]
    with pytest.raises(NotFinished, match="is queued after 0 s"):
        client.wait("any", seconds=0)


def test_an_image_sent_with_a_key_that_may_not_read_counts_as_accepted_not_as_refused(
    server: Server, client: Client
) -> None:
    queued = inspection(State.QUEUED)
    refused = json.dumps({"title": "Key lacks a scope", "detail": "key 'line-3' has the scope submit"})
    server.answers = [Answer(202, queued.to_json()), Answer(403, refused)]
    with pytest.raises(NotFinished, match=rf"{queued.id} was accepted and goes on.*scopes submit and read"):
        client.inspect("bracket", b"image", seconds=1)
    server.answers = [Answer(403, refused)]
    with pytest.raises(ApiError, match="403 Key lacks a scope"):  # such a key may not submit either
        client.inspect("bracket", b"image", seconds=1)


@pytest.mark.parametrize("address", ["127.0.0.1:8000", "inspect.plant:8000", "ftp://inspect.plant"])
def test_an_address_without_http_is_refused_at_once(address: str) -> None:
    with pytest.raises(ValueError, match=rf"url is '{address}': give .* with http:// or https://"):
        Client(address)
    with pytest.raises(ValueError, match=rf"url is '{address}'"):
        AsyncClient(address)


def test_a_picture_that_is_being_drawn_is_waited_for(server: Server, client: Client) -> None:
    drawn_soon = Answer(202, headers={"Retry-After": "0"})
    server.answers = [drawn_soon, drawn_soon, Answer(200, "the picture")]
    assert client.artifact("any", "reconstruction.png") == b"the picture"
    assert len(server.asked) == 3


def test_a_picture_that_nobody_draws_is_given_up(server: Server, client: Client) -> None:
    server.answers = [Answer(202, headers={"Retry-After": "60"})]
    with pytest.raises(NotFinished, match=r"reconstruction.png of any was not drawn in 5 s"):
        client.artifact("any", "reconstruction.png")


class TestAsyncClient:
    """Builds the same requests and decides alike; what differs is how it sends and waits."""

    async def test_a_busy_service_is_asked_again_with_the_same_key(self, server: Server) -> None:
        done = inspection()
        server.answers = [Answer(503, headers={"Retry-After": "0"}), Answer(200, done.to_json())]
        async with AsyncClient(server.url, patience_s=5, api_key="glad_1") as client:
            assert await client.submit("bracket", b"image", wait_s=5, fields={"serial": "SN 1"}) == done
        (_, first, one), (_, second, two) = server.asked
        assert first == second == "/v1/products/bracket/inspections?serial=SN+1"
        assert one["idempotency-key"] == two["idempotency-key"]
        assert (one["prefer"], one["authorization"]) == ("wait=5", "Bearer glad_1")

    async def test_a_refusal_says_why_and_nobody_there_is_unreachable(self, server: Server) -> None:
        server.answers = [Answer(415, json.dumps({"title": "Unknown format", "detail": "it starts with 00"}))]
        async with AsyncClient(server.url) as client:
            with pytest.raises(ApiError, match="415 Unknown format: it starts with 00"):
                await client.submit("bracket", b"nonsense")
        async with AsyncClient("http://127.0.0.1:9", patience_s=0.2) as client:
            with pytest.raises(Unreachable, match="ConnectError"):
                await client.products()

    async def test_many_wait_at_the_same_time(self, server: Server) -> None:
        queued, done = inspection(State.QUEUED), inspection()
        server.answers = [*[Answer(200, queued.to_json())] * 20, Answer(200, done.to_json())]
        async with AsyncClient(server.url) as client:
            found = await asyncio.gather(*(client.wait(done.id, every_s=0.01) for _ in range(20)))
        assert found == [done] * 20

    async def test_wait_gives_up_and_names_the_state(self, server: Server) -> None:
        server.answers = [Answer(200, inspection(State.QUEUED).to_json())]
        async with AsyncClient(server.url) as client:
            with pytest.raises(NotFinished, match="is queued after 0 s"):
                await client.wait("any", seconds=0)


def test_both_clients_have_the_same_methods() -> None:
    def surface(kind: type) -> dict[str, list[str]]:
        public = {name: getattr(kind, name) for name in vars(kind) if not name.startswith("_")}
        return {name: list(inspect.signature(method).parameters) for name, method in public.items()}

    assert surface(AsyncClient) == surface(Client)


class TestCamera:
    def test_images_are_found_in_subfolders_in_the_order_of_their_paths(self, tmp_path: Path) -> None:
        for name in ("b.PNG", "a/z.jpg", "notes.txt"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(b"")
        assert find_images(tmp_path) == [tmp_path / "a" / "z.jpg", tmp_path / "b.PNG"]
        assert len(find_images(tmp_path, limit=1)) == 1

    def test_a_folder_without_images_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="holds no image"):
            find_images(tmp_path)
        with pytest.raises(ValueError, match="is not a folder"):
            find_images(tmp_path / "nowhere")

    def test_every_image_has_an_outcome_in_the_order_posted(self, server: Server, tmp_path: Path) -> None:
        server.answers = [Answer(415, json.dumps({"title": "Unknown format"})), Answer(200, inspection().to_json())]
        for name in ("1.png", "2.png", "3.png"):
            (tmp_path / name).write_bytes(name.encode())
        with Client(server.url, patience_s=5) as client:
            camera = LineCamera(client, Destination("bracket"), rate=1000)
            shots = list(camera.shoot(tmp_path, find_images(tmp_path), wait_s=5))
            found = make_report(camera, shots, seconds=1.0)
        assert [shot.file for shot in shots] == ["1.png", "2.png", "3.png"]
        assert (found.images, found.results) == (3, 2)
        assert [shot.error for shot in shots if shot.error] == ["415 Unknown format"]

    def test_the_same_image_has_the_same_key_in_a_second_run_unless_asked_anew(
        self, server: Server, tmp_path: Path
    ) -> None:
        server.answers = [Answer(200, inspection().to_json())]
        (tmp_path / "1.png").write_bytes(b"image")
        with Client(server.url) as client:
            for run in ("", "", "anew"):
                list(
                    LineCamera(client, Destination("bracket"), 1000, run).shoot(
                        tmp_path, find_images(tmp_path), wait_s=None
                    )
                )
        keys = [headers["idempotency-key"] for _, _, headers in server.asked]
        assert keys[0] == keys[1] != keys[2]

    def test_fields_are_sent_with_each_image_and_one_whose_name_lacks_them_is_not(
        self, server: Server, tmp_path: Path
    ) -> None:
        server.answers = [Answer(200, inspection().to_json())]
        for name in ("SN1.png", "x.png"):
            (tmp_path / name).write_bytes(b"image")
        labels = Labels.parse(["lot=L-42"], "(?P<serial>SN[0-9]+)")
        with Client(server.url) as client:
            camera = LineCamera(client, Destination("bracket", "line-3", labels), 1000)
            sent, unsent = camera.shoot(tmp_path, find_images(tmp_path), wait_s=None)
            assert make_report(camera, [sent], seconds=1.0).station == "line-3"
        assert sent.is_accepted
        assert unsent.error == "not sent: its name does not match '(?P<serial>SN[0-9]+)'"
        paths = [path for _, path, _ in server.asked]
        assert paths == ["/v1/products/bracket/inspections?station=line-3&lot=L-42&serial=SN1"]

    def test_a_row_tells_verdict_score_step_and_latency(self) -> None:
        words = row(CameraShot(file="good/1.png", inspection=inspection())).split()
        assert words == ["good/1.png", "review", "0.4321", "271", "15", "ms"]
        assert header().split() == ["file", "verdict", "score", "step", "latency"]

    def test_a_row_without_a_result_says_why(self) -> None:
        assert "missing" in row(CameraShot(file="1.png", error="503 away"))
        assert row(CameraShot(file="1.png", error="503 away")).endswith("503 away")
        failed = row(CameraShot(file="1.png", inspection=inspection(State.FAILED)))
        assert "failed" in failed
        assert failed.endswith("model_error: it broke")
