"""Annotated images become a data folder: test/good, test/<defect> and the masks in ground_truth/<defect>.

All is checked and written beside the folder first. It is moved in when nothing was wrong, so an error leaves no half
of a data set behind.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath

from glad.image_codec import SUFFIXES, to_png
from training.data.annotations.marks import AnnotatedImage, Annotations, Mark, Rle, area, as_pixels, joined
from training.data.image_files import DataError, Header, check_image
from training.data.masks import check_mask

GOOD = "good"
UNFIT_FOR_FOLDERS = '/\\:*?"<>|\0'
"""Replaced in the name of a kind of defect, which becomes a folder's name."""


class BoxUse(StrEnum):
    """What a box without a mask is good for."""

    LABEL = "label"
    """The image is defective; where is not known: its kind of defect gets no masks."""
    FILL = "fill"
    """The whole box counts as defect: pixel figures then say how well boxes are met."""


@dataclass(frozen=True)
class ImportedTruth:
    """What was written."""

    images: Mapping[str, int]
    """Kind of defect, or `good` -> number of its images."""
    masks: int
    notes: tuple[str, ...]
    """What took no part, or needs a look."""


@dataclass(frozen=True)
class PlannedImage:
    """An image with the place that it goes to."""

    source: Path
    header: Header
    name: str
    kind: str
    mask: Rle | None


def import_truth(annotations: Annotations, images: Path, out: Path, boxes: BoxUse = BoxUse.LABEL) -> ImportedTruth:
    """Write annotated images and their masks into a data folder, which may have others already.

    An image with several kinds of defect belongs to the one with the largest area, and its mask has them all.

    Args:
        images: the folder with the image files, also in subfolders.
        out: the data folder; nothing in it is written over.

    Raises:
        DataError: for the first image or mark that cannot be used; then nothing is written.
    """
    plan = _plan(annotations.images, images, boxes)
    targets = [target for one in plan for target in _targets(one)]
    if taken := next((out / target for target in targets if (out / target).exists()), None):
        raise DataError(f"{taken} exists already: give another --out, or remove what an earlier import wrote")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".import-", dir=out) as staged:
        for one in plan:
            _write(one, Path(staged))
        for target in targets:
            (out / target).parent.mkdir(parents=True, exist_ok=True)
            os.replace(Path(staged) / target, out / target)
    left = len(_image_files(images)) - len(plan)
    notes = [*annotations.notes, *([f"{left} images of {images} are not named in the annotations"] if left else [])]
    return ImportedTruth(Counter(one.kind for one in plan), sum(one.mask is not None for one in plan), tuple(notes))


def _plan(annotated: Sequence[AnnotatedImage], folder: Path, boxes: BoxUse) -> list[PlannedImage]:
    if not annotated:
        raise DataError("the annotations name no image: is it the right file?")
    files = _files(annotated, folder)
    names = _unique_names([file.relative_to(folder) for file in files])
    plan = [_planned(one, file, name, boxes) for one, file, name in zip(annotated, files, names, strict=True)]
    _refuse_half_masked(plan)
    return plan


def _planned(image: AnnotatedImage, file: Path, name: str, boxes: BoxUse) -> PlannedImage:
    header = check_image(file)
    _check_size(image, file, header)
    drawn = [mark for mark in image.marks if boxes is BoxUse.FILL or not mark.is_box]
    if drawn and len(drawn) < len(image.marks):
        raise DataError(
            f"{image.where}, {file}, has marks with a shape and boxes without one: its mask would lack what the boxes "
            "show; give --boxes fill, or mark those defects by their shape"
        )
    mask = joined([mark.mask for mark in drawn]) if drawn else None
    return PlannedImage(file, header, name, _kind(image.marks, image.where), mask)


def _files(annotated: Sequence[AnnotatedImage], folder: Path) -> list[Path]:
    """Return the file of each image.

    Raises:
        DataError: if one is missing, is found twice, or is named twice.
    """
    check_has_images(folder)
    by_path = {path.relative_to(folder).as_posix(): path for path in _image_files(folder)}
    by_name: dict[str, list[Path]] = defaultdict(list)
    for path in by_path.values():
        by_name[path.name].append(path)
    found = [_find(image, by_path, by_name) for image in annotated]
    if missing := [image for image, file in zip(annotated, found, strict=True) if file is None]:
        more = f" ({len(missing)} are missing)" if len(missing) > 1 else ""
        raise DataError(
            f"{missing[0].names[0]}, {missing[0].where}, is not in {folder}{more}: copy it there, or give the folder "
            "that has it with --images"
        )
    files = [file for file in found if file is not None]
    seen: dict[Path, str] = {}
    for image, file in zip(annotated, files, strict=True):
        if file in seen:
            raise DataError(f"{file} is named by {seen[file]} and by {image.where}: each image is named once")
        seen[file] = image.where
    return files


def check_has_images(folder: Path) -> None:
    """Check that a folder has images, in subfolders or not.

    Raises:
        DataError: if it has none.
    """
    if not _image_files(folder):
        raise DataError(
            f"{folder} holds no images ({', '.join(sorted(SUFFIXES))}): give the folder that holds the annotated ones"
        )


def _find(image: AnnotatedImage, by_path: Mapping[str, Path], by_name: Mapping[str, Sequence[Path]]) -> Path | None:
    """Return the image of a path in the folder or, wherever it lies there, the one of its name."""
    for name in image.names:
        if (file := by_path.get(PurePosixPath(name).as_posix())) is not None:
            return file
        alike = by_name.get(PurePosixPath(name).name, ())
        if len(alike) > 1:
            raise DataError(
                f"{name}, {image.where}, may be {alike[0]} or {alike[1]}: name it with its folder, relative to --images"
            )
        if alike:
            return alike[0]
    return None


def _image_files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def _unique_names(paths: Sequence[Path]) -> list[str]:
    """Return a file's name for each path, such that no two masks would have one name.

    A file whose name is not its own alone gets those of its folders before it: `left/1.png` becomes `left-1.png`; and
    where only the suffix differs, that too: `1.jpg` beside `1.png` becomes `1-jpg.jpg`.
    """
    folders = ["-".join((*path.parent.parts, path.stem)) for path in paths]
    suffixes = [f"{stem}-{path.suffix.lstrip('.')}" for stem, path in zip(folders, paths, strict=True)]
    stems = _longer_where_shared(_longer_where_shared([path.stem for path in paths], folders), suffixes)
    if doubled := next((stem for stem, count in Counter(stems).items() if count > 1), None):
        same = [str(path) for path, stem in zip(paths, stems, strict=True) if stem == doubled]
        raise DataError(f"{' and '.join(same)} would both become {doubled}: rename one of them")
    return [stem + path.suffix for path, stem in zip(paths, stems, strict=True)]


def _longer_where_shared(names: Sequence[str], longer: Sequence[str]) -> list[str]:
    often = Counter(names)
    return [other if often[name] > 1 else name for name, other in zip(names, longer, strict=True)]


def _check_size(image: AnnotatedImage, file: Path, header: Header) -> None:
    if image.size in (None, (header.width, header.height)):
        return
    assert image.size is not None, "the comparison above has seen to it"
    width, height = image.size
    turned = (
        "; its EXIF says that it was taken on its side, and the tool has not turned it: store it upright, and mark it "
        "again"
        if image.size == (header.height, header.width)
        else ": was another version of it marked?"
    )
    raise DataError(
        f"{file} is {header.width}×{header.height} (upright, EXIF applied), and was marked as {width}×{height} "
        f"({image.where}){turned}"
    )


def _kind(marks: Sequence[Mark], where: str) -> str:
    areas: Counter[str] = Counter()
    for mark in marks:
        areas[mark.category] += area(mark.mask)
    if not areas:
        return GOOD
    category = max(areas, key=lambda name: (areas[name], name))
    kind = "".join("-" if letter in UNFIT_FOR_FOLDERS else letter for letter in category).strip(" .")
    if not kind or kind == GOOD:
        raise DataError(
            f"{where} has a mark of the category {category!r}, and the folder of a defect cannot be called so: rename "
            "the category; a good image has no marks"
        )
    return kind


def _refuse_half_masked(plan: Sequence[PlannedImage]) -> None:
    """Refuse a kind of defect of which some images have masks and others boxes: all need a mask then, or none."""
    masked = {one.kind: one for one in plan if one.mask is not None}
    for one in plan:
        if one.kind != GOOD and one.mask is None and one.kind in masked:
            raise DataError(
                f"{one.source} has boxes alone, and {masked[one.kind].source}, of the kind {one.kind!r} too, has a "
                "mask: give --boxes fill, mark all of them by their shape, or use two categories"
            )


def _targets(one: PlannedImage) -> Iterator[Path]:
    yield Path("test") / one.kind / one.name
    if one.mask is not None:
        yield Path("ground_truth") / one.kind / f"{Path(one.name).stem}_mask.png"


def _write(one: PlannedImage, folder: Path) -> None:
    """Write an image and its mask, and check that they can be the truth."""
    paths = [folder / target for target in _targets(one)]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(one.source, paths[0])
    if one.mask is None:
        return
    paths[1].write_bytes(to_png(as_pixels(one.mask)))
    try:
        check_mask(paths[1], paths[0], one.header)
    except DataError as error:
        shown = str(error).replace(str(paths[1]), "its mask").replace(str(paths[0]), str(one.source))
        raise DataError(f"{one.source}: {shown}") from error
