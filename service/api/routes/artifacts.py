"""Fetching the pictures and the map of an inspection: `GET /v1/inspections/{id}/{artifact}`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Annotated, TypeGuard

import structlog
from fastapi import APIRouter, Header, Path, Response
from fastapi.responses import StreamingResponse
from redis.exceptions import RedisError

from glad import image_codec
from glad.image_codec import Pixels, downscale, to_jpeg, to_png
from glad.images.rendering import LONGEST_PX, heat_layer
from service.api.dependencies import InspectionPath, Services, ServicesDep
from service.api.openapi import operations as documents
from service.api.problems import queue_unavailable
from service.api.routes.inspections import POLL_AGAIN_S, get_or_404
from service.contract import (
    ARTIFACT_NAMES,
    DRAWING,
    HEAT,
    IMAGE,
    OF_NO_ATTEMPT,
    PREVIEW,
    RECONSTRUCTION,
    SCREEN_PICTURE_NAMES,
    THUMBNAIL,
    ArtifactName,
    Result,
    ScreenPictureName,
)
from service.errors import DecodingTooCostly, StorageUnavailable, TooManyPixels, UndecodableImage, UnknownArtifact
from service.storage.artifacts import FIRST_ATTEMPT, ArtifactNotFound, ArtifactStore, ArtifactsUnavailable
from service.storage.pictures import OVERLAY_SIDE_PX, PREVIEW_SIDE_PX, THUMBNAIL_SIDE_PX, Drawing, is_drawn

MEDIA_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "BMP": "image/bmp", "TIFF": "image/tiff", "WEBP": "image/webp"}

FetchedName = ArtifactName | ScreenPictureName
FETCHED_NAMES: tuple[FetchedName, ...] = (*ARTIFACT_NAMES, *SCREEN_PICTURE_NAMES)

PIECE_BYTES = 256 << 10
"""What is read of a file at a time."""

router = APIRouter(tags=["inspections"])
log = structlog.get_logger(__name__)


@router.get(
    "/v1/inspections/{id}/{artifact}",
    summary="Fetch a picture",
    response_class=Response,
    responses=documents.ARTIFACT_RESPONSES,
)
async def artifact(
    services: ServicesDep,
    inspection_id: InspectionPath,
    artifact: Annotated[str, Path(description=", ".join(FETCHED_NAMES), examples=["heatmap.png"])],
    known: Annotated[str, Header(alias="If-None-Match", description="`ETag` of an earlier answer")] = "",
) -> Response:
    """Return one picture of the inspection, or its map.

    `heatmap.png` (fixed scale), `overlay.png`, `reconstruction.png`, `mask.png`, `map.npy` (float32, in the original's
    aspect), or `image`, the bytes as they came. For screens: `preview.jpg` (the image upright, at most 1600 pixels
    long), `thumbnail.jpg` (200), and `heat.png`, the heatmap's colours where the map reaches the pixel limit, clear
    elsewhere, to lay over them.

    Those of a part that passed may be drawn now, for the first one who asks. The reconstruction is then the work of a
    worker that has no image waiting: until it is drawn the answer is 202 without a body, and `Retry-After`.
    """
    name = _artifact_name(artifact)
    result = await get_or_404(services, inspection_id)
    if _source(name) not in result.artifacts:
        raise UnknownArtifact(
            f"inspection {result.id} has no {name}: its state is {result.state.value}, and it has "
            f"{', '.join(result.artifacts)}"
        )
    headers = {
        "ETag": f'"{result.id}-{0 if name in OF_NO_ATTEMPT else result.attempts}-{name}"',
        "Cache-Control": "private, max-age=86400, immutable",
        "X-Content-Type-Options": "nosniff",
    }
    if headers["ETag"] in known:
        return Response(status_code=304, headers=headers)
    opened = await services.threads.images.run(_open, services, result, name)
    if opened is None and _is_for_screen(name):
        opened = await services.threads.previews.run(_open_for_screen, services, result, name)
    if opened is None:
        return await _request_reconstruction(services, result)
    headers["Content-Disposition"] = f'inline; filename="{result.id}-{name}"'
    headers["Content-Length"] = str(opened.size)
    pieces = _pieces(services, opened)
    return StreamingResponse(pieces, media_type=_media_type(name, opened.first), headers=headers)


@dataclass(frozen=True)
class OpenedArtifact:
    """The beginning of a stored file: the rest is read as fast as the client takes it."""

    first: bytes
    size: int
    """Bytes of the whole file."""
    ref: str


def _open(services: Services, result: Result, name: FetchedName) -> OpenedArtifact | None:
    """Return the beginning of an artifact, or all of it if it has to be drawn.

    None: it takes a decoder, or a worker, to draw it.

    Raises:
        UnknownArtifact: if it is no longer kept.
        StorageUnavailable: if the store cannot be read.
    """
    store = services.artifacts
    with _answered(services, result, name):
        if _is_for_screen(name):
            return _opened_screen_picture(store, result, name)
        stored = _read_stored(store, result, name)
        if stored.drawn:
            return _opened(store, stored)
        content = _draw(services, result, name, stored)
    return None if content is None else OpenedArtifact(content, len(content), stored.ref)


def _opened(store: ArtifactStore, stored: StoredArtifact) -> OpenedArtifact:
    size = store.size(stored.ref) if len(stored.first) == PIECE_BYTES else len(stored.first)
    return OpenedArtifact(stored.first, size, stored.ref)


async def _pieces(services: Services, opened: OpenedArtifact) -> AsyncIterator[bytes]:
    yield opened.first
    for start in range(len(opened.first), opened.size, PIECE_BYTES):
        yield await services.threads.images.run(services.artifacts.get_piece, opened.ref, start, PIECE_BYTES)


def _artifact_name(text: str) -> FetchedName:
    for name in FETCHED_NAMES:
        if name == text:
            return name
    raise UnknownArtifact(f"no artifact {text[:100]!r}: ask for {', '.join(FETCHED_NAMES)}")


def _is_for_screen(name: FetchedName) -> TypeGuard[ScreenPictureName]:
    return name in SCREEN_PICTURE_NAMES


def _source(name: FetchedName) -> FetchedName:
    """Return the artifact without which there is none of this name: itself, but for a picture for screens."""
    if name == HEAT:
        return "heatmap.png"
    return IMAGE if name in OF_NO_ATTEMPT else name


def load_artifact(services: Services, result: Result, name: ArtifactName) -> bytes:
    """Return an artifact's bytes, drawn now if they have to be. Blocks.

    Raises:
        UnknownArtifact: if they are no longer kept.
        StorageUnavailable: if the store cannot be read.
    """
    store = services.artifacts
    with _answered(services, result, name):
        stored = _read_stored(store, result, name)
        content = store.get(stored.ref) if stored.drawn else _draw(services, result, name, stored)
    if content is None:
        raise UnknownArtifact(f"{name} of inspection {result.id} is not drawn yet")
    return content


@dataclass(frozen=True)
class StoredArtifact:
    """What is stored of an artifact: its file, or the drawing that it is drawn from."""

    attempt: int
    """Under whose names it was found."""
    ref: str
    first: bytes
    """The beginning of the file."""
    drawn: bool
    """False: the file is the drawing."""


@contextmanager
def _answered(services: Services, result: Result, name: FetchedName) -> Iterator[None]:
    """Turn errors of the store, and of an image that decodes no more, into answers."""
    try:
        services.artifact_home.check()
        yield
    except ArtifactNotFound as error:
        raise UnknownArtifact(f"{name} of inspection {result.id} is no longer kept") from error
    except ArtifactsUnavailable as error:
        log.error("artifact not read", inspection_id=result.id, artifact=name, error=str(error))
        raise StorageUnavailable(
            f"{name} of inspection {result.id} cannot be read now: try again later",
            retry_after_s=services.settings.retry_after_s,
        ) from error
    except (UndecodableImage, TooManyPixels, DecodingTooCostly) as error:
        raise UnknownArtifact(f"{name} of inspection {result.id} cannot be drawn: {error}") from error


def _opened_screen_picture(store: ArtifactStore, result: Result, name: ScreenPictureName) -> OpenedArtifact | None:
    """Return a picture for screens that was drawn before; None: it was not. Raise as `_read_stored` does."""
    attempt = _read_stored(store, result, "heatmap.png").attempt if name == HEAT else FIRST_ATTEMPT
    ref = store.ref(result.id, name, attempt)
    with suppress(ArtifactNotFound):
        return _opened(store, StoredArtifact(attempt, ref, store.get_piece(ref, 0, PIECE_BYTES), drawn=True))
    return None


def _open_for_screen(services: Services, result: Result, name: ScreenPictureName) -> OpenedArtifact:
    """Return a picture for screens, drawn and stored unless another caller has done so by now. Blocks, decodes.

    Raises:
        UnknownArtifact: if what it is drawn from is no longer kept, or decodes no more.
        StorageUnavailable: if the store cannot be read.
        DecodingUnavailable: if no decoder could be asked.
    """
    store = services.artifacts
    with _answered(services, result, name):
        if (opened := _opened_screen_picture(store, result, name)) is not None:
            return opened
        if name == HEAT:
            attempt, content = _draw_heat(services, result)
        else:
            attempt, content = FIRST_ATTEMPT, _draw_image(services, result, name)
    _keep(services, result, name, content, attempt)
    return OpenedArtifact(content, len(content), store.ref(result.id, name, attempt))


def _draw_image(services: Services, result: Result, name: ScreenPictureName) -> bytes:
    """Return the image upright and small enough for a screen, whatever it came as."""
    image = services.artifacts.get(services.artifacts.ref(result.id, IMAGE))
    longest_px = THUMBNAIL_SIDE_PX if name == THUMBNAIL else PREVIEW_SIDE_PX
    pixels = services.decoder.decode_preview(image, longest_px)
    if name == PREVIEW:  # whoever looks at a part soon looks at it in a list; to decode it twice would cost more
        _keep(services, result, THUMBNAIL, to_jpeg(downscale(pixels, THUMBNAIL_SIDE_PX)), FIRST_ATTEMPT)
    return to_jpeg(pixels)


def _draw_heat(services: Services, result: Result) -> tuple[int, bytes]:
    """Return the layer of heat, and the attempt under whose names the map was found."""
    store = services.artifacts
    stored = _read_stored(store, result, "heatmap.png")
    if not stored.drawn:
        return stored.attempt, Drawing.from_bytes(store.get(stored.ref)).draw_heat()
    above = store.get(store.ref(result.id, "mask.png", stored.attempt))
    return stored.attempt, to_png(
        heat_layer(_decoded(services, store.get(stored.ref)), _decoded(services, above)[:, :, 0])
    )


def _decoded(services: Services, picture: bytes) -> Pixels:
    return services.decoder.decode_preview(picture, LONGEST_PX)


def _keep(services: Services, result: Result, name: FetchedName, content: bytes, attempt: int) -> None:
    """Store what was drawn; on a full disk it is drawn again next time."""
    try:
        services.artifacts.put(result.id, name, content, attempt)
    except ArtifactsUnavailable as error:
        log.warning("drawn, but not stored", inspection_id=result.id, artifact=name, error=str(error))


def _draw(services: Services, result: Result, name: FetchedName, stored: StoredArtifact) -> bytes | None:
    """Return an artifact that nobody has drawn yet, and store it; None: only a worker can draw it."""
    store = services.artifacts
    drawing = store.get(stored.ref)
    image = store.get(store.ref(result.id, IMAGE)) if name in {"overlay.png", RECONSTRUCTION} else None
    if not is_drawn(name):
        return None
    original = None if image is None else services.decoder.decode_preview(image, OVERLAY_SIDE_PX)
    content = Drawing.from_bytes(drawing).draw(name, original)
    _keep(services, result, name, content, stored.attempt)
    return content


def _read_stored(store: ArtifactStore, result: Result, name: FetchedName) -> StoredArtifact:
    """Return what is stored of an artifact, by the attempt whose result is shown.

    Older versions gave the pictures of every attempt the names of the first. They are looked at only if the attempt has
    neither the file nor a drawing, which each one of now has: else they are those of another attempt.

    Raises:
        ArtifactNotFound: if nothing is stored.
        ArtifactsUnavailable: if the store cannot be read now.
    """
    attempts = (result.attempts, FIRST_ATTEMPT) if result.attempts > FIRST_ATTEMPT else (FIRST_ATTEMPT,)
    for attempt in attempts:
        for stored_name in (name, DRAWING):
            with suppress(ArtifactNotFound):
                ref = store.ref(result.id, stored_name, attempt)
                return StoredArtifact(attempt, ref, store.get_piece(ref, 0, PIECE_BYTES), drawn=stored_name == name)
    raise ArtifactNotFound(f"nothing is stored of {name} of inspection {result.id}")


async def _request_reconstruction(services: Services, result: Result) -> Response:
    """Ask a worker for the reconstruction, and answer that it will come.

    Raises:
        UnknownArtifact: if the worker that tried to draw it could not.
        QueueUnavailable: if Redis is away.
    """
    try:
        why = await services.pictures.request(result.id, services.settings.pool_of(result.product))
    except RedisError as error:
        raise queue_unavailable(services, error) from error
    if why is not None:
        raise UnknownArtifact(f"{RECONSTRUCTION} of inspection {result.id} cannot be drawn now: {why}")
    return Response(status_code=202, headers={"Retry-After": str(POLL_AGAIN_S)})


def _media_type(name: FetchedName, content: bytes) -> str:
    if name.endswith(".jpg"):
        return "image/jpeg"
    if name.endswith(".png"):
        return "image/png"
    if name != IMAGE:
        return "application/octet-stream"
    try:
        return MEDIA_TYPES[image_codec.sniff_format(content)]
    except image_codec.ImageError:
        return "application/octet-stream"
