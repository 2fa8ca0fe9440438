"""What the commands that make bundles print: warnings of the images, the plan, the limits, and what to do next.

Each function imports its needs when called, as the commands do.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from model_store.bundle import Bundle
    from training.checked_training import Wanted
    from training.recipe_file import AnyRecipe
    from training.training_plan import TrainingPlan


def tell_data_warnings(data: Path) -> None:
    """Print what is probably not meant about a data folder: images that take no part, images that are too dark.

    Raises:
        DataError: if the folder has no layout.
    """
    from training.data.data_warnings import data_warnings
    from training.launched_processes import is_main_process

    if not is_main_process():
        return
    for warning in data_warnings(data):
        typer.secho(f"warning: {warning}", fg=typer.colors.YELLOW, err=True)


def print_plan(wanted: Wanted, as_json: bool) -> bool:
    """Print the plan of a training, and return whether nothing stands in its way."""
    from training.checked_training import check_training
    from training.progress import named_bars, progress_hidden
    from training.training_plan import plan_in_words

    with progress_hidden(as_json), named_bars() as show:
        plan = check_training(wanted, try_steps=True, progress=show).plan
    typer.echo(plan.model_dump_json(indent=2) if as_json else plan_in_words(plan))
    return not plan.problems


def checked_before_training(wanted: Wanted) -> tuple[AnyRecipe, TrainingPlan | None]:
    """Return the recipe and the plan of a training, once its warnings are told.

    Processes beside the main one read the images only where the recipe depends on them.

    Raises:
        ValueError: if the training would fail.
    """
    from training.checked_training import check_before_training
    from training.launched_processes import is_main_process
    from training.progress import named_bars, progress_hidden
    from training.proposed_recipe import MY_PRODUCT, RECIPE
    from training.recipe_file import load_recipe

    if not is_main_process() and wanted.recipe != MY_PRODUCT:
        return load_recipe(wanted.recipe, wanted.changes, wanted.data).with_confidence(wanted.confidence), None
    with progress_hidden(not is_main_process()), named_bars() as show:
        checked = check_before_training(wanted, progress=show)
    if not is_main_process():
        return checked.recipe, None
    for warning in checked.plan.warnings:
        typer.secho(f"warning: {warning}", fg=typer.colors.YELLOW, err=True)
    for line in (*(f"{one.key} = {one.value}: {one.why}" for one in checked.plan.proposed), *checked.plan.observed):
        typer.echo(line)
    if checked.proposal is not None:
        typer.echo(f"recipe: {wanted.run / RECIPE}")
    return checked.recipe, checked.plan


def tell_thresholds(bundle: Bundle) -> None:
    """Print where the bundle lies, its thresholds, and what they promise."""
    thresholds, report = bundle.manifest.thresholds, bundle.manifest.quality["calibration"]
    typer.echo(f"{bundle.path}  hash {bundle.hash[:12]}")
    typer.echo(
        f"review from {thresholds.review:.4f}, fail from {thresholds.fail:.4f}, on {thresholds.good_images} good images"
    )
    if warning := report.get("warning"):
        typer.secho(f"warning: {warning}", fg=typer.colors.YELLOW, err=True)
    else:
        typer.echo(report["promise"])
    if unusual := report.get("most_unusual"):
        named = ", ".join(f"{one['image']} {one['score']:.2f}" for one in unusual)
        typer.echo(
            f"most unusual of the good images, by score: {named}. Look at them: they set the thresholds, and one that "
            "shows a defect lets others pass. Take it out, and train again"
        )


def tell_gate(made: Bundle) -> None:
    """Print where the bundle lies, the limits of its quality gate, and what they cost."""
    typer.echo(f"{made.path}  hash {made.hash[:12]}")
    learned, report = made.manifest.gate, made.manifest.quality["gate"]
    assert learned is not None, "a gate was just learned"
    like = "not asked" if learned.likeness is None else f"from {learned.likeness:.3f}"
    typer.echo(
        f"brightness {learned.darkest:.0f} to {learned.brightest:.0f}, at most {learned.black_share:.0%} black and "
        f"{learned.white_share:.0%} white, sharpness from {learned.sharpness:.3f}, likeness {like}"
    )
    typer.echo(
        f"learned from {learned.good_images} good images: at most {report['good_parts_gated_at_most']:.1%} of the good "
        "parts are stopped, as long as they come from the same line"
    )
    if warning := report.get("warning"):
        typer.secho(f"warning: {warning}", fg=typer.colors.YELLOW, err=True)


def to_publish(bundle: Path) -> str:
    """Return the command that publishes a bundle and makes it active."""
    return shlex.join(["glad", "bundle", "publish", str(bundle), "--activate"])
