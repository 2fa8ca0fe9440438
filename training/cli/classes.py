"""`glad train` with a multi-class recipe: one training, and a bundle for each class of a data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from model_store.cli.common import command_line, explained, new_bundle_folder, version_of_now

if TYPE_CHECKING:
    from model_store.bundle import Bundle


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
) -> list[Bundle]:
    """Train as a multi-class recipe says, and return a bundle for each class; none, if the recipe is no such.

    Args are those of the command; `warn` prints what is probably not meant about a folder of images.
    """
    from training.class_pipeline import train_classes
    from training.recipe_file import has_many_classes, load_class_recipes

    with explained(ValueError):
        if not has_many_classes(recipe, changes):
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
        try:
            return train_classes(
                recipes, data, checkpoints, targets, title=title, command=command_line(), say=typer.echo
            )
        except KeyboardInterrupt:
            typer.echo("interrupted; the same command goes on where it stopped", err=True)
            raise typer.Exit(130) from None
