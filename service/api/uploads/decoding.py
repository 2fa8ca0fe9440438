"""From a request to a decoded image and its fields: the content decides, never the headers or names around it."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from glad import image_codec
from service.errors import (
    BodyTooLarge,
    EmptyImage,
    FieldProblem,
    InvalidFields,
    MalformedForm,
    ServiceError,
    TooManyPixels,
    UndecodableImage,
    UnknownFormat,
)

IMAGE_FIELD = "image"
MAX_PARTS = 32
"""Of a form with one image; a batch has one more for each further image."""
MAX_FIELD_BYTES = 8192
FORMATS = "JPEG, PNG, BMP, TIFF or WebP"


@dataclass(frozen=True)
class Upload:
    """What came with one submission, before anything was checked."""

    content: bytes
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class BatchUpload:
    """What came with a batch, before anything was checked."""

    images: tuple[bytes, ...]
    fields: Mapping[str, str]


@dataclass(frozen=True)
class Described:
    """An image that decodes."""

    format: str
    width: int
    """Of the upright image, in pixels."""
    height: int
    sha256: str
    """Of the bytes as they came."""


@dataclass
class _Part:
    """One part of a form while it is read."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    content: bytearray = field(default_factory=bytearray)


class Decoder:
    """Decodes every byte of an image, a few images at a time. Pillow lets other threads run while it decodes."""

    def __init__(self, threads: int, max_pixels: int, max_bytes: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._max_pixels, self._max_bytes = max_pixels, max_bytes

    async def upload(self, request: Request) -> Upload:
        """Reads a raw body with query parameters, or a multipart form. MalformedForm, or InvalidFields."""
        body = await request.body()
        query = _unique(request.query_params.multi_items(), "query parameter")
        content_type = request.headers.get("content-type", "")
        if content_type.partition(";")[0].strip().lower() != "multipart/form-data" or _is_image(body):
            return Upload(body, query)
        return await asyncio.get_running_loop().run_in_executor(self._pool, _form, content_type, body, query)

    async def batch(self, request: Request, most: int) -> BatchUpload:
        """Reads a multipart form with up to `most` images. MalformedForm, or InvalidFields."""
        body = await request.body()
        query = _unique(request.query_params.multi_items(), "query parameter")
        content_type = request.headers.get("content-type", "")
        found = await asyncio.get_running_loop().run_in_executor(
            self._pool, _batch_form, content_type, body, query, MAX_PARTS + most - 1
        )
        if not 1 <= len(found.images) <= most:
            raise _refused(
                IMAGE_FIELD,
                f"comes {len(found.images)} times; send 1 to {most} images in a multipart form: "
                f"curl -F {IMAGE_FIELD}=@a.png -F {IMAGE_FIELD}=@b.png",
            )
        return found

    async def describe(self, content: bytes) -> Described:
        """Decodes the image once, to know that the worker can. EmptyImage, UnknownFormat, UndecodableImage,
        TooManyPixels, or BodyTooLarge."""
        if len(content) > self._max_bytes:
            raise BodyTooLarge(
                f"the image has {len(content)} bytes; at most {self._max_bytes} are allowed: send a smaller one, or "
                "raise GLAD_MAX_IMAGE_BYTES"
            )
        return await asyncio.get_running_loop().run_in_executor(self._pool, _describe, content, self._max_pixels)

    def close(self) -> None:
        """Ends the threads after what they have in hand."""
        self._pool.shutdown()


def _describe(content: bytes, max_pixels: int) -> Described:
    try:
        found = image_codec.check_image(content, max_pixels=max_pixels)
    except image_codec.ImageError as error:
        raise _as_problem(error) from error
    return Described(found.format, found.width, found.height, hashlib.sha256(content).hexdigest())


def _as_problem(error: image_codec.ImageError) -> ServiceError:
    match error:
        case image_codec.EmptyImageFile():
            return EmptyImage(str(error))
        case image_codec.UnknownImageFormat():
            return UnknownFormat(str(error))
        case image_codec.ImageTooLarge():
            return TooManyPixels(f"{error}, or raise GLAD_MAX_PIXELS")
        case _:
            return UndecodableImage(str(error))


def _is_image(body: bytes) -> bool:
    try:
        image_codec.sniff_format(body)
    except image_codec.ImageError:
        return False
    return True


def _form(content_type: str, body: bytes, query: dict[str, str]) -> Upload:
    """The form's image and fields; query parameters count where the form is silent."""
    found = _batch_form(content_type, body, query, MAX_PARTS)
    if len(found.images) != 1:
        raise _refused(IMAGE_FIELD, f"comes {len(found.images)} times; send it once: curl -F {IMAGE_FIELD}=@part.png")
    return Upload(found.images[0], found.fields)


def _batch_form(content_type: str, body: bytes, query: dict[str, str], max_parts: int) -> BatchUpload:
    images: list[bytes] = []
    texts: list[tuple[str, str]] = []
    for name, is_file, content in _parts(content_type, body, max_parts):
        if name == IMAGE_FIELD:
            images.append(content)
        elif is_file:
            raise _refused(name, f"is a file; the only file is {IMAGE_FIELD!r}: send text as a plain field")
        else:
            texts.append((name, _text(name, content)))
    return BatchUpload(tuple(images), {**query, **_unique(texts, "form field")})


def _text(name: str, content: bytes) -> str:
    if len(content) > MAX_FIELD_BYTES:
        raise _refused(name, f"is {len(content)} bytes; at most {MAX_FIELD_BYTES} are allowed")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise _refused(name, "is not UTF-8") from error


def _unique(pairs: list[tuple[str, str]], what: str) -> dict[str, str]:
    twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if twice:
        raise _refused(twice[0], f"comes more than once as {what}: send it once")
    return dict(pairs)


def _refused(name: str, message: str) -> InvalidFields:
    shown = name[:100].encode(errors="replace").decode()
    return InvalidFields(f"{shown}: {message}", errors=[FieldProblem(field=shown, message=message)])


def _parts(content_type: str, body: bytes, max_parts: int) -> list[tuple[str, bool, bytes]]:
    """(name, came with a file name, content) of every part of a multipart body."""
    reader = _FormReader(max_parts)
    _, options = parse_options_header(content_type)
    try:
        parser = MultipartParser(options[b"boundary"], reader.callbacks())
        parser.write(body)
        parser.finalize()
    except (KeyError, ValueError) as error:
        reason = "the header names no boundary" if isinstance(error, KeyError) else str(error)
        raise MalformedForm(
            f"the multipart body cannot be read ({reason}): let the HTTP library make it, or send the image as the body"
        ) from error
    if not reader.ended:
        raise MalformedForm("the multipart body ends before its closing boundary: it was cut off; send it again")
    return [_named(part) for part in reader.parts]


def _named(part: _Part) -> tuple[str, bool, bytes]:
    _, options = parse_options_header(part.headers.get(b"content-disposition", b""))
    if b"name" not in options:
        raise MalformedForm("a part of the form has no name: send `Content-Disposition: form-data; name=...`")
    return options[b"name"].decode(errors="replace"), b"filename" in options, bytes(part.content)


class _FormReader:
    """Collects the parts that the parser reports, in memory: the body is there already, and bounded."""

    def __init__(self, max_parts: int) -> None:
        self._max_parts = max_parts
        self.parts: list[_Part] = []
        self.ended = False
        self._name, self._value = bytearray(), bytearray()

    def callbacks(self) -> Any:
        """What the parser calls, by the names that it knows."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header,
            "on_part_data": lambda data, start, end: self.parts[-1].content.extend(data[start:end]),
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.parts) == self._max_parts:
            raise MultipartParseError(f"more than {self._max_parts} parts")
        self.parts.append(_Part())

    def _header(self) -> None:
        self.parts[-1].headers[bytes(self._name).lower()] = bytes(self._value)
        self._name, self._value = bytearray(), bytearray()

    def _end(self) -> None:
        self.ended = True
