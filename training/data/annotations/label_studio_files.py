"""Exports of Label Studio (JSON): rectangles, polygons, ellipses and brushes, in percent of the image."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from glad.brush_masks import decode_brush
from glad.image_codec import SUFFIXES
from training.data.annotations.marks import (
    AnnotatedImage,
    Annotations,
    Mark,
    Rle,
    area,
    box_ring,
    ellipse_ring,
    pixels_mask,
    rings_mask,
)
from training.data.image_files import DataError

SHAPES = ("rectangle", "polygon", "ellipse", "brush")
WITHOUT_PLACE = {
    "choices", "datetime", "number", "pairwise", "ranker", "rating", "relation", "taxonomy", "textarea",
}  # fmt: skip
"""What is said of an image or a region, and marks nothing."""
UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")
"""Label Studio puts it before the name of a file that was uploaded."""


class TaskResult(BaseModel):
    """One thing that an annotator said."""

    id: str = ""
    type: str
    value: dict[str, Any] = Field(default_factory=dict)
    original_width: int | None = Field(None, ge=1)
    original_height: int | None = Field(None, ge=1)
    image_rotation: float = 0


class TaskAnnotation(BaseModel):
    """One annotator's work on a task."""

    result: list[TaskResult]
    was_cancelled: bool = False
    ground_truth: bool = False


class Task(BaseModel):
    """An image with what annotators said of it."""

    model_config = ConfigDict(allow_inf_nan=False)

    id: int | str | None = None
    data: dict[str, Any]
    annotations: list[TaskAnnotation]
    predictions: list[Any] = Field(default_factory=list)


def read_label_studio(file: Path) -> Annotations:
    """Return the images of an export of Label Studio; one that was submitted without a region is good.

    Tasks without an annotation, or with a cancelled one alone, are left out: nobody has looked at them.

    Raises:
        DataError: if the file cannot be read, or a region cannot be a mask; names file, task and way out.
    """
    found, notes = [], Counter[str]()
    for number, task in enumerate(_parsed(file), start=1):
        where = f"task {number if task.id is None else task.id} of {file}"
        annotation = _chosen(task, where)
        if annotation is None:
            notes["tasks without an annotation are left out" + (", predictions too" if task.predictions else "")] += 1
            continue
        notes.update(f"results of type {one.type} mark no place" for one in annotation.result if _placeless(one))
        found.append(_image(task, annotation, where))
    return Annotations(tuple(found), tuple(f"{count} {note}" for note, count in sorted(notes.items())))


def _parsed(file: Path) -> list[Task]:
    try:
        return TypeAdapter(list[Task]).validate_json(file.read_bytes())
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DataError(
            f"{file} is no export of Label Studio in the format JSON (JSON-MIN has not all that is needed): "
            f"{place + ': ' if place else ''}{first['msg']}"
        ) from error


def _chosen(task: Task, where: str) -> TaskAnnotation | None:
    done = [one for one in task.annotations if not one.was_cancelled]
    certain = [one for one in done if one.ground_truth]
    if len(done) > 1 and len(certain) != 1:
        raise DataError(
            f"{where} has {len(done)} annotations, and no or several of them are marked as ground truth: mark one with "
            "the star in Label Studio, or delete the others, and export again"
        )
    return next(iter(certain or done), None)


def _placeless(result: TaskResult) -> bool:
    return result.type in WITHOUT_PLACE


def _image(task: Task, annotation: TaskAnnotation, where: str) -> AnnotatedImage:
    results = [one for one in annotation.result if not _placeless(one)]
    labelled = {one.id for one in results if one.type.endswith("labels")}
    marks = []
    # <Labels> with <Rectangle>: two results of one id, and the one without a label adds nothing
    for result in (one for one in results if one.type.endswith("labels") or one.id not in labelled):
        try:
            marks.append(_mark(result))
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
    sizes = {
        (one.original_width, one.original_height)
        for one in annotation.result
        if one.original_width is not None and one.original_height is not None
    }
    if len(sizes) > 1:
        raise DataError(f"{where} has regions of images of different sizes: it must have one image")
    return AnnotatedImage(_names(task, where), where, next(iter(sizes), None), tuple(marks))


def _mark(result: TaskResult) -> Mark:
    shape = _shape(result)
    width, height = result.original_width, result.original_height
    if width is None or height is None:
        raise DataError("a region lacks original_width and original_height: export as JSON, not JSON-MIN")
    if result.image_rotation % 360:
        raise DataError(
            f"the image was turned by {result.image_rotation:g}° in the editor: turn the file itself, and mark it again"
        )
    mask = _mask(shape, result.value, width, height)
    if area(mask) == 0:
        raise DataError(f"a {shape} marks no pixel: remove it, or mark the defect again")
    return Mark(_label(result, shape), mask, is_box=shape == "rectangle")


def _shape(result: TaskResult) -> str:
    """Return the kind of region: by its type or, where that is `labels` alone, by what its value has."""
    named = result.type.removesuffix("labels")
    by_value = (("rle", "brush"), ("points", "polygon"), ("radiusX", "ellipse"), ("width", "rectangle"))
    shape = named or next((shape for key, shape in by_value if key in result.value), result.type)
    if shape not in SHAPES:
        raise DataError(
            f"a region of type {result.type} marks no area: mark defects by {', '.join(SHAPES[:-1])} or {SHAPES[-1]}"
        )
    return shape


def _label(result: TaskResult, shape: str) -> str:
    labels = result.value.get(f"{shape}labels") or result.value.get("labels") or []
    if not isinstance(labels, list) or len(labels) != 1:
        given = ", ".join(map(str, labels)) if isinstance(labels, list) and labels else "no label"
        raise DataError(f"a {shape} has {given}; it needs one, the kind of defect: label it, and export again")
    return str(labels[0])


def _mask(shape: str, value: dict[str, Any], width: int, height: int) -> Rle:
    """Return the mask of a region, whose coordinates are percent of the image's width and height."""
    try:
        if shape == "brush":
            return pixels_mask(decode_brush(value["rle"], width, height))
        if shape == "polygon":
            ring = [(x * width / 100, y * height / 100) for x, y in value["points"]]
        else:
            names = ("width", "height") if shape == "rectangle" else ("radiusX", "radiusY")
            x, y, across, down = (float(value[name]) / 100 for name in ("x", "y", *names))
            turned = box_ring if shape == "rectangle" else ellipse_ring
            ring = turned(x * width, y * height, across * width, down * height, float(value.get("rotation", 0)))
    except DataError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f"a {shape} cannot be read ({reason})") from error
    return rings_mask([ring], width, height)


def _names(task: Task, where: str) -> tuple[str, ...]:
    """Return the names under which the task's image may lie: its path, its file's name, that without the prefix."""
    texts = {key: value for key, value in task.data.items() if isinstance(value, str)}
    images = [value for value in texts.values() if PurePosixPath(_path(value)).suffix.lower() in SUFFIXES]
    if "image" in texts:
        images = [texts["image"]]
    if len(images) != 1:
        raise DataError(f"{where} has {len(images)} images in its `data` ({', '.join(task.data)}), and needs one")
    path = _path(images[0])
    name = PurePosixPath(path).name
    return tuple(dict.fromkeys((path, name, UPLOAD_PREFIX.sub("", name))))


def _path(address: str) -> str:
    """Return the path of an image in its address: `/data/local-files/?d=PATH`, a URL, or a path."""
    parts = urlsplit(address)
    local: Sequence[str] = parse_qs(parts.query).get("d", [])
    return local[0] if local else unquote(parts.path) if parts.scheme or "%" in address else address
