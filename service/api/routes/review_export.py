"""Reviewed images as a ZIP file, made while it is sent: `GET /v1/reviews/export.zip`. `glad reviews export` can go on
where it was interrupted, and updates a folder; this is for a button."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import IO, Annotated, Any

import structlog
from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Receive, Scope, Send

from glad_client.fields import Name, Timestamp
from service.api.dependencies import CallerDep, Services, ServicesDep
from service.api.openapi import operations as documents
from service.api.routes.artifacts import PIECE_BYTES
from service.contract import IMAGE, Result
from service.errors import StorageUnavailable
from service.queue.history import HistoryFilter
from service.storage.artifacts import ArtifactNotFound, ArtifactStore, ArtifactsUnavailable
from service.storage.labelled_data import (
    GROUPS,
    LABELS,
    MISSING,
    MissingImage,
    MissingReason,
    draw_mask,
    group_line,
    groups_header,
    label_image,
    missing_header,
    missing_line,
    suffix_of,
)

PAGE = 50
HELD_BYTES = 1 << 20
"""Of an image, and of each list that stands at the end of the file; what is more waits on the disk."""

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
async def export(services: ServicesDep, caller: CallerDep, query: Annotated[ExportQuery, Query()]) -> StreamingResponse:
    """Return a ZIP file with a data folder that training and evaluation read, as `glad reviews export` makes it.

    Images are read a piece at a time, so that the size of the file costs no memory. An image that cannot be had, such
    as one that is no longer kept, is left out; `missing.csv` in the file names each of them and says why.
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
    return _Export(services, caller.id, _zip(services, query), media_type="application/zip", headers=headers)


class _Export(StreamingResponse):
    """An export that counts from its first byte to its last, or until its client leaves."""

    def __init__(self, services: Services, key: str, content: AsyncIterator[bytes], **options: Any) -> None:
        super().__init__(content, **options)
        self._services, self._key = services, key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._services.exports.running(self._key, self._services.settings.retry_after_s):
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
    """Yield the file as it is made.

    It ends as a whole file whatever happens to the images. Only where the list of inspections itself ends early, as
    when Redis goes away, is it cut off: then nobody could say what is missing.
    """
    sink, filters = _Sink(), HistoryFilter(product=query.product, reviewed=True, since=query.since)
    with (
        tempfile.SpooledTemporaryFile(HELD_BYTES) as groups,
        tempfile.SpooledTemporaryFile(HELD_BYTES) as labels,
        tempfile.SpooledTemporaryFile(HELD_BYTES) as missing,
        zipfile.ZipFile(sink, "w") as file,
    ):
        made = _ZipInTheMaking(file, sink, groups, labels, missing)
        groups.write(groups_header().encode())
        missing.write(missing_header().encode())
        position, more = None, True
        while more:
            page = await services.history.page(filters, after=position, limit=PAGE)
            position, more = page.position, page.more
            for result in page.results:
                async for piece in _image(services, query, result, made):
                    yield piece
        lists = {GROUPS: groups, LABELS: labels}
        if made.left_out:
            lists[MISSING] = missing
            file.comment = made.in_words(query.product).encode()
            log.warning("reviewed images left out", product=query.product, left_out=made.left_out, sent=made.images)
        for name, lines in lists.items():
            async for piece in _copied(lines, f"{query.product}/{name}", made):
                yield piece
        file.close()
        yield sink.take()


@dataclass
class _ZipInTheMaking:
    file: zipfile.ZipFile
    sink: _Sink
    groups: IO[bytes]
    labels: IO[bytes]
    missing: IO[bytes]
    images: int = 0
    left_out: int = 0

    def leave_out(self, missing: MissingImage) -> None:
        """Note an image that cannot be had."""
        self.left_out += 1
        self.missing.write(missing_line(missing).encode())

    def in_words(self, product: str) -> str:
        """Return how much is missing, as the comment that unpacking programs show."""
        reviewed = self.images + self.left_out
        return f"{self.left_out} of {reviewed} reviewed images are missing: {product}/{MISSING} says which and why"


async def _image(services: Services, query: ExportQuery, result: Result, made: _ZipInTheMaking) -> AsyncIterator[bytes]:
    """Yield the bytes of an inspection's image and mask, and note them in the lists."""
    draft = label_image(result, "")
    if draft is None or (query.audit_only and draft.audit is None):
        return
    content = await services.threads.images.run(_whole_image, services.artifacts, result)
    if isinstance(content, MissingReason):
        made.leave_out(MissingImage(result.id, result.serial, draft.label, content))
        return
    with content:
        image = label_image(result, suffix_of(content.read(PIECE_BYTES)))
        assert image is not None, "it has a label with any suffix"
        async for piece in _copied(content, f"{result.product}/{image.file}", made):
            yield piece
    if image.mask is not None:
        mask = await services.threads.images.run(draw_mask, result, image.review)
        made.file.writestr(_entry(f"{result.product}/{image.mask}"), mask)
    made.groups.write(group_line(image).encode())
    made.labels.write(image.to_line().encode())
    made.images += 1
    yield made.sink.take()


def _whole_image(store: ArtifactStore, result: Result) -> IO[bytes] | MissingReason:
    """Return a copy of an inspection's image, or the reason why there is none. Blocks.

    The image is copied before its part of the ZIP file begins: retention may remove it between two pieces.
    """
    ref, digest = ArtifactStore.ref(result.id, IMAGE), hashlib.sha256()
    copy = tempfile.SpooledTemporaryFile(HELD_BYTES)  # noqa: SIM115 - whoever gets it closes it
    try:
        for start in range(0, store.size(ref), PIECE_BYTES):
            piece = store.get_piece(ref, start, PIECE_BYTES)
            digest.update(piece)
            copy.write(piece)
        copy.seek(0)
        if result.image_sha256 in (None, digest.hexdigest()):
            return copy
        reason = MissingReason.OTHER_BYTES
    except ArtifactNotFound:
        reason = MissingReason.NOT_KEPT
    except ArtifactsUnavailable as error:
        log.error("reviewed image not exported", inspection_id=result.id, error=str(error))
        reason = MissingReason.UNREADABLE
    copy.close()
    return reason


async def _copied(content: IO[bytes], name: str, made: _ZipInTheMaking) -> AsyncIterator[bytes]:
    """Yield the bytes of the ZIP file while a file of it is copied into it."""
    size = content.seek(0, os.SEEK_END)
    content.seek(0)
    with made.file.open(_entry(name, size), "w") as entry:
        while piece := content.read(PIECE_BYTES):
            entry.write(piece)
            yield made.sink.take()


def _entry(name: str, size: int = 0) -> zipfile.ZipInfo:
    """Return an entry that is stored as it is: images are packed already."""
    entry = zipfile.ZipInfo(name)
    entry.file_size = size
    entry.external_attr = 0o644 << 16
    return entry
