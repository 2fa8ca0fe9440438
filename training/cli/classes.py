"""`glad train` with a multi-class recipe: one training, and a bundle for each class of a data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from model_store.cli.common import command_line, explained, new_bundle_folder, version_of_now
from training.interrupts import resumable

if TYPE_CHECKING:
    from model_store.bundle import Bundle
    from training.checked_training import Wanted


def train_every_class(
    recipe: str,
    changes: Sequence[str],
    data: Path,
    *,
    product: str,
    version: str,
    title: str,
    run: Path | None,
    confidence: float | None,
    out: Path,
    warn: Callable[[Path], None],
    show_plan: Callable[[Wanted], bool] | None,
) -> list[Bundle]:
    """Train as a multi-class recipe says, and return a bundle for each class; none, if the recipe is no such.

    Args are those of the command; `warn` prints what is probably not meant about a folder of images, `show_plan` the
    plan of a class's training in place of any training.
    """
    from training.checked_training import Wanted
    from training.class_pipeline import train_classes
    from training.package import Naming
    from training.proposed_recipe import MY_PRODUCT
    from training.recipe_file import has_many_classes, load_class_recipes

    with explained(ValueError):
        if recipe == MY_PRODUCT or not has_many_classes(recipe, changes):
            return []
        if product:
            raise typer.BadParameter(
                "a multi-class recipe makes a bundle for each class's folder, named after it: leave --product out"
            )
        recipes = {
            name: one.with_confidence(confidence) for name, one in load_class_recipes(recipe, changes, data).items()
        }
        names = version or version_of_now()
        targets = {name: out / name / names for name in recipes}
        for name, target in targets.items():
            if not target.exists():
                new_bundle_folder(out, name, names)
            warn(data / name)
        checkpoints = run or Path("runs") / data.resolve().name
        if show_plan is not None:
            wanted = [
                Wanted(recipe, data / name, checkpoints / name, target, Naming(name, names, title), changes, confidence)
                for name, target in targets.items()
            ]
            fine = [show_plan(one) for one in wanted]  # a plan of every class
            raise typer.Exit(0 if all(fine) else 1)
        with resumable():
            return train_classes(
                recipes, data, checkpoints, targets, title=title, command=command_line(), say=typer.echo
            )
