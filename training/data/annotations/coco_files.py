"""COCO's files of annotations: boxes, polygons and run lengths by image and category."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from training.data.annotations.marks import (
    AnnotatedImage,
    Annotations,
    Mark,
    Rle,
    area,
    box_ring,
    counts_mask,
    rings_mask,
)
from training.data.image_files import DataError


class CocoImage(BaseModel):
    """An entry of `images`."""

    id: int | str
    file_name: str = Field(min_length=1)
    width: int = Field(ge=1)
    height: int = Field(ge=1)


class CocoCategory(BaseModel):
    """An entry of `categories`."""

    id: int | str
    name: str


class CocoCounts(BaseModel):
    """Run lengths, compressed or not."""

    size: tuple[int, int]
    counts: str | list[int]


class CocoAnnotation(BaseModel):
    """An entry of `annotations`."""

    model_config = ConfigDict(allow_inf_nan=False)

    id: int | str | None = None
    image_id: int | str
    category_id: int | str
    bbox: list[float] | None = None
    segmentation: CocoCounts | list[list[float]] | None = None
    keypoints: list[float] | None = None
    attributes: dict[str, Any] = Field(default_factory=dict)


class CocoFile(BaseModel):
    """The whole file, as far as it counts here."""

    images: list[CocoImage]
    categories: list[CocoCategory]
    annotations: list[CocoAnnotation]


def read_coco(file: Path) -> Annotations:
    """Return the images of a COCO file; one without annotations is good.

    Raises:
        DataError: if the file cannot be read, or an annotation cannot be a mask; names file, annotation and way out.
    """
    content = _parsed(file)
    names = {category.id: category.name for category in content.categories}
    images = {image.id: image for image in content.images}
    if len(images) < len(content.images):
        raise DataError(f"{file} has two images of one id: annotations cannot tell them apart; export it again")
    marks: dict[int | str, list[Mark]] = defaultdict(list)
    for number, annotation in enumerate(content.annotations):
        where = f"annotation {number if annotation.id is None else annotation.id} of {file}"
        if annotation.image_id not in images:
            raise DataError(f"{where} is of image {annotation.image_id}, which `images` does not list: export it again")
        if annotation.category_id not in names:
            raise DataError(
                f"{where} is of category {annotation.category_id}; `categories` has "
                f"{', '.join(f'{key} ({name})' for key, name in names.items()) or 'none'}: export it again"
            )
        marks[annotation.image_id].append(_mark(annotation, names[annotation.category_id], images, where))
    found = [
        AnnotatedImage((image.file_name,), f"image {key} of {file}", (image.width, image.height), tuple(marks[key]))
        for key, image in images.items()
    ]
    return Annotations(tuple(found), _notes(names, marks))


def _parsed(file: Path) -> CocoFile:
    try:
        return CocoFile.model_validate_json(file.read_bytes())
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error
    except ValidationError as error:
        raise DataError(f"{file} is no COCO file of annotations: {_first_problem(error)}") from error


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if not first["loc"] and first["type"] == "model_type":
        return "it is a list, as COCO's *results* are; give the file with `images`, `annotations` and `categories`"
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else first["msg"]


def _mark(annotation: CocoAnnotation, category: str, images: Mapping[int | str, CocoImage], where: str) -> Mark:
    image = images[annotation.image_id]
    try:
        mask = _mask(annotation, image.width, image.height)
    except DataError as error:
        raise DataError(f"{where}, on {image.file_name}: {error}") from error
    if area(mask) == 0:
        raise DataError(f"{where}, on {image.file_name}: it marks no pixel: remove it, or mark the defect again")
    return Mark(category, mask, is_box=not annotation.segmentation)


def _mask(annotation: CocoAnnotation, width: int, height: int) -> Rle:
    match annotation.segmentation:
        case CocoCounts(size=size, counts=counts):
            if size != (height, width):
                raise DataError(
                    f"its mask is {size[1]}×{size[0]}, its image {width}×{height}: a mask has its image's size"
                )
            return counts_mask(counts, width, height)
        case [_, *_] as polygons:
            return rings_mask([_points(polygon) for polygon in polygons], width, height)
    if annotation.bbox is None:
        what = "keypoints alone" if annotation.keypoints else "neither segmentation nor bbox"
        raise DataError(f"it has {what}: mark the defect's area, by polygon, brush or box")
    turned = annotation.attributes.get("rotation")
    if len(annotation.bbox) != 4 or (isinstance(turned, int | float) and turned % 360):
        raise DataError(
            "it is a turned box, which COCO has no form for: export it as a polygon or a mask (`segmentation`)"
        )
    x, y, across, down = annotation.bbox
    return rings_mask([box_ring(x, y, across, down)], width, height)


def _points(polygon: Sequence[float]) -> list[tuple[float, float]]:
    if len(polygon) % 2:
        raise DataError(f"a polygon has {len(polygon)} numbers; they come in pairs, x and y: export it again")
    return list(zip(polygon[::2], polygon[1::2], strict=True))


def _notes(names: Mapping[int | str, str], marks: Mapping[int | str, Sequence[Mark]]) -> tuple[str, ...]:
    used = {mark.category for some in marks.values() for mark in some}
    unused = [name for name in names.values() if name not in used]
    return (f"no annotation is of {', '.join(unused)}",) if unused else ()
