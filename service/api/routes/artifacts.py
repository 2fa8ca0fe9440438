"""Fetching the pictures and the map of an inspection: `GET /v1/inspections/{id}/{artifact}`."""

from __future__ import annotations

import asyncio
from typing import Annotated

import structlog
from fastapi import APIRouter, Path, Response

from glad import image_codec
from service.api.dependencies import InspectionPath, Services, ServicesDep
from service.api.openapi import operations as documents
from service.api.routes.inspections import get_or_404
from service.contract import ARTIFACT_NAMES, IMAGE, ArtifactName
from service.errors import StorageUnavailable, UnknownArtifact
from service.storage.artifacts import ArtifactNotFound, ArtifactsUnavailable

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
    """
    name = _artifact_name(artifact)
    result = await get_or_404(services, inspection_id)
    if name not in result.artifacts:
        raise UnknownArtifact(
            f"inspection {result.id} has no {name}: its state is {result.state.value}, and it has "
            f"{', '.join(result.artifacts)}"
        )
    content = await asyncio.to_thread(load_artifact, services, result.id, name)
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


def load_artifact(services: Services, inspection_id: str, name: ArtifactName) -> bytes:
    """Return the stored bytes. Blocks.

    Raises:
        UnknownArtifact: if they are no longer kept.
        StorageUnavailable: if the store cannot be read.
    """
    try:
        return services.artifacts.get(services.artifacts.ref(inspection_id, name))
    except ArtifactNotFound as error:
        raise UnknownArtifact(f"{name} of inspection {inspection_id} is no longer kept") from error
    except ArtifactsUnavailable as error:
        log.error("artifact not read", inspection_id=inspection_id, artifact=name, error=str(error))
        raise StorageUnavailable(
            f"{name} of inspection {inspection_id} cannot be read now: try again later",
            retry_after_s=services.settings.retry_after_s,
        ) from error


def _media_type(name: ArtifactName, content: bytes) -> str:
    if name.endswith(".png"):
        return "image/png"
    if name != IMAGE:
        return "application/octet-stream"
    try:
        return MEDIA_TYPES[image_codec.sniff_format(content)]
    except image_codec.ImageError:
        return "application/octet-stream"
