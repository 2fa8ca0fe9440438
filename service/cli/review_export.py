"""Copies reviewed images of a running service into data folders, one a product; again and again, each time what is new.

Files appear whole or not at all, and an image is recognised by the id in its name: an export that was interrupted goes
on where it was, and one whose label has changed is moved. What the service no longer keeps stays in the folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from pathlib import Path

from glad_client.client import Client
from glad_client.errors import ApiError
from glad_client.fields import rfc3339
from glad_client.results import Result
from model_store.files import make_folder, replace_file
from service.storage.labelled_data import (
    GROUPS,
    LABELS,
    MISSING,
    LabelledImage,
    MissingImage,
    MissingReason,
    draw_mask,
    group_line,
    groups_header,
    inspection_of,
    label_image,
    missing_header,
    missing_line,
    read_label,
    suffix_of,
)


@dataclass(frozen=True)
class ExportFilter:
    """Which reviewed images to copy; None: all."""

    product: str | None = None
    since: datetime | None = None
    """Inspections that ended at this time or later."""
    audit_only: bool = False
    """Only those that answer the random audit."""

    def history(self) -> dict[str, str]:
        """Return the filters of the service's history."""
        given = {"product": self.product, "since": None if self.since is None else rfc3339(self.since)}
        return {"reviewed": "true"} | {name: value for name, value in given.items() if value is not None}


@dataclass
class ExportedFolder:
    """The data folder of one product."""

    root: Path
    known: dict[str, LabelledImage] = field(default_factory=dict)
    """What an earlier export labelled, by inspection."""
    images: dict[str, LabelledImage] = field(default_factory=dict)
    """What this one has labelled so far."""
    copied: int = 0
    missing: dict[str, MissingImage] = field(default_factory=dict)
    """Reviewed images that this export cannot get, and that no earlier one has copied, by inspection."""
    removed: int = 0

    @classmethod
    def open(cls, root: Path) -> ExportedFolder:
        """Return the folder with what an earlier export has labelled.

        Raises:
            ValueError: if its labels cannot be read; names the line.
        """
        file, known = root / LABELS, {}
        for number, line in enumerate(_lines(file), 1):
            try:
                image = read_label(line)
            except ValueError as error:
                raise ValueError(
                    f"{file}: line {number} is no label ({error}): move the file away; the next export writes it again"
                ) from error
            known[image.inspection_id] = image
        return cls(root, known)

    def files(self) -> dict[str, list[Path]]:
        """Return the images and masks that lie there, by inspection, whatever their label."""
        found: dict[str, list[Path]] = {}
        for path in sorted([*self.root.glob("test/*/*"), *self.root.glob("ground_truth/*/*")]):
            if (inspection_id := inspection_of(path.name)) is not None:
                found.setdefault(inspection_id, []).append(path)
        return found


def export_reviews(
    client: Client, out: Path, chosen: ExportFilter, told: Callable[[str], None]
) -> list[ExportedFolder]:
    """Copy reviewed images into the data folders OUT/PRODUCT, and return these.

    Args:
        client: of the service.
        out: the folder above; may have earlier exports.
        chosen: which images.
        told: takes a sentence for people, such as one on an image that is no longer kept.

    Raises:
        ClientError: if the service refuses or does not answer: what was copied stays.
        OSError: if a file cannot be written.
        ValueError: if labels of an earlier export cannot be read.
    """
    folders: dict[str, _Copying] = {}
    for result in client.history(filters=chosen.history()):
        folder = folders.get(result.product) or _Copying(client, ExportedFolder.open(out / result.product), told)
        folders[result.product] = folder
        folder.copy(result, audit_only=chosen.audit_only)
    if chosen.product is not None and chosen.product not in folders:
        folders[chosen.product] = _Copying(client, ExportedFolder.open(out / chosen.product), told)
    return [folder.finish() for folder in folders.values()]


class _Copying:
    """One product's folder while it is written."""

    def __init__(self, client: Client, folder: ExportedFolder, told: Callable[[str], None]) -> None:
        self._client, self._folder, self._told = client, folder, told
        self._files = folder.files()

    def copy(self, result: Result, *, audit_only: bool = False) -> None:
        """Put a reviewed image where its label says."""
        draft = label_image(result, "")
        if draft is None or (audit_only and draft.audit is None and result.id not in self._folder.known):
            return
        there = self._image_there(result)
        content = b"" if there is not None else self._fetch(result)
        if isinstance(content, MissingReason):
            self._folder.missing[result.id] = MissingImage(result.id, result.serial, draft.label, content)
            self._told(f"the image of inspection {result.id} is left out: {content}")
            return
        image = label_image(result, there.suffix if there is not None else suffix_of(content))
        assert image is not None, "it has a label with any suffix"
        target = self._folder.root / image.file
        make_folder(target.parent)
        if there is None:
            replace_file(target, content)
            self._folder.copied += 1
        elif there != target:
            there.replace(target)
        wanted = {target}
        if image.mask is not None:
            mask = self._folder.root / image.mask
            make_folder(mask.parent)
            replace_file(mask, draw_mask(result, image.review))
            wanted.add(mask)
        self._drop(result.id, except_for=wanted)
        self._folder.images[result.id] = image

    def finish(self) -> ExportedFolder:
        """Take over what an earlier export has, write the lists, and return the folder."""
        for inspection_id in [*self._folder.known, *self._files]:
            if inspection_id not in self._folder.images.keys() | self._folder.missing.keys():
                self._look_again(inspection_id)
        images = [self._folder.images[one] for one in sorted(self._folder.images)]
        make_folder(self._folder.root)
        replace_file(self._folder.root / GROUPS, "".join([groups_header(), *map(group_line, images)]).encode())
        replace_file(self._folder.root / LABELS, "".join(image.to_line() for image in images).encode())
        self._write_missing()
        return self._folder

    def _write_missing(self) -> None:
        file, missing = self._folder.root / MISSING, self._folder.missing
        if missing:
            replace_file(file, "".join([missing_header(), *map(missing_line, missing.values())]).encode())
        else:
            file.unlink(missing_ok=True)

    def _image_there(self, result: Result) -> Path | None:
        """Return the image that lies there already, if it is whole."""
        images = [
            path for path in self._files.get(result.id, []) if "test" in path.relative_to(self._folder.root).parts
        ]
        for path in images:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            if result.image_sha256 in (None, digest):
                return path
        return None

    def _fetch(self, result: Result) -> bytes | MissingReason:
        try:
            content = self._client.artifact(result.id, "image")
        except ApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            return MissingReason.NOT_KEPT
        if result.image_sha256 not in (None, hashlib.sha256(content).hexdigest()):
            return MissingReason.OTHER_BYTES
        return content

    def _look_again(self, inspection_id: str) -> None:
        """Ask for an image that an earlier export has, and this one's filters have not found."""
        known = self._folder.known.get(inspection_id)
        try:
            result = self._client.get(inspection_id)
        except ApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            if known is not None:  # the service keeps results for some days, the folder for ever
                self._folder.images[inspection_id] = known
            return
        if result.counting_review is not None:
            self.copy(result)
        else:
            self._drop(inspection_id, except_for=set())
            self._folder.removed += 1

    def _drop(self, inspection_id: str, *, except_for: set[Path]) -> None:
        for path in self._files.pop(inspection_id, []):
            if path not in except_for:
                path.unlink(missing_ok=True)
                with suppress(OSError):  # the folder of a label that no image has any more
                    path.parent.rmdir()


def _lines(file: Path) -> Iterator[str]:
    if file.is_file():
        with file.open(encoding="utf-8") as lines:  # not splitlines(): a note may hold U+2028, which ends no line here
            yield from lines
