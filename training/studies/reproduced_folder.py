"""The folder of a reproduction: whose it is, who works on which class of it, and what is recorded there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from model_store.files import replace_file
from training.data.dataset import TestImage, list_good_images
from training.data.image_checks import refuse_unreadable
from training.data.image_survey import survey_images
from training.full_disk import full_disk_explained
from training.progress import Progress
from training.run_differences import changed_settings
from training.run_lock import locked_run
from training.training_run import TrainingRun

MARK = "run.json"
MEASURING = "measuring"
"""The stage of a class's own folder, of which the time is noted."""
ANOTHER_OUT = "give --out another folder for this one"
MADE_ANEW, FROM_BACKUP = "remove it, so that it is made anew", "bring it back from a backup"
"""What to do about a damaged record; without its mark, OUT would be anybody's."""


def claim_folder(
    out: Path, classes: Mapping[str, Mapping[str, Any]], as_now: Callable[[Any], Any] = lambda recorded: recorded
) -> None:
    """Mark OUT as this run's, or refuse it as another's. More classes of the same run may come later.

    Args:
        out: the run's folder.
        classes: class -> what may not change within a run, for JSON.
        as_now: returns what an earlier version recorded of a class as this one would.

    Raises:
        ValueError: if it is another's; says in what they differ.
    """
    with locked_run(out, ANOTHER_OUT):  # a call for other classes may be about to add its own
        known = refuse_other_run(out, classes, as_now)
        replace_file(out / MARK, (json.dumps({**known, **classes}, indent=2) + "\n").encode())


def refuse_other_run(
    out: Path, classes: Mapping[str, Mapping[str, Any]], as_now: Callable[[Any], Any] = lambda recorded: recorded
) -> dict[str, Any]:
    """Refuse OUT, which need not exist, as another run's, or return what it holds; arguments and errors as above."""
    known = read_record(out / MARK, FROM_BACKUP)
    for product, ours in classes.items():
        if differences := changed_settings(as_now(known.get(product, ours)), ours):
            raise ValueError(
                f"{out} holds class {product} of another run: {'; '.join(differences)}: give another --out"
            )
    return known


def read_record(file: Path, way_out: str = MADE_ANEW) -> dict[str, Any]:
    """Return what a JSON file of OUT records; nothing where it is not there.

    Args:
        file: that is read.
        way_out: what a refusal proposes beside another folder.

    Raises:
        ValueError: if it cannot be read.
    """
    if not file.is_file():
        return {}
    try:
        recorded = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(recorded, dict):
            return recorded
        problem = "it holds no object"
    except ValueError as error:
        problem = str(error)
    raise ValueError(f"{file} is damaged ({problem}): {way_out}, or give --out another folder")


@contextmanager
def class_held(out: Path, product: str) -> Iterator[TrainingRun]:
    """Hold a class of OUT for the block, against another call for it, and yield where its measuring is noted.

    Raises:
        RunInUse: if another call holds it.
        DiskFull: if no more could be written.
    """
    folder = class_folder(out, product)
    with full_disk_explained(out), locked_run(folder, ANOTHER_OUT):
        yield TrainingRun(folder, (MEASURING,))


def class_folder(out: Path, product: str) -> Path:
    """Return the folder of a class's own measuring."""
    return out / "runs" / product


def refuse_unreadable_images(
    classes: Sequence[tuple[Path, Sequence[TestImage]]], *, progress: Progress, workers: int | None = None
) -> None:
    """Read every image of some classes, good ones and labelled ones, and refuse those that cannot be read.

    A damaged one in the last class would else show after days.

    Args:
        classes: of each the folder, and its labelled images.
        progress: shows how many are read.
        workers: processes; None: one per core; 1: all in this one.

    Raises:
        DataError: names them.
    """
    paths = [path for data, labelled in classes for path in (*list_good_images(data), *(one.path for one in labelled))]
    refuse_unreadable(survey_images(paths, progress=partial(progress, "images"), workers=workers))
