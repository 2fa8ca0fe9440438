"""Everything about a training that can be known before it: the images are read, steps are tried, the plan is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from training.data.dataset import Split, good_split
from training.data.image_checks import ImageChecks, check_images
from training.feature_pipeline import refuse_one_part, with_backbone_mean
from training.launched_processes import is_main_process
from training.package import Naming
from training.pipeline import stages_of
from training.progress import Progress
from training.proposed_recipe import MY_PRODUCT, Proposal, propose_recipe, write_recipe
from training.recipe import FeatureRecipe
from training.recipe_file import AnyRecipe, load_recipe
from training.run_identity import RunMismatch, resumes_run
from training.run_lock import RunInUse, locked_run, refuse_run_in_use
from training.training_plan import TrainingPlan, plan_training
from training.tried_steps import BatchDoesNotFit, TriedStage, try_stages


@dataclass(frozen=True)
class CheckedTraining:
    """A training that was checked."""

    recipe: AnyRecipe
    plan: TrainingPlan
    proposal: Proposal | None = None
    """Of the recipe "my-product"."""


@dataclass(frozen=True)
class Wanted:
    """The training that is asked for."""

    recipe: str
    """A file's path, a shipped name, or "my-product"."""
    data: Path
    run: Path
    target: Path
    naming: Naming
    changes: Sequence[str] = ()
    """Of single values of the recipe."""
    confidence: float | None = None
    smallest_defect: int | None = None
    """In pixels of the original: for the recipe "my-product"."""


class TrainingRefused(ValueError):
    """A training that would fail; says why."""


def check_before_training(wanted: Wanted, *, progress: Progress, workers: int | None = None) -> CheckedTraining:
    """Return a training that nothing stands in the way of; the recipe "my-product" lies in its run then.

    Steps are tried on a GPU alone: it says at once that a batch does not fit. A machine without one swaps, or ends the
    program, and a step takes its time there: that is left to a dry run.

    Raises:
        TrainingRefused: if the training would fail.
        ValueError: see `check_training`.
    """
    checked = check_training(wanted, try_steps=torch.cuda.is_available(), progress=progress, workers=workers)
    if checked.plan.problems:
        raise TrainingRefused("\n".join(checked.plan.problems))
    if checked.proposal is not None and is_main_process():
        with locked_run(wanted.run):
            write_recipe(checked.proposal, wanted.run)
    return checked


def check_training(
    wanted: Wanted, *, try_steps: bool, progress: Progress, workers: int | None = None
) -> CheckedTraining:
    """Return what is wanted with its plan, whose problems say why it would fail.

    Args:
        wanted: the training.
        try_steps: a few steps of each loop are taken, at the recipe's sizes.
        progress: shows how many images are read.
        workers: processes that read them; None: one per core; 1: all in this one.

    Raises:
        RecipeError: for a recipe that is not usable.
        DataError: for images of which no plan can be made.
        ImportRefused: if the recipe's backbone cannot be loaded.
        ValueError: for a smallest defect that no recipe asks for.
    """
    if wanted.smallest_defect is not None and wanted.recipe != MY_PRODUCT:
        raise ValueError(f"--smallest-defect is for the recipe {MY_PRODUCT}: {wanted.recipe} has its framing already")
    given = None if wanted.recipe == MY_PRODUCT else load_recipe(wanted.recipe, wanted.changes, wanted.data)
    checks = check_images(wanted.data, progress=partial(progress, "images"), workers=workers)
    proposal = propose_recipe(checks, wanted.smallest_defect, wanted.changes) if given is None else None
    chosen = proposal.recipe if proposal is not None else given
    assert chosen is not None, "a recipe was given, or else proposed"
    recipe = chosen.with_confidence(wanted.confidence)
    plan = _plan(wanted, recipe, checks, proposal, try_steps)
    return CheckedTraining(recipe, plan, proposal)


def _plan(
    wanted: Wanted, recipe: AnyRecipe, checks: ImageChecks, proposal: Proposal | None, try_steps: bool
) -> TrainingPlan:
    split = good_split(wanted.data, recipe.calibration.holdout, recipe.seed)
    as_trained = with_backbone_mean(recipe) if isinstance(recipe, FeatureRecipe) else recipe
    if isinstance(recipe, FeatureRecipe):
        refuse_one_part(split)
    resumes, problem = _resumes(wanted.run, as_trained, split)
    tried, misfit = _try(recipe) if try_steps else ((), None)
    return plan_training(
        as_trained,
        split,
        checks,
        wanted.naming,
        run=wanted.run,
        target=wanted.target,
        stages=stages_of(recipe),
        tried=tried,
        device=device_in_words(),
        proposed=() if proposal is None else proposal.changed,
        observed=() if proposal is None else proposal.observed,
        problems=[one for one in (problem, misfit) if one is not None],
        resumes=resumes,
    )


def _resumes(run: Path, recipe: AnyRecipe, split: Split) -> tuple[bool, str | None]:
    """Return whether the run goes on, and what is wrong with its folder."""
    try:
        if is_main_process():  # it holds the run for all
            refuse_run_in_use(run)
        return resumes_run(run, recipe, split), None
    except (RunInUse, RunMismatch) as error:
        return False, str(error)


def _try(recipe: AnyRecipe) -> tuple[tuple[TriedStage, ...], str | None]:
    """Return what steps took, and which one does not fit."""
    try:
        return try_stages(recipe), None
    except BatchDoesNotFit as error:
        return (), str(error)


def device_in_words() -> str:
    """Return what the loops run on."""
    if torch.cuda.is_available():
        return f"the GPU {torch.cuda.get_device_name()}"
    return f"the CPU, {torch.get_num_threads()} threads"
