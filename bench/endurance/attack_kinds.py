"""The attacks: each is what one client may do to the others with a key of its own, or without any."""

from __future__ import annotations

import asyncio
import gzip
import io
import itertools
import json
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from bench.endurance.attacker import Attacker, request_head

PIECE = b"X-Filler: " + b"a" * 65_000 + b"\r\n"
LARGE_BODY = 60 << 20
LARGEST_IMAGE = 64 << 20
"""GLAD_MAX_IMAGE_BYTES by default."""
NESTED_ARRAYS = 1_000_000
"""In 20 KB when packed; hard to parse."""
IMAGE_SIDE_PX = 2700
"""A BMP of so many pixels a side has 20 MB."""
FIELDS_EVERY_S = 0.5
UNREAD_S = 40.0
"""Then a reader that reads nothing asks again, if the service has not ended its connection."""
HUNG_S = 5.0
NONCHARACTERS = "\ufdd0 \ufffe \uffff \U0001ffff \U0010ffff"


@dataclass(frozen=True)
class AttackKind:
    """An attack."""

    what: str
    """In a table."""
    run: Callable[[Attacker], Awaitable[None]]


async def silent_after_refusal(attacker: Attacker) -> None:
    """Send one byte of a body that is refused for want of a key, and then nothing."""

    async def session() -> None:
        reader, writer = await attacker.connect()
        writer.write(request_head("POST", attacker.target.images, "Content-Length: 1000"))
        await attacker.answer(reader)
        writer.write(b"5")
        await attacker.stay_silent(reader, writer)

    await attacker.repeat(1009, session)


async def endless_trailers(attacker: Attacker) -> None:
    """After a refusal, and after an accepted image, send trailers without end."""
    image = small_image()

    async def session(key: str | None, body: bytes) -> None:
        reader, writer = await attacker.connect()
        writer.write(request_head("POST", attacker.target.images, "Transfer-Encoding: chunked", key=key))
        writer.write(body + b"0\r\n")
        while not writer.is_closing():
            writer.write(PIECE)
            await writer.drain()
        await attacker.stay_silent(reader, writer)

    with_key = f"{len(image):x}\r\n".encode() + image + b"\r\n"
    bodies = itertools.cycle(((None, b""), (attacker.target.key, with_key)))
    await attacker.repeat(16, lambda: session(*next(bodies)))


async def silent_connections(attacker: Attacker) -> None:
    """Connect more often than the service has connections for, and say nothing."""

    async def session() -> None:
        await attacker.stay_silent(*await attacker.connect())

    await attacker.repeat(1009, session)


async def silent_to_the_worker(attacker: Attacker) -> None:
    """Connect to the ports of worker and outbox, and say nothing."""
    ports = itertools.cycle(attacker.target.health_ports)

    async def session() -> None:
        await attacker.stay_silent(*await attacker.connect(next(ports)))

    await attacker.repeat(1000, session)


async def hostile_images(attacker: Attacker) -> None:
    """Post small images that take a decoder much time or memory."""
    from tests.support import costly_images as costly

    files = [
        *costly.refused_by_their_headers().values(),
        costly.run_lengths(3000),
        costly.clear_level(7900),
        costly.repeated_scans(60),
    ]
    images = itertools.cycle(files)

    async def session() -> None:
        await attacker.call("POST", attacker.target.images, attacker.target.key, content=next(images))

    await attacker.repeat(8, session)


async def silent_uploads(attacker: Attacker) -> None:
    """Send the largest images but for their last byte."""
    body = bytes(LARGEST_IMAGE - 1)

    async def session() -> None:
        reader, writer = await attacker.connect()
        length = f"Content-Length: {LARGEST_IMAGE}"
        writer.write(request_head("POST", attacker.target.images, length, key=attacker.target.key))
        with suppress(ConnectionError):
            writer.write(body)
            await writer.drain()
        await attacker.answer(reader)
        await attacker.stay_silent(reader, writer)

    await attacker.repeat(8, session)


async def large_json(attacker: Attacker) -> None:
    """Send 60 MB of JSON to each address that takes JSON, and to stations that are named like other calls."""
    body = b'{"note": "' + b"x" * LARGE_BODY + b'"}'
    calls = itertools.cycle(await _json_calls(attacker))

    async def session() -> None:
        method, path, key = next(calls)
        await attacker.call(method, path, key, content=body, headers={"Content-Type": "application/json"})

    await attacker.repeat(8, session)


async def _json_calls(attacker: Attacker) -> list[tuple[str, str, str]]:
    """Return method, path and key: one that may only read, or, for inference requests, one that may send."""
    target = attacker.target
    document = (await attacker.http.get("/openapi.json")).json()
    taken = [
        (method.upper(), path.replace("{product}", target.product).replace("{", "").replace("}", ""))
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if "application/json" in operation.get("requestBody", {}).get("content", {})
    ]
    taken += [("PUT", f"/v1/stations/{name}") for name in ("infer", "inspections", "inspections:batch")]
    return [("POST", target.infer, target.key), *((method, path, target.read_key) for method, path in taken)]


async def packed_bodies(attacker: Attacker) -> None:
    """Send small inference requests that unpack to 60 MB, or to JSON that is hard to parse."""
    spaces = gzip.compress(b" " * LARGE_BODY)
    nested = b"[" + b"[]," * NESTED_ARRAYS + b"[]]"
    tensor = b'{"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ' + nested + b"}]}"
    bodies = itertools.cycle((spaces, gzip.compress(tensor)))

    async def session() -> None:
        path, key = attacker.target.infer, attacker.target.key
        await attacker.call("POST", path, key, content=next(bodies), headers={"Content-Encoding": "gzip"})

    await attacker.repeat(24, session)


async def readers_that_do_not_read(attacker: Attacker) -> None:
    """Ask for a large image and for documents, and read nothing of them."""
    paths = itertools.cycle((await stored_image(attacker), "/openapi.json"))

    async def session() -> None:
        stream = socket.socket()
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stream.setblocking(False)
        with stream:
            loop = asyncio.get_running_loop()
            await loop.sock_connect(stream, ("127.0.0.1", attacker.target.port))
            await loop.sock_sendall(stream, request_head("GET", next(paths), key=attacker.target.key))
            attacker.tally["asked"] += 1
            await asyncio.sleep(UNREAD_S)

    await attacker.repeat(120, session)


async def hung_image_store(attacker: Attacker) -> None:
    """Ask for an image that the store does not give: it hangs, as a network disk does whose server has gone."""
    path = await stored_image(attacker)
    (file,) = Path(attacker.target.image_folder).rglob(f"{path.split('/')[-2]}/image")
    content = file.read_bytes()
    file.unlink()
    os.mkfifo(file)
    try:
        await attacker.repeat(50, lambda: _get(attacker, path))
    finally:
        with suppress(OSError):  # nobody waits
            os.close(os.open(file, os.O_WRONLY | os.O_NONBLOCK))
        file.unlink()
        file.write_bytes(content)


async def probes_at_any_rate(attacker: Attacker) -> None:
    """Ask whether the service is ready, and for its metrics, as often as it answers."""
    paths = itertools.cycle(("/health/ready", "/health/ready", "/metrics"))

    async def session() -> None:
        await attacker.call("GET", next(paths), None)

    await attacker.repeat(32, session)


async def event_streams(attacker: Attacker) -> None:
    """Follow the events more often than is allowed, from the first one on."""

    async def session() -> None:
        async with attacker.http.stream(
            "GET", "/v1/events", params={"after": 0}, headers={"X-API-Key": attacker.target.read_key}
        ) as answer:
            attacker.tally[f"answered {answer.status_code}"] += 1
            async for _ in answer.aiter_bytes():
                pass

    await attacker.repeat(150, session)


async def valid_images(attacker: Attacker) -> None:
    """Send valid images as fast as they are answered, more than the backlog has places."""
    image = small_image()

    async def session() -> None:
        await attacker.call("POST", attacker.target.images, attacker.target.key, content=image)

    await attacker.repeat(32, session)


async def noncharacters(attacker: Attacker) -> None:
    """Send images with texts in their fields that few programs expect."""
    image, names = small_image(), itertools.cycle(("station", "serial", "lot", "view", "metadata"))
    texts = itertools.cycle((*NONCHARACTERS.split(), "\0", "\u202e", "#+/$SYS"))

    async def session() -> None:
        name, text = next(names), next(texts)
        fields = {name: json.dumps({"a": text}) if name == "metadata" else f"line {text}"}
        await attacker.call("POST", attacker.target.images, attacker.target.key, content=image, params=fields)

    await attacker.repeat(1, session, pause_s=FIELDS_EVERY_S)


async def _get(attacker: Attacker, path: str) -> None:
    await attacker.call("GET", path, attacker.target.key, timeout=HUNG_S)


async def stored_image(attacker: Attacker) -> str:
    """Submit an image of 20 MB; return the path of its bytes."""
    target = io.BytesIO()
    Image.new("RGB", (IMAGE_SIDE_PX, IMAGE_SIDE_PX), "teal").save(target, "BMP")
    answer = await attacker.call("POST", attacker.target.images, attacker.target.key, content=target.getvalue())
    return f"{answer.raise_for_status().headers['location']}/image"


def small_image() -> bytes:
    """Return an image file of some hundred bytes."""
    target = io.BytesIO()
    Image.new("RGB", (32, 32), "teal").save(target, "PNG")
    return target.getvalue()


ATTACKS: dict[str, AttackKind] = {
    "silent-after-refusal": AttackKind("1009 connections, silent after a refusal", silent_after_refusal),
    "endless-trailers": AttackKind("16 requests with endless trailers", endless_trailers),
    "silent-connections": AttackKind("1009 silent connections", silent_connections),
    "silent-to-worker": AttackKind("1000 silent connections to worker and outbox", silent_to_the_worker),
    "hostile-images": AttackKind("8 posters of hostile images", hostile_images),
    "silent-uploads": AttackKind("8 uploads, each one byte short", silent_uploads),
    "large-json": AttackKind("8 times 60 MB of JSON, to every address", large_json),
    "packed-bodies": AttackKind("24 packed inference requests", packed_bodies),
    "silent-readers": AttackKind("120 readers that do not read", readers_that_do_not_read),
    "hung-store": AttackKind("50 readers while the image store hangs", hung_image_store),
    "probes": AttackKind("32 callers of readiness and metrics", probes_at_any_rate),
    "event-streams": AttackKind("150 event streams", event_streams),
    "valid-images": AttackKind("32 posters of valid images", valid_images),
    "noncharacters": AttackKind("odd characters in fields", noncharacters),
}
