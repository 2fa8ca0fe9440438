"""Fetching the pictures and the map of an inspection: `GET /v1/inspections/{id}/{artifact}`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Annotated

import structlog
from fastapi import APIRouter, Path, Response
from fastapi.responses import StreamingResponse
from redis.exceptions import RedisError

from glad import image_codec
from service.api.dependencies import InspectionPath, Services, ServicesDep
from service.api.openapi import operations as documents
from service.api.problems import queue_unavailable
from service.api.routes.inspections import POLL_AGAIN_S, get_or_404
from service.contract import ARTIFACT_NAMES, DRAWING, IMAGE, RECONSTRUCTION, ArtifactName, Result
from service.errors import StorageUnavailable, UnknownArtifact
from service.storage.artifacts import FIRST_ATTEMPT, ArtifactNotFound, ArtifactStore, ArtifactsUnavailable
from service.storage.pictures import PREVIEW_SIDE_PX, Drawing, is_drawn

MEDIA_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "BMP": "image/bmp", "TIFF": "image/tiff", "WEBP": "image/webp"}

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
    artifact: Annotated[str, Path(description=", ".join(ARTIFACT_NAMES), examples=["heatmap.png"])],
) -> Response:
    """Return one picture of the inspection, or its map.

    `heatmap.png` (fixed scale), `overlay.png`, `reconstruction.png`, `mask.png`, `map.npy` (float32, in the original's
    aspect), or `image`, the bytes as they came.

    Those of a part that passed may be drawn now, for the first one who asks. The reconstruction is then the work of a
    worker that has no image waiting: until it is drawn the answer is 202 without a body, and `Retry-After`.
    """
    name = _artifact_name(artifact)
    result = await get_or_404(services, inspection_id)
    if name not in result.artifacts:
        raise UnknownArtifact(
            f"inspection {result.id} has no {name}: its state is {result.state.value}, and it has "
            f"{', '.join(result.artifacts)}"
        )
    opened = await services.threads.images.run(_open, services, result, name)
    if opened is None:
        return await _request_reconstruction(services, result)
    headers = {
        "Content-Disposition": f'inline; filename="{result.id}-{name}"',
        "Content-Length": str(opened.size),
        "Cache-Control": "private, max-age=86400, immutable",
        "X-Content-Type-Options": "nosniff",
    }
    pieces = _pieces(services, opened)
    return StreamingResponse(pieces, media_type=_media_type(name, opened.first), headers=headers)


@dataclass(frozen=True)
class OpenedArtifact:
    """The beginning of a stored file: the rest is read as fast as the client takes it."""

    first: bytes
    size: int
    """Bytes of the whole file."""
    ref: str


def _open(services: Services, result: Result, name: ArtifactName) -> OpenedArtifact | None:
    """Return the beginning of an artifact, or all of it if it has to be drawn; None: only a worker can draw it.

    Raises:
        UnknownArtifact: if it is no longer kept.
        StorageUnavailable: if the store cannot be read.
    """
    store = services.artifacts
    with _answered(services, result, name):
        stored = _read_stored(store, result, name)
        if stored.drawn:
            size = store.size(stored.ref) if len(stored.first) == PIECE_BYTES else len(stored.first)
            return OpenedArtifact(stored.first, size, stored.ref)
        content = _draw(services, result, name, stored)
    return None if content is None else OpenedArtifact(content, len(content), stored.ref)


async def _pieces(services: Services, opened: OpenedArtifact) -> AsyncIterator[bytes]:
    yield opened.first
    for start in range(len(opened.first), opened.size, PIECE_BYTES):
        yield await services.threads.images.run(services.artifacts.get_piece, opened.ref, start, PIECE_BYTES)


def _artifact_name(text: str) -> ArtifactName:
    for name in ARTIFACT_NAMES:
        if name == text:
            return name
    raise UnknownArtifact(f"no artifact {text[:100]!r}: ask for {', '.join(ARTIFACT_NAMES)}")


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
def _answered(services: Services, result: Result, name: ArtifactName) -> Iterator[None]:
    """Turn the store's errors into answers."""
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


def _draw(services: Services, result: Result, name: ArtifactName, stored: StoredArtifact) -> bytes | None:
    """Return an artifact that nobody has drawn yet, and store it; None: only a worker can draw it."""
    store = services.artifacts
    drawing = store.get(stored.ref)
    image = store.get(store.ref(result.id, IMAGE)) if name in {"overlay.png", RECONSTRUCTION} else None
    if not is_drawn(name):
        return None
    original = None if image is None else services.decoder.decode_preview(image, PREVIEW_SIDE_PX)
    content = Drawing.from_bytes(drawing).draw(name, original)
    try:
        store.put(result.id, name, content, stored.attempt)
    except ArtifactsUnavailable as error:  # a full disk: it is drawn again next time
        log.warning("drawn, but not stored", inspection_id=result.id, artifact=name, error=str(error))
    return content


def _read_stored(store: ArtifactStore, result: Result, name: ArtifactName) -> StoredArtifact:
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


def _media_type(name: ArtifactName, content: bytes) -> str:
    if name.endswith(".png"):
        return "image/png"
    if name != IMAGE:
        return "application/octet-stream"
    try:
        return MEDIA_TYPES[image_codec.sniff_format(content)]
    except image_codec.ImageError:
        return "application/octet-stream"
