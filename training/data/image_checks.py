"""Everything about a data folder's images that is worth knowing before hours are spent, found by reading all of them.

What cannot be trained on is refused, every file by name. What is allowed but probably not meant is a warning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from model_store.checkpoints import ImportRefused
from training.data.alike_images import find_twins
from training.data.data_warnings import data_warnings
from training.data.dataset import find_groups_file, list_good_images, read_groups
from training.data.image_files import DataError, images_in, subfolders
from training.data.image_survey import SurveyedImage, survey_images
from training.data.layouts import FolderLayout, detect_layout
from training.data.proposed_groups import SIDE, GroupFinder, ProposedGroups, groups_in_words
from training.data.visa import labelled_images
from training.progress import Count

SHOWN = 8
"""Files that a sentence names; the rest is counted."""
USUAL_SHARE = 0.8
"""Of the images, that must have one size for the others to be odd ones; below, sizes are simply mixed."""
COLOURLESS = frozenset({"1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N"})


@dataclass(frozen=True)
class ImageChecks:
    """What was found in the images of a data folder."""

    images: tuple[SurveyedImage, ...]
    """The good ones, without their pixels."""
    test_images: int
    warnings: tuple[str, ...]
    groups: ProposedGroups | None
    """None: a groups file is there, or nothing could compare the images."""

    @property
    def sizes(self) -> Counter[tuple[int, int]]:
        """Width and height of the upright images -> how many have them."""
        return Counter(image.size for image in self.images)


def check_images(root: Path, *, progress: Count | None = None, workers: int | None = None) -> ImageChecks:
    """Return what is found in the images of a folder, all of them read whole.

    Args:
        root: the folder of one class.
        progress: called after each image.
        workers: processes; None: one per core; 1: all in this one.

    Raises:
        DataError: if the folder has no layout, a CSV file of it is not usable, or good images cannot be read: names
            all of these.
    """
    said = data_warnings(root)
    good, test = list_good_images(root), _test_images(root)
    finder = _group_finder() if find_groups_file(root) is None else None
    good_count = len(good)
    images = survey_images(
        (*good, *test),
        squares=None if finder is None else SIDE,
        consume=_Described(finder, frozenset(good)),
        progress=progress,
        workers=workers,
    )
    trained_on, tested = images[:good_count], images[good_count:]
    refuse_unreadable(trained_on)
    groups = None if finder is None else finder.find()
    found = (
        _unreadable_test_images(tested),
        _mixed_sizes(trained_on),
        _mixed_colours(trained_on),
        _twins(images, frozenset(test), root, _known_sisters(root, groups)),
        groups_in_words(groups, root) if groups is not None and groups.suspicious else None,
    )
    return ImageChecks(trained_on, len(test), (*said, *(one for one in found if one)), groups)


@dataclass(frozen=True, eq=False)
class _Described:
    """Takes a surveyed image's square as soon as it is described: thousands of them would fill the memory."""

    finder: GroupFinder | None
    compared: frozenset[Path]

    def __call__(self, image: SurveyedImage) -> SurveyedImage:
        if self.finder is not None and image.path in self.compared:
            self.finder.add(image)
        return image.without_square


def _group_finder() -> GroupFinder | None:
    try:
        return GroupFinder()
    except ImportRefused:  # the backbone's package is not installed: a recipe of the pixel form does without
        return None


def _test_images(root: Path) -> tuple[Path, ...]:
    if detect_layout(root) is FolderLayout.VISA:
        try:
            return tuple(image.path for image in labelled_images(root))
        except DataError:  # a broken test/ does not stop training
            return ()
    return tuple(chain.from_iterable(images_in(kind) for kind in subfolders(root / "test")))


def refuse_unreadable(images: Sequence[SurveyedImage]) -> None:
    """Refuse images that cannot be read.

    Raises:
        DataError: names all of them, up to `SHOWN`, each with its reason, and counts the rest.
    """
    broken = [image.problem for image in images if image.problem is not None]
    if len(broken) == 1:
        raise DataError(broken[0])
    if broken:
        raise DataError("\n".join([f"{len(broken)} of {len(images)} images cannot be read:", *_listed(broken)]))


def _unreadable_test_images(images: Sequence[SurveyedImage]) -> str | None:
    broken = [image.problem for image in images if image.problem is not None]
    if not broken:
        return None
    head = f"{len(broken)} labelled images cannot be read, which `glad evaluate` will refuse:"
    return "\n".join([head, *_listed(broken)])


def _mixed_sizes(images: Sequence[SurveyedImage]) -> str | None:
    """Return a warning if a few images have another size than nearly all: another camera, or one that was cropped."""
    sizes = Counter(image.size for image in images)
    (usual, count), *others = sizes.most_common()
    if not others or count < USUAL_SHARE * len(images):
        return None
    odd = [image for image in images if image.size != usual]
    first = odd[0]
    return (
        f"{len(odd)} of {len(images)} images have another size than the others, {usual[0]}×{usual[1]}: the first is "
        f"{first.path}, {first.width}×{first.height}. Each is scaled to the model's square, so the part looks larger "
        "or smaller in them: take them again like the others, or take them out"
    )


def _mixed_colours(images: Sequence[SurveyedImage]) -> str | None:
    grey = [image for image in images if image.mode in COLOURLESS]
    if not grey or len(grey) == len(images):
        return None
    few = grey if 2 * len(grey) <= len(images) else [image for image in images if image.mode not in COLOURLESS]
    kind, rest = ("grey", "in colour") if few is grey else ("in colour", "grey")
    return (
        f"{len(few)} of {len(images)} images are {kind}, the others {rest}: the first is {few[0].path}. A model that "
        "learns both finds neither odd: store all as the line's camera gives them"
    )


def _known_sisters(root: Path, groups: ProposedGroups | None) -> dict[Path, object]:
    """Return the group of each image that is known, or warned of, to show one part with others."""
    if groups is not None and groups.suspicious:
        return {path: number for number, group in enumerate(groups.groups) for path in group}
    return {root / name: group for name, group in read_groups(root).items()}


def _twins(
    images: Sequence[SurveyedImage], test: frozenset[Path], root: Path, sisters: Mapping[Path, object]
) -> str | None:
    """Return a warning about photographs that are there twice, those in training and test first."""
    shown = [(image.path, image.thumbnail) for image in images if image.thumbnail is not None]
    if len(shown) < 2:
        return None
    found = [(shown[i][0], shown[j][0]) for i, j in find_twins(np.stack([thumbnail for _, thumbnail in shown]))]
    pairs = [(a, b) for a, b in found if sisters.get(a, a) != sisters.get(b, b)]
    across = [pair for pair in pairs if len(test.intersection(pair)) == 1]
    within = [pair for pair in pairs if not test.intersection(pair)]
    lines = [
        *_pairs_in_words(across, root, "in training and test: what is measured there is too good"),
        *_pairs_in_words(within, root, "among the good images: two that should be independent are not"),
    ]
    if not lines:
        return None
    return "\n".join(["some photographs seem to be there twice (saved again, resized or brightened):", *lines])


def _pairs_in_words(pairs: Sequence[tuple[Path, Path]], root: Path, what: str) -> list[str]:
    if not pairs:
        return []
    names = [" = ".join(path.relative_to(root).as_posix() for path in pair) for pair in pairs]
    return [f"  {len(pairs)} pairs {what}" if len(pairs) > 1 else f"  1 pair {what}", *_listed(names, indent=4)]


def _listed(lines: Sequence[str], indent: int = 2) -> list[str]:
    more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return [" " * indent + line for line in (*lines[:SHOWN], *more)]


def sizes_in_words(sizes: Mapping[tuple[int, int], int]) -> str:
    """Return the sizes of images, such as `256×256`, or `312 sizes from 103×222 to 632×403`."""
    ordered = sorted(sizes, key=lambda size: size[0] * size[1])
    smallest, largest = ordered[0], ordered[-1]
    if smallest == largest:
        return f"{smallest[0]}×{smallest[1]}"
    return f"{len(sizes)} sizes from {smallest[0]}×{smallest[1]} to {largest[0]}×{largest[1]}"
