"""What a training is going to do, all of it checked and nothing trained: printed, as JSON, and kept in the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil
from pathlib import Path

from pydantic import Field

from glad.settings import Frozen
from glad.settings.framing import Letterbox, Stretch, Tiles
from glad.settings.method import MethodSettings
from model_store.files import replace_file
from model_store.manifest import CalibrationKind
from model_store.promise import promise
from training.calibration.promise import promise_in_words
from training.data.dataset import Split
from training.data.image_checks import ImageChecks, sizes_in_words
from training.needed_resources import Need, needs, writable_problem
from training.package import Naming, counts_training_parts
from training.peak_memory import in_gib
from training.recipe import RecipeBase
from training.recipe_file import AnyRecipe
from training.training_run import PLAN, in_words
from training.tried_steps import TriedStage


class PlannedImages(Frozen):
    """The images of a training."""

    train: int
    calibration: int
    how: str
    """Where those for calibration come from."""
    test: int
    parts: int
    """Of all good images: an image that no groups file names shows a part of its own."""
    sizes: str


class PlannedPromise(Frozen):
    """What the thresholds will promise."""

    words: str
    kept: bool
    """Whether the wanted share of false rejects can be promised."""
    parts: int
    needed: int
    """Parts that the wanted share takes."""


class PlannedStage(Frozen):
    """A stage of a training."""

    name: str
    steps: int | None = None
    batch: int | None = None
    seconds: float | None = Field(None, description="about, by a step that was tried; None: not measured")
    memory_bytes: int | None = Field(None, description="of a step that was tried")


class ChangedSetting(Frozen):
    """A setting that was proposed for these images."""

    key: str
    value: str
    """As TOML has it."""
    why: str


class TrainingPlan(Frozen):
    """All of what a training is going to do."""

    recipe: str
    product: str
    version: str
    device: str
    inspected: str
    """How an image becomes what the models see."""
    images: PlannedImages
    promise: PlannedPromise
    stages: tuple[PlannedStage, ...]
    needs: tuple[Need, ...]
    proposed: tuple[ChangedSetting, ...] = ()
    observed: tuple[str, ...] = ()
    """What was seen in the images, and changed no setting."""
    writes: tuple[str, ...]
    resumes: bool
    warnings: tuple[str, ...]
    problems: tuple[str, ...]
    """Why the training would fail."""
    stage_seconds: dict[str, float] = Field({}, description="of stages that were tried, by name")

    def write(self, run: Path) -> None:
        """Write it into a run's folder, in one step."""
        replace_file(run / PLAN, f"{self.model_dump_json(indent=2)}\n".encode())


def plan_training(
    recipe: AnyRecipe,
    split: Split,
    checks: ImageChecks,
    naming: Naming,
    *,
    run: Path,
    target: Path,
    stages: Sequence[str],
    tried: Sequence[TriedStage] = (),
    device: str,
    proposed: Sequence[ChangedSetting] = (),
    observed: Sequence[str] = (),
    problems: Sequence[str] = (),
    resumes: bool = False,
) -> TrainingPlan:
    """Return the plan of a training.

    Args:
        split: of its images.
        checks: of all images of the data folder.
        run, target: the folders of the run and of the bundle.
        stages: their names, in order.
        tried: those of which steps were tried.
        device: in words.
        proposed, observed: by a recipe that was made for these images.
        problems: that are known already.
        resumes: the run's folder holds this training's beginning.
    """
    needed = needs(recipe, len(split.train), tried, run, target)
    planned = tuple(_planned_stage(name, recipe, tried) for name in stages)
    found = (*problems, *(need.problem for need in needed), writable_problem(run), writable_problem(target))
    return TrainingPlan(
        recipe=recipe.name,
        product=naming.product,
        version=naming.version,
        device=device,
        inspected=framing_in_words(recipe.settings),
        images=_planned_images(split, checks),
        promise=planned_promise(recipe, split),
        stages=planned,
        needs=needed,
        proposed=tuple(proposed),
        observed=tuple(observed),
        writes=tuple(_writes(run, target, bool(proposed or observed))),
        resumes=resumes,
        warnings=checks.warnings,
        problems=tuple(dict.fromkeys(one for one in found if one)),
        stage_seconds={stage.name: stage.seconds for stage in planned if stage.seconds is not None},
    )


def planned_promise(recipe: RecipeBase, split: Split) -> PlannedPromise:
    """Return what the images can promise, all of those that will be counted."""
    counted, groups, images = recipe.calibration, split.calibration_groups, len(split.calibration)
    kind = CalibrationKind.HELD_OUT
    if counts_training_parts(counted, split):
        groups, images, kind = (*groups, *split.train_groups), images + len(split.train), CalibrationKind.ESTIMATE
    parts = len(set(groups)) if groups else images
    found = promise(parts, counted.fail_quantile, counted.confidence)
    words = promise_in_words(images, groups, counted, kind)
    if not found.kept and kind is CalibrationKind.HELD_OUT:
        total = ceil(found.needed / counted.holdout)
        words += f" Where a share of {counted.holdout:g} is held out, that takes {total} good parts in all."
    return PlannedPromise(words=words, kept=found.kept, parts=parts, needed=found.needed)


def _planned_images(split: Split, checks: ImageChecks) -> PlannedImages:
    groups = {*split.train_groups, *split.calibration_groups}
    return PlannedImages(
        train=len(split.train),
        calibration=len(split.calibration),
        how=split.how,
        test=checks.test_images,
        parts=len(groups) or len(split.train) + len(split.calibration),
        sizes=sizes_in_words(checks.sizes),
    )


def _planned_stage(name: str, recipe: AnyRecipe, tried: Sequence[TriedStage]) -> PlannedStage:
    table = getattr(recipe, name, None)
    steps = recipe.synthesis.pairs if name == "pairs" else getattr(table, "steps", None)
    found = next((one for one in tried if one.name == name), None)
    if found is None or steps is None:
        return PlannedStage(name=name, steps=steps, batch=getattr(table, "batch", None))
    seconds = round(found.step_s * steps, 1)
    batch = getattr(table, "batch", None)
    return PlannedStage(name=name, steps=steps, batch=batch, seconds=seconds, memory_bytes=found.memory_bytes)


def _writes(run: Path, target: Path, proposed: bool) -> Iterator[str]:
    if proposed:
        yield f"{run / 'recipe.toml'}: the recipe that was proposed, to edit and to give to `glad train`"
    yield f"{run}: pairs, checkpoints, curves and this plan ({PLAN}); the same command goes on there after a stop"
    yield f"{target}: the bundle"


def framing_in_words(settings: MethodSettings) -> str:
    """Return how an image becomes square model images."""
    side = settings.resolution
    match settings.framing:
        case Tiles(side=tile, overlap=overlap):
            return f"tiles of {tile}×{tile} pixels that overlap by {overlap}, each scaled to {side}×{side}"
        case Stretch():
            return f"the whole image, stretched to {side}×{side}"
        case Letterbox():
            return f"the whole image, scaled into {side}×{side}"


def plan_in_words(plan: TrainingPlan) -> str:
    """Return a plan as plain text."""
    return "\n".join(_lines(plan))


def _lines(plan: TrainingPlan) -> Iterator[str]:
    images = plan.images
    yield f"recipe {plan.recipe}, product {plan.product}, version {plan.version}, on {plan.device}"
    yield ""
    yield f"images: {images.train} to train on; calibration on {images.how}; {images.test} labelled ones to test"
    yield f"  {images.train + images.calibration} good images show {images.parts} parts, as far as is known"
    yield f"  size: {images.sizes}"
    yield f"  inspected: {plan.inspected}"
    yield f"promise: {plan.promise.words}"
    if plan.proposed or plan.observed:
        yield ""
        yield "settings proposed for these images:" if plan.proposed else "no setting was changed for these images:"
        for setting in plan.proposed:
            yield f"  {setting.key} = {setting.value}"
            yield f"    {setting.why}"
        yield from (f"  {one}" for one in plan.observed)
    yield ""
    yield f"stages: {len(plan.stages)}" + ("; the run goes on where it stopped" if plan.resumes else "")
    yield from (f"  {number}. {_stage_in_words(stage)}" for number, stage in enumerate(plan.stages, start=1))
    if plan.stage_seconds:
        total = sum(plan.stage_seconds.values())
        yield f"  about {in_words(total)} for the stages of which a step was tried; the others were not measured"
    yield ""
    yield "needed, about:"
    for need in plan.needs:
        yield f"  {need.what}: {in_gib(need.bytes)} ({need.because}); {in_gib(need.free_bytes)} free"
    yield "written:"
    yield from (f"  {one}" for one in plan.writes)
    for kind, sentences in (("warning", plan.warnings), ("problem", plan.problems)):
        if sentences:
            yield ""
            yield from (f"{kind}: {one}" for one in sentences)
    yield ""
    yield "nothing was trained; it would fail" if plan.problems else "nothing was trained; nothing stands in the way"


def _stage_in_words(stage: PlannedStage) -> str:
    parts = [stage.name]
    if stage.steps is not None:
        unit = "pairs" if stage.name == "pairs" else "steps"
        parts.append(f"{stage.steps} {unit}" + ("" if stage.batch is None else f" of {stage.batch}"))
    if stage.seconds is not None:
        parts.append(f"about {in_words(stage.seconds)}")
    if stage.memory_bytes is not None:
        parts.append(f"{in_gib(stage.memory_bytes)} for a step")
    return ", ".join(parts)
