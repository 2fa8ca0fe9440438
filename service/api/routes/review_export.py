"""Reviewed images as a ZIP file, made while it is sent: `GET /v1/reviews/export.zip`. `glad reviews export` can go on
where it was interrupted, and updates a folder; this is for a button."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Receive, Scope, Send

from glad_client.types import Name, Timestamp
from service.api.dependencies import Services, ServicesDep
from service.api.openapi import operations as documents
from service.api.routes.artifacts import PIECE_BYTES
from service.contract import IMAGE, Result
from service.errors import StorageUnavailable
from service.queue.history import HistoryFilter
from service.storage.artifacts import ArtifactNotFound, ArtifactStore, ArtifactsUnavailable
from service.storage.labelled_data import (
    GROUPS,
    LABELS,
    draw_mask,
    group_line,
    groups_header,
    label_image,
    suffix_of,
)

PAGE = 50
HELD_BYTES = 1 << 20
"""Of the lists that stand at the end of the file; what is more waits on the disk."""

router = APIRouter(tags=["reviews"])
log = structlog.get_logger(__name__)


class ExportQuery(BaseModel):
    """Which reviewed images to export."""

    model_config = ConfigDict(extra="forbid")

    product: Name = Field(description="of the images", examples=["bracket"])
    since: Timestamp | None = Field(None, description="inspections that ended at this time or later")
    audit_only: bool = Field(False, description="only images that were drawn for the random audit and judged blind")


@router.get(
    "/v1/reviews/export.zip",
    summary="Export reviewed images",
    response_class=StreamingResponse,
    responses=documents.EXPORT_RESPONSES,
)
async def export(services: ServicesDep, query: Annotated[ExportQuery, Query()]) -> StreamingResponse:
    """Return a ZIP file with a data folder that training and evaluation read, as `glad reviews export` makes it.

    Images are read a piece at a time, so that the size of the file costs no memory. Images that are no longer kept are
    left out.
    """
    try:
        await services.threads.images.run(services.artifact_home.check)
    except ArtifactsUnavailable as error:
        log.error("reviews not exported", error=str(error))
        raise StorageUnavailable(
            "images cannot be read now: try again later", retry_after_s=services.settings.retry_after_s
        ) from error
    headers = {
        "Content-Disposition": f'attachment; filename="{query.product}-reviews.zip"',
        "Cache-Control": "no-store",
    }
    return _Export(services, _zip(services, query), media_type="application/zip", headers=headers)


class _Export(StreamingResponse):
    """An export that counts from its first byte to its last, or until its client leaves."""

    def __init__(self, services: Services, content: AsyncIterator[bytes], **options: Any) -> None:
        super().__init__(content, **options)
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._services.exports.running(self._services.settings.retry_after_s):
            await super().__call__(scope, receive, send)


class _Sink:
    """What a ZipFile writes into: bytes wait here until they are sent. It cannot seek, as a connection cannot."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def write(self, content: bytes) -> int:
        self._waiting += content
        return len(content)

    def flush(self) -> None:
        """Do nothing: what waits is taken."""

    def close(self) -> None:
        """Do nothing: the answer ends with the file."""

    def take(self) -> bytes:
        """Return what waits, and forget it."""
        content = bytes(self._waiting)
        self._waiting.clear()
        return content


async def _zip(services: Services, query: ExportQuery) -> AsyncIterator[bytes]:
    """Yield the file as it is made."""
    sink, filters = _Sink(), HistoryFilter(product=query.product, reviewed=True, since=query.since)
    with (
        tempfile.SpooledTemporaryFile(HELD_BYTES) as groups,
        tempfile.SpooledTemporaryFile(HELD_BYTES) as labels,
        zipfile.ZipFile(sink, "w") as file,
    ):
        made = _ZipInTheMaking(file, sink, groups, labels)
        groups.write(groups_header().encode())
        position, more = None, True
        while more:
            page = await services.history.page(filters, after=position, limit=PAGE)
            position, more = page.position, page.more
            for result in page.results:
                async for piece in _image(services, query, result, made):
                    yield piece
        for name, lines in ((GROUPS, made.groups), (LABELS, made.labels)):
            lines.seek(0)
            with made.file.open(_entry(f"{query.product}/{name}"), "w") as entry:
                while content := lines.read(PIECE_BYTES):
                    entry.write(content)
                    yield made.sink.take()
        made.file.close()
        yield made.sink.take()


@dataclass(frozen=True)
class _ZipInTheMaking:
    file: zipfile.ZipFile
    sink: _Sink
    groups: tempfile.SpooledTemporaryFile[bytes]
    labels: tempfile.SpooledTemporaryFile[bytes]


async def _image(services: Services, query: ExportQuery, result: Result, made: _ZipInTheMaking) -> AsyncIterator[bytes]:
    """Yield the bytes of an inspection's image and mask, and note them in the lists."""
    store, ref = services.artifacts, ArtifactStore.ref(result.id, IMAGE)
    try:
        first = await services.threads.images.run(store.get_piece, ref, 0, PIECE_BYTES)
        size = await services.threads.images.run(store.size, ref)
    except ArtifactNotFound:
        log.info("reviewed image left out", inspection_id=result.id, reason="no longer kept")
        return
    image = label_image(result, suffix_of(first))
    if image is None or (query.audit_only and image.audit is None):
        return
    with made.file.open(_entry(f"{result.product}/{image.file}", size), "w") as entry:
        entry.write(first)
        yield made.sink.take()
        for start in range(len(first), size, PIECE_BYTES):
            entry.write(await services.threads.images.run(store.get_piece, ref, start, PIECE_BYTES))
            yield made.sink.take()
    if image.mask is not None:
        mask = await services.threads.images.run(draw_mask, result, image.review)
        made.file.writestr(_entry(f"{result.product}/{image.mask}"), mask)
    made.groups.write(group_line(image).encode())
    made.labels.write(image.to_line().encode())
    yield made.sink.take()


def _entry(name: str, size: int = 0) -> zipfile.ZipInfo:
    """Return an entry that is stored as it is: images are packed already."""
    entry = zipfile.ZipInfo(name)
    entry.file_size = size
    entry.external_attr = 0o644 << 16
    return entry
