"""Fetching the pictures and the map of an inspection: `GET /v1/inspections/{id}/{artifact}`."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated

import structlog
from fastapi import APIRouter, Path, Response
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
    content = await asyncio.to_thread(_find, services, result, name)
    if content is None:
        return await _request_reconstruction(services, result)
    headers = {
        "Content-Disposition": f'inline; filename="{result.id}-{name}"',
        "Cache-Control": "private, max-age=86400, immutable",
        "X-Content-Type-Options": "nosniff",
    }
    return Response(content, media_type=_media_type(name, content), headers=headers)


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
    content = _find(services, result, name)
    if content is None:
        raise UnknownArtifact(f"{name} of inspection {result.id} is not drawn yet")
    return content


@dataclass(frozen=True)
class StoredArtifact:
    """What is stored of an artifact: its file, or the drawing that it is drawn from."""

    attempt: int
    """Under whose names it was found."""
    content: bytes
    drawn: bool
    """False: `content` is the drawing."""


def _find(services: Services, result: Result, name: ArtifactName) -> bytes | None:
    """Return an artifact's bytes, as `load_artifact`; None: only a worker can draw it."""
    store = services.artifacts
    try:
        stored = _read_stored(store, result, name)
        if stored.drawn:
            return stored.content
        image = store.get(store.ref(result.id, IMAGE)) if name in {"overlay.png", RECONSTRUCTION} else None
    except ArtifactNotFound as error:
        raise UnknownArtifact(f"{name} of inspection {result.id} is no longer kept") from error
    except ArtifactsUnavailable as error:
        log.error("artifact not read", inspection_id=result.id, artifact=name, error=str(error))
        raise StorageUnavailable(
            f"{name} of inspection {result.id} cannot be read now: try again later",
            retry_after_s=services.settings.retry_after_s,
        ) from error
    if not is_drawn(name):
        return None
    original = None if image is None else services.decoder.decode_preview(image, PREVIEW_SIDE_PX)
    content = Drawing.from_bytes(stored.content).draw(name, original)
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
                content = store.get(store.ref(result.id, stored_name, attempt))
                return StoredArtifact(attempt, content, drawn=stored_name == name)
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
