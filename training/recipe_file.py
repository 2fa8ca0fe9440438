"""Recipes from TOML: by a file's path or a shipped name, with single values changed, and what does not fit in words."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError

from glad.settings import json_schema, with_changes
from model_store.errors import nearest
from training.pretrained_recipe import PretrainedRecipe
from training.recipe import FeatureRecipe, Recipe

SHIPPED = Path(__file__).parent / "recipes"
SCHEMA = SHIPPED / "recipe.schema.json"
"""The JSON Schema of recipes, for editors: beside the shipped ones, which name it in their first line."""


AnyRecipe: TypeAlias = Recipe | FeatureRecipe | PretrainedRecipe


class RecipeError(ValueError):
    """A recipe that does not exist or whose values do not fit together; says which value, the rule and the fix."""


CLASS = "{class}"
"""Stands in a recipe's preset and prompt for the name of the data folder, which is a class of a data set."""


def load_recipe(name: str, changes: Sequence[str] = (), data: Path | None = None) -> AnyRecipe:
    """Return a recipe from a TOML file's path, or by the name of a shipped one.

    Args:
        name: of the recipe.
        changes: of single values, such as "unet.steps=900"; a value as in TOML, a text also without quotes.
        data: the folder of good images, whose name stands for `CLASS`. None: the recipe needs none. Of a folder of
            classes' folders, for a multi-class recipe, it is the first one's.

    Raises:
        RecipeError: no such file or shipped name, not TOML, a change of no value, or values that do not fit together.
    """
    content, source = _read(name, changes)
    if data is not None and content.get("multi_class") is True and not (data / "train").is_dir():
        return _recipe_of_class(content, class_folders(data)[0].name, source)
    return _recipe_of_class(content, None if data is None else data.resolve().name, source)


def has_many_classes(name: str, changes: Sequence[str] = ()) -> bool:
    """Return whether a recipe trains one model for all classes of a data set; errors as of `load_recipe`."""
    return _read(name, changes)[0].get("multi_class") is True


def load_class_recipes(name: str, changes: Sequence[str], data: Path) -> dict[str, PretrainedRecipe]:
    """Return a multi-class recipe as it is for each class, by name; arguments and errors as of `load_recipe`."""
    content, source = _read(name, changes)
    recipes = {folder.name: _recipe_of_class(content, folder.name, source) for folder in class_folders(data)}
    return {name: recipe for name, recipe in recipes.items() if isinstance(recipe, PretrainedRecipe)}


def class_folders(data: Path) -> list[Path]:
    """Return the folders of a data set's classes, by name.

    Raises:
        RecipeError: if there are none.
    """
    folders = sorted(path for path in data.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise RecipeError(
            f"{data} holds no folders; a multi-class recipe needs one for each class, such as {data}/cable/train/good"
        )
    return folders


def _recipe_of_class(content: Mapping[str, Any], name: str | None, source: str) -> AnyRecipe:
    given = {key: content[key] for key in ("preset", "prompt") if CLASS in str(content.get(key, ""))}
    if given and name is None:
        key, value = next(iter(given.items()))
        raise RecipeError(
            f"recipe {source} is of any class of a data set: {CLASS} in its {key} {value!r} stands for the folder's "
            f"name: give the class's folder as --data, or set {key} to one class"
        )
    return recipe_from(
        {**content, **{key: str(value).replace(CLASS, str(name)) for key, value in given.items()}}, source
    )


def _read(name: str, changes: Sequence[str]) -> tuple[dict[str, Any], str]:
    """Return a recipe file's content with the changes, and what it is called in errors."""
    path = Path(name) if name.endswith(".toml") else SHIPPED / f"{name}.toml"
    if not path.is_file():
        names = sorted(p.stem for p in SHIPPED.glob("*.toml"))
        shipped, near = ", ".join(names), nearest(name, names)
        raise RecipeError(f"no recipe {name!r}: give a .toml file or one of the shipped names: {shipped}{near}")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"recipe {path} is not TOML: {error}") from error
    for change in changes:
        content = _changed(content, change)
    return content, " ".join([str(path), *(f"--set {change}" for change in changes)])


def _changed(content: dict[str, Any], change: str) -> dict[str, Any]:
    """Return a recipe's content with one value set, as `load_recipe` describes it."""
    key, given, value = change.partition("=")
    *parents, last = (part.strip() for part in key.split("."))
    if not given or not last or not all(parents):
        raise RecipeError(f"--set {change}: give a key and its value, such as unet.steps=900")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    changed: Any = {last: parsed}
    for parent in reversed(parents):
        changed = {parent: changed}
    return with_changes(content, changed)


def recipe_from(content: Mapping[str, Any], source: str) -> AnyRecipe:
    """Return a recipe from a TOML file's content; its form is that of `recipe_class`.

    Args:
        source: the file's name, for error messages.

    Raises:
        RecipeError: if a key or a value does not fit; names the source and every one of them.
    """
    kind = recipe_class(content)
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"recipe {source} is not usable: {problems_in_words(error, kind)}") from error


def recipe_schema() -> dict[str, Any]:
    """Return the JSON Schema of a recipe, which is of one form or the other.

    It knows every key and its range. What does not fit together, `load_recipe` alone can tell.
    """
    described = {
        "title": "Recipe",
        "description": "A recipe of `glad train`: one that names a backbone is of the feature form, as `light` is; one "
        "that names a base fine-tunes published models; else of the pixel form, as `nano` is.",
    }
    definitions = TypeAdapter(AnyRecipe).json_schema()["$defs"]
    # A preset has the settings; a file gives those that it changes.
    partial = {key: value for key, value in definitions["MethodSettings"].items() if key != "required"}
    definitions["PretrainedRecipe"]["properties"]["settings"] = {"$ref": "#/$defs/ChangedSettings"}
    definitions["PretrainedRecipe"]["required"].remove("settings")
    definitions["ChangedSettings"] = partial
    by_form = {  # an anyOf would leave an editor with "fits none of them" for every misspelt key
        "if": {"required": ["backbone"]},
        "then": {"$ref": "#/$defs/FeatureRecipe"},
        "else": {
            "if": {"required": ["base"]},
            "then": {"$ref": "#/$defs/PretrainedRecipe"},
            "else": {"$ref": "#/$defs/Recipe"},
        },
    }
    return json_schema({**described, **by_form, "$defs": definitions}, "recipe")


def recipe_class(content: Mapping[str, Any]) -> type[AnyRecipe]:
    """Return the class of a recipe's content, as a file or a bundle's provenance has it."""
    if "backbone" in content:
        return FeatureRecipe
    return PretrainedRecipe if "base" in content else Recipe


def problems_in_words(error: ValidationError, model: type[BaseModel]) -> str:
    """Return everything that does not fit a model of settings: for each key its value and the rule."""
    return "; ".join(_problem(details, model) for details in error.errors(include_url=False, include_context=False))


def _problem(details: Any, model: type[BaseModel]) -> str:
    place, given = ".".join(str(part) for part in details["loc"]), details["input"]
    if details["type"] == "extra_forbidden":
        return _unknown_key([str(part) for part in details["loc"]], model)
    shown = "" if isinstance(given, dict) else f" is {given!r}"
    rule = details["msg"].removeprefix("Value error, ")
    return f"{place}{shown}: {rule}" if place else rule


def _unknown_key(path: list[str], model: type[BaseModel]) -> str:
    """Return that a key is unknown, which one was probably meant, and which ones its table has."""
    if path == ["vae"]:
        return "vae and autoencoder are two names of the same table: give [autoencoder] alone"
    *parents, key = path
    table = _table(parents, model)
    if table is None:
        return f"{'.'.join(path)} is not a known key: remove it"
    meant = difflib.get_close_matches(key, table.model_fields, n=1)
    hint = f"did you mean {meant[0]}?" if meant else "remove it."
    where = f"[{'.'.join(parents)}]" if parents else "the file"
    return f"{'.'.join(path)} is not a known key: {hint} Keys of {where}: {', '.join(table.model_fields)}"


def _table(parents: list[str], model: type[BaseModel]) -> type[BaseModel] | None:
    """Return the model of a table, or None where the table can be one of several."""
    for name in parents:
        field = model.model_fields.get(name)
        kinds = () if field is None else (field.annotation, *get_args(field.annotation))
        tables = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if len(tables) != 1:
            return None
        model = tables[0]
    return model
