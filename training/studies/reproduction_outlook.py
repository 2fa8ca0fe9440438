"""`glad reproduce --dry-run`: what is done of each class, what is left, about how long and how much disk it takes.

Nothing is guessed: times are those of what is done in this folder already, or of steps that were tried.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean

from training.data.dataset import TestImage, good_split, test_images
from training.evaluation.rows import GOOD
from training.evaluation.tables import Table
from training.needed_resources import existing_parent, needs, writable_problem
from training.peak_memory import in_gib
from training.progress import Progress
from training.recipe import Recipe
from training.run_identity import comparable_identity
from training.run_lock import RunInUse, refuse_run_in_use
from training.studies.protocol import TRAININGS, ClassTraining, ProtocolPlan, report_of_class
from training.studies.reproduce import VERSION, PublishedWeights, ReproductionPlan, identities
from training.studies.reproduced_folder import (
    ANOTHER_OUT,
    MEASURING,
    class_folder,
    read_record,
    refuse_other_run,
    refuse_unreadable_images,
)
from training.studies.retrained import BUNDLE
from training.training_run import in_words, read_records
from training.tried_steps import TriedStage, try_stages

DONE, BEGUN, LEFT = "done", "begun", "to do"
ABOUT, AT_MOST, MORE_THAN = "about", "at most", "more than"


@dataclass(frozen=True)
class ReproductionOutlook:
    """What a call of `glad reproduce` is going to do."""

    heading: str
    classes: Table
    costs: tuple[str, ...]
    problems: tuple[str, ...]
    """Why it would fail."""

    def as_text(self) -> str:
        """Return it for people."""
        end = "nothing was done; it would fail" if self.problems else "nothing was done; nothing stands in the way"
        problems = ("", *(f"problem: {one}" for one in self.problems)) if self.problems else ()
        return "\n".join([self.heading, "", self.classes.as_markdown(), "", *self.costs, *problems, "", end])


@dataclass(frozen=True)
class _Training:
    """One of the two trainings of a class."""

    product: str
    version: str
    run: Path
    needed: bool
    """Whether its bundle is still needed."""
    bundle: Path

    @property
    def state(self) -> str:
        if self.bundle.exists() or not self.needed:
            return DONE
        return BEGUN if read_records(self.run) else LEFT


def protocol_outlook(
    plan: ProtocolPlan, out: Path, *, progress: Progress, workers: int | None = None
) -> ReproductionOutlook:
    """Return what `run_protocol` is going to do with a folder, which need not exist; all images are read.

    Args:
        plan: of the classes.
        out: the folder.
        progress: shows how many images are read.
        workers: processes that read them.
    """
    reports = {one.product: report_of_class(one.product, out) for one in plan.classes}
    measured = {name: _is_recorded(report) for name, report in reports.items()}
    trainings = [one for each in plan.classes for one in _trainings(each, out, measured=measured[each.product])]
    left = [one for one in trainings if one.state != DONE]
    images = {one.product: one.images for one in plan.classes}
    states = {
        one.product: [*(each.state for each in trainings if each.product == one.product), _state(measured[one.product])]
        for one in plan.classes
    }
    recipe = plan.classes[0].recipe
    tried = try_stages(recipe) if left and not _seconds_of(trainings) else ()
    problems = [
        *_refusals(
            lambda: refuse_other_run(out, {one.product: one.identity for one in plan.classes}, comparable_identity),
            *(partial(read_record, report) for report in reports.values()),
            *(partial(_refuse_class_in_use, name, out, left) for name in measured),
            lambda: refuse_unreadable_images(
                [(one.data, one.images) for one in plan.classes if not measured[one.product]],
                progress=progress,
                workers=workers,
            ),
        ),
        writable_problem(out),
    ]
    disk, lack = _disk_of_trainings(plan.classes[0], trainings, left, tried, out)
    return ReproductionOutlook(
        f"{plan.dataset} by trainings of {plan.recipe}: {len(plan.classes)} classes in {out}",
        _table(("with ATP", "without ATP"), states, images),
        (_time_of_trainings(plan.classes[0], trainings, left, tried), _time_of_measuring(images, measured, out), disk),
        tuple(one for one in (*problems, lack) if one),
    )


def published_outlook(
    plans: Sequence[ReproductionPlan],
    weights: PublishedWeights,
    out: Path,
    *,
    progress: Progress,
    workers: int | None = None,
) -> ReproductionOutlook:
    """Return what `reproduce` is going to do with a folder, which need not exist; arguments as above."""
    images = {one.product: tuple(test_images(one.data)) for one in plans}
    imported = {one.product: (out / "bundles" / one.product / VERSION).exists() for one in plans}
    reports = {one.product: out / f"{one.product}.json" for one in plans}
    measured = {name: _is_recorded(report) for name, report in reports.items()}
    states = {name: [_state(imported[name]), _state(measured[name])] for name in images}
    problems = [
        *_refusals(
            lambda: refuse_other_run(out, identities(plans, weights)),
            *(partial(read_record, report) for report in reports.values()),
            *(partial(_refuse_class_in_use, name, out) for name in images),
            lambda: refuse_unreadable_images(
                [(one.data, images[one.product]) for one in plans if not measured[one.product]],
                progress=progress,
                workers=workers,
            ),
        ),
        writable_problem(out),
    ]
    disk, lack = _disk_of_weights([one for one in plans if not imported[one.product]], out)
    return ReproductionOutlook(
        f"the published weights on {len(plans)} classes, in {out}",
        _table(("imported",), states, images),
        (_time_of_measuring(images, measured, out), disk),
        tuple(one for one in (*problems, lack) if one),
    )


def _trainings(one: ClassTraining, out: Path, *, measured: bool) -> Iterator[_Training]:
    first = next(iter(TRAININGS))
    for version in TRAININGS:
        run = out / "runs" / f"{one.product}-{version}"
        second_of_pixels = isinstance(one.recipe, Recipe) and version != first
        bundle = run / BUNDLE if second_of_pixels else out / "bundles" / one.product / version
        yield _Training(one.product, version, run, version == first or not measured, bundle)


def _is_recorded(report: Path) -> bool:
    """Return whether a class's figures are recorded; of a damaged record the problems tell."""
    try:
        return bool(read_record(report))
    except ValueError:
        return False


def _refuse_class_in_use(product: str, out: Path, left: Sequence[_Training] = ()) -> None:
    """Refuse a class on which another call works, or into whose trainings' folders one writes.

    Raises:
        RunInUse: names the first of these folders.
    """
    for folder in (class_folder(out, product), *(one.run for one in left if one.product == product)):
        refuse_run_in_use(folder, ANOTHER_OUT)


def _state(done: bool) -> str:
    return DONE if done else LEFT


def _table(
    columns: tuple[str, ...], states: Mapping[str, Sequence[str]], images: Mapping[str, Sequence[TestImage]]
) -> Table:
    rows = []
    for product, labelled in images.items():
        good = sum(image.defect == GOOD for image in labelled)
        rows.append((product, *states[product], f"{good} good, {len(labelled) - good} defective"))
    return Table(("class", *columns, "measured", "test images"), tuple(rows))


def _refusals(*checks: Callable[[], object]) -> Iterator[str]:
    """Yield why each check that refuses does so."""
    for check in checks:
        try:
            check()
        except (RunInUse, ValueError) as refusal:
            yield str(refusal)


def _seconds_of(trainings: Sequence[_Training]) -> dict[str, float]:
    """Return what a training took, by version: the mean of those that are done here."""
    taken: dict[str, list[float]] = {}
    for one in trainings:
        if one.state == DONE and (records := read_records(one.run)):
            taken.setdefault(one.version, []).append(sum(record.seconds for record in records.values()))
    return {version: mean(seconds) for version, seconds in taken.items()}


def _time_of_trainings(
    first: ClassTraining, trainings: Sequence[_Training], left: Sequence[_Training], tried: Sequence[TriedStage]
) -> str:
    if not left:
        return "trainings: all are done"
    count = f"trainings: {len(left)} of {len(trainings)} are left"
    known = _seconds_of(trainings)
    if known:
        # Of the pixel form the second training is of the UNet alone: where none is done, the first one's is too long.
        seconds = sum(known.get(one.version, max(known.values())) for one in left)
        return f"{count}, at most about {in_words(seconds)} by those that are done"
    if not tried:
        return f"{count}; how long one takes is known when the first is done"
    first_s = sum(one.step_s * getattr(first.recipe, one.name).steps for one in tried)
    unet_s = sum(one.step_s * getattr(first.recipe, one.name).steps for one in tried if one.name == "unet")
    second_s = unet_s if isinstance(first.recipe, Recipe) else first_s
    seconds = sum(first_s if one.version == next(iter(TRAININGS)) else second_s for one in left)
    return f"{count}, about {in_words(seconds)} for the stages of which a step was tried; the others were not measured"


def _time_of_measuring(images: Mapping[str, Sequence[TestImage]], measured: Mapping[str, bool], out: Path) -> str:
    left = sum(len(labelled) for name, labelled in images.items() if not measured[name])
    if not left:
        return "measuring: all is done"
    taken = [
        (record.seconds, len(images[name]))
        for name, done in measured.items()
        if done and (record := read_records(class_folder(out, name)).get(MEASURING)) is not None
    ]
    count = f"measuring: {left} images of {sum(not done for done in measured.values())} classes are left"
    if not taken:
        return f"{count}; how long one takes is known when the first class is measured"
    each_s = sum(seconds for seconds, _ in taken) / sum(number for _, number in taken)
    return f"{count}, about {in_words(each_s * left)} by those that are done"


def _disk_of_trainings(
    first: ClassTraining,
    trainings: Sequence[_Training],
    left: Sequence[_Training],
    tried: Sequence[TriedStage],
    out: Path,
) -> tuple[str, str | None]:
    if not left:
        return _disk(0, "all trainings are done", out)
    sizes = [_size(one.run) for one in trainings if one.state == DONE and one.run.is_dir()]
    if sizes:
        each = round(mean(sizes))
    else:
        split = good_split(first.data, first.recipe.calibration.holdout, first.recipe.seed)
        found = needs(first.recipe, len(split.train), tried, out, out)
        each = sum(one.bytes for one in found if one.what.startswith("disk"))
    because = f"{in_gib(each)} for each of {len(left)} trainings in {out / 'runs'}"
    if sizes or tried:
        return _disk(each * len(left), because, out)
    because += "; checkpoints and weights are not counted: what they take is known when the first training is done"
    return _disk(each * len(left), because, out, bound=MORE_THAN)


def _disk_of_weights(left: Sequence[ReproductionPlan], out: Path) -> tuple[str, str | None]:
    """Return what the bundles take at most: equal weights lie there once, and in float16."""
    sources = {
        Path(source)
        for one in left
        for source in (one.origins.base, one.origins.dino, one.origins.unet, one.origins.vae, one.origins.features)
        if source is not None and Path(source).exists()
    }
    hub = {name for one in left for name in (one.origins.base, one.origins.dino) if not Path(name).exists()}
    beside = f", and what {' and '.join(sorted(hub))} on the hub take" if hub else ""
    return _disk(sum(map(_size, sources)), f"as the weights do as they are{beside}", out, bound=AT_MOST)


def _disk(amount: int, because: str, out: Path, *, bound: str = ABOUT) -> tuple[str, str | None]:
    """Return the line about the disk, and what is wrong with it."""
    free = shutil.disk_usage(existing_parent(out)).free
    line = f"disk: {bound} {in_gib(amount)} ({because}); {in_gib(free)} free"
    if amount <= free or bound == AT_MOST:
        return line, None
    return line, f"{bound} {in_gib(amount)} of disk are needed, {in_gib(free)} are free at {existing_parent(out)}"


def _size(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.stat().st_size for file in files if file.is_file())
