"""From a request to an image that decodes. The content decides what it is, never the headers or names around it."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from glad import image_codec
from glad.image_codec import Pixels
from service.api.uploads.decode_turns import DecodeTurn, DecodeTurns
from service.api.uploads.digests import read_body
from service.api.uploads.forms import IMAGE_FIELD, read_form
from service.errors import (
    BodyTooLarge,
    DecodingTooCostly,
    DecodingUnavailable,
    EmptyImage,
    InvalidFields,
    ServiceError,
    TooManyPixels,
    UndecodableImage,
    UnknownFormat,
)
from service.host.decoder_pool import DecoderPool, DecoderUnavailable

PREVIEWS = "previews"
"""Who takes the turns of pictures that are drawn; no API key has such an id."""
MAX_PARTS = 32
"""Of a form with one image; a batch may have one more for each further image."""


@dataclass(frozen=True)
class Upload:
    """A submission as it came, before anything was checked."""

    content: bytes
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class BatchUpload:
    """Several images that came in one form, before anything was checked."""

    images: tuple[bytes, ...]
    fields: Mapping[str, str]


@dataclass(frozen=True)
class CheckedImage:
    """An image that decodes."""

    format: str
    width: int
    """Of the upright image, in pixels."""
    height: int
    sha256: str
    """Of the bytes as they came."""


class Decoder:
    """Reads uploads, and has every byte of their images decoded in other processes; a few threads wait for these."""

    def __init__(
        self, images: DecoderPool, *, threads: int, max_pixels: int, max_bytes: int, intact: bool, retry_after_s: int
    ) -> None:
        self._images = images
        self._turns = DecodeTurns(threads)
        # One more than there are turns: to read a form no image is waited for.
        self._pool = ThreadPoolExecutor(threads + 1, thread_name_prefix="decode")
        self._max_pixels, self._max_bytes, self._intact = max_pixels, max_bytes, intact
        self._retry_after_s = retry_after_s

    def start(self) -> None:
        """Start a decoder process, so that the first image need not wait for it."""
        self._images.start()

    async def read_upload(self, request: Request) -> Upload:
        """Return the image and fields of a request: a raw body with query parameters, or a multipart form.

        A body that begins as an image is one, whatever its content type says.

        Raises:
            DigestMismatch: if the body, or a part of the form, is not what its Content-Digest says.
            MalformedForm: if the form cannot be read.
            InvalidFields: if a field comes twice, or the form has not exactly one image.
        """
        body = await read_body(request, self._pool)
        content_type = request.headers.get("content-type", "")
        if content_type.partition(";")[0].strip().lower() != "multipart/form-data" or _is_image(body):
            return Upload(body, _query_fields(request))
        form = await self._read_form(request, body, MAX_PARTS)
        if len(form.images) != 1:
            raise InvalidFields.for_field(
                IMAGE_FIELD, f"comes {len(form.images)} times; send it once: curl -F {IMAGE_FIELD}=@part.png"
            )
        return Upload(form.images[0], form.fields)

    async def read_batch(self, request: Request, max_images: int) -> BatchUpload:
        """Return the images and fields of a multipart form.

        Raises:
            DigestMismatch: if the body, or a part of the form, is not what its Content-Digest says.
            MalformedForm: if the form cannot be read.
            InvalidFields: if a field comes twice, or the form has no image or more than `max_images`.
        """
        form = await self._read_form(request, await read_body(request, self._pool), MAX_PARTS + max_images - 1)
        if not 1 <= len(form.images) <= max_images:
            raise InvalidFields.for_field(
                IMAGE_FIELD,
                f"comes {len(form.images)} times; send 1 to {max_images} images in a multipart form: "
                f"curl -F {IMAGE_FIELD}=@a.png -F {IMAGE_FIELD}=@b.png",
            )
        return form

    async def _read_form(self, request: Request, body: bytes, max_parts: int) -> BatchUpload:
        """Return the form's images and fields; query parameters count for fields that the form does not have."""
        query = _query_fields(request)
        content_type = request.headers.get("content-type", "")
        form = await asyncio.get_running_loop().run_in_executor(self._pool, read_form, content_type, body, max_parts)
        return BatchUpload(form.images, query | _check_unique(form.texts, "form field"))

    async def check_image(self, content: bytes, key_id: str) -> CheckedImage:
        """Decode the image once, so that it is certain that the worker can; the keys take turns.

        Raises:
            EmptyImage: if there are no bytes.
            BodyTooLarge: if there are more bytes than an image may have.
            UnknownFormat: if they begin with no signature of an allowed format.
            TooManyPixels: if the image has more pixels than allowed.
            UndecodableImage: if it does not decode, or shows damage.
            DecodingTooCostly: if it takes more time or memory than is allowed.
            DecodingUnavailable: if it could not be tried.
        """
        if len(content) > self._max_bytes:
            raise BodyTooLarge(
                f"the image has {len(content)} bytes; at most {self._max_bytes} are allowed: send a smaller one, or "
                "raise GLAD_MAX_IMAGE_BYTES"
            )
        turn = self._turns.ask(key_id)
        await turn.wait()
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._check_image, content, turn)

    def decode_preview(self, content: bytes, longest_px: int) -> Pixels:
        """Return a stored image, made smaller if a side is longer than `longest_px`. Blocks.

        Raises:
            UndecodableImage, TooManyPixels, DecodingTooCostly: if it does not decode, or no longer within the limits.
            DecodingUnavailable: if it could not be tried.
        """
        with self._turns.ask(PREVIEWS), self._service_errors():
            image = self._images.decode_image(content, max_pixels=self._max_pixels, intact=False, longest_px=longest_px)
        return image.pixels

    def close(self) -> None:
        """End threads and processes after what they are working on."""
        self._pool.shutdown()
        self._images.close()

    def _check_image(self, content: bytes, turn: DecodeTurn) -> CheckedImage:
        with turn, self._service_errors():
            image = self._images.check_image(content, max_pixels=self._max_pixels, intact=self._intact)
        return CheckedImage(image.format, image.width, image.height, hashlib.sha256(content).hexdigest())

    @contextmanager
    def _service_errors(self) -> Iterator[None]:
        try:
            yield
        except image_codec.ImageError as error:
            raise _as_service_error(error) from error
        except DecoderUnavailable as error:
            raise DecodingUnavailable(str(error), retry_after_s=self._retry_after_s) from error


def _as_service_error(error: image_codec.ImageError) -> ServiceError:
    match error:
        case image_codec.EmptyImageFile():
            return EmptyImage(str(error))
        case image_codec.UnknownImageFormat():
            return UnknownFormat(str(error))
        case image_codec.ImageTooLarge():
            return TooManyPixels(f"{error}, or raise GLAD_MAX_PIXELS")
        case image_codec.ImageDamaged():
            return UndecodableImage(f"{error}, or set GLAD_DAMAGED_IMAGES=inspect")
        case image_codec.ImageTooCostly():
            return DecodingTooCostly(str(error))
        case _:
            return UndecodableImage(str(error))


def _is_image(body: bytes) -> bool:
    try:
        image_codec.sniff_format(body)
    except image_codec.ImageError:
        return False
    return True


def _query_fields(request: Request) -> dict[str, str]:
    return _check_unique(request.query_params.multi_items(), "query parameter")


def _check_unique(fields: Sequence[tuple[str, str]], kind: str) -> dict[str, str]:
    """Return the fields by name.

    Raises:
        InvalidFields: if a name comes twice; `kind` is what the message calls such a field.
    """
    repeated = [name for name, count in Counter(name for name, _ in fields).items() if count > 1]
    if repeated:
        raise InvalidFields.for_field(repeated[0], f"comes more than once as {kind}: send it once")
    return dict(fields)
