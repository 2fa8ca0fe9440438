"""To which recipe and images a run's folder belongs, and in what they differ from those of another call.

Checkpoints of other images must not go on: an image that they were trained on could be held out for calibration now,
and the thresholds would promise too much.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from model_store.files import replace_file
from training.data.dataset import Split
from training.recipe import RecipeBase
from training.recipe_file import recipe_class
from training.run_differences import ListedImages, changed_images, changed_settings
from training.synthesis.textures import texture_digest
from training.training_run import MARK

IMAGES = "images.json"
"""In a run's folder: the name and SHA-256 of every image. Runs that an earlier version began have none."""


class RunMismatch(ValueError):
    """The run folder was begun with another recipe or other images; says in what they differ."""


def claim_run(folder: Path, recipe: RecipeBase, split: Split) -> None:
    """Mark a run folder as this recipe's and these images', or refuse one that belongs to others.

    Raises:
        RunMismatch: if the folder holds a run with another recipe, other images or other textures.
    """
    images = listed_images(split)
    resumes = _resumes(folder, recipe, images)
    if resumes and (folder / IMAGES).is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / IMAGES, json.dumps(images, indent=1).encode())
    if not resumes:
        replace_file(folder / MARK, json.dumps(_identity(recipe, images), indent=2).encode())


def resumes_run(folder: Path, recipe: RecipeBase, split: Split) -> bool:
    """Return whether a folder holds the beginning of this recipe's run on these images; False: it holds none.

    Raises:
        RunMismatch: if the folder holds a run with another recipe, other images or other textures.
    """
    return (folder / MARK).is_file() and _resumes(folder, recipe, listed_images(split))


def listed_images(split: Split) -> ListedImages:
    """Return the name and the SHA-256 of every image that trains, and of every one that calibrates."""
    parts = {"train": split.train, "calibration": split.calibration}
    return {
        part: [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths]
        for part, paths in parts.items()
    }


def images_digest(images: ListedImages) -> str:
    """Return the SHA-256 over every image's name and bytes, and over which of them train and which calibrate."""
    digest = hashlib.sha256()
    for part in images.values():
        for name, content in part:
            digest.update(f"{name} {content}\n".encode())
        digest.update(b"\n")
    return digest.hexdigest()


def _resumes(folder: Path, recipe: RecipeBase, images: ListedImages) -> bool:
    mark = folder / MARK
    if not mark.is_file():
        return False
    recorded = _read_mark(mark)
    # A run that an earlier version began goes on, though it wrote the recipe with former names of keys.
    then, now = comparable_identity(recorded), _without_loop(_identity(recipe, images))
    if then != now:
        raise RunMismatch(_mismatch(folder, then, now, images))
    return True


def _read_mark(mark: Path) -> dict[str, Any]:
    """Return what a run's mark records.

    Raises:
        RunMismatch: if a damaged disk has left something else.
    """
    try:
        recorded = json.loads(mark.read_text(encoding="utf-8"))
    except ValueError:
        recorded = None
    if not isinstance(recorded, dict) or "recipe" not in recorded:
        raise RunMismatch(
            f"{mark}, which says to which recipe and images the run belongs, is damaged: bring it back from a backup, "
            "or give --run another folder"
        )
    return recorded


def _identity(recipe: RecipeBase, images: ListedImages) -> dict[str, Any]:
    identity = {"recipe": recipe.model_dump(mode="json"), "images": images_digest(images)}
    if recipe.synthesis.textures is not None:
        identity["textures"] = texture_digest(recipe.synthesis.textures)
    return identity


def comparable_identity(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recorded identity, of which `recipe` is a part, as this version would record it.

    What may change within a run is left out.
    """
    return _without_loop({**recorded, "recipe": _as_written_now(recorded.get("recipe"))})


def _without_loop(identity: dict[str, Any]) -> dict[str, Any]:
    """Return what may not change within a run: how its loops use the device may, for one that ran out of memory."""
    recipe = identity["recipe"]
    if not isinstance(recipe, dict):
        return identity
    return {**identity, "recipe": {key: value for key, value in recipe.items() if key != "training"}}


def _as_written_now(recorded: Any) -> Any:
    """Return a recorded recipe as this version would record it, or as it is where this version cannot read it."""
    try:
        return recipe_class(recorded).model_validate(recorded).model_dump(mode="json")
    except (TypeError, ValidationError):
        return recorded


def _mismatch(folder: Path, then: Mapping[str, Any], now: Mapping[str, Any], images: ListedImages) -> str:
    """Return that a run has another recipe or other images, in what they differ, and what to do."""
    settings = changed_settings(then["recipe"], now["recipe"])
    others, differences = (["another recipe"] if settings else []), list(settings)
    if then.get("textures") != now.get("textures"):
        others.append("other textures")
        differences.append("the pictures in the folder synthesis.textures are not those of then")
    if then.get("images") != now["images"]:
        others.append("other images")
        differences += changed_images(_recorded_images(folder), images)
    return "\n  ".join((f"{folder} holds a run with {' and '.join(others)}:", *differences)) + (
        "\nto go on with it, give what it was begun with; to train anew, give --run another folder, or remove this one"
    )


def _recorded_images(folder: Path) -> ListedImages | None:
    try:
        recorded = json.loads((folder / IMAGES).read_text(encoding="utf-8"))
        return {part: [(name, content) for name, content in listed] for part, listed in recorded.items()}
    except (OSError, ValueError, AttributeError):
        return None
