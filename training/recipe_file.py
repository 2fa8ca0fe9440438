"""Recipes from TOML: by a file's path or a shipped name, with single values changed, and what does not fit in words."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from glad.settings import json_schema
from model_store.errors import nearest
from training.recipe import FeatureRecipe, Recipe

SHIPPED = Path(__file__).parent / "recipes"
SCHEMA = SHIPPED / "recipe.schema.json"
"""The JSON Schema of recipes, for editors: beside the shipped ones, which name it in their first line."""


class RecipeError(ValueError):
    """A recipe that does not exist or whose values do not fit together; says which value, the rule and the fix."""


def load_recipe(name: str, changes: Sequence[str] = ()) -> Recipe | FeatureRecipe:
    """Return a recipe from a TOML file's path, or by the name of a shipped one.

    Args:
        name: of the recipe.
        changes: of single values, such as "unet.steps=900"; a value as in TOML, a text also without quotes.

    Raises:
        RecipeError: no such file or shipped name, not TOML, a change of no value, or values that do not fit together.
    """
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
        content = changed_content(content, change)
    return recipe_from(content, " ".join([str(path), *(f"--set {change}" for change in changes)]))


def changed_content(content: dict[str, Any], change: str) -> dict[str, Any]:
    """Return a recipe's content with one value set, as `load_recipe` describes it.

    Raises:
        RecipeError: for a change without a key and a value.
    """
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
    return _merged(content, changed)


def _merged(content: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    def value(name: str) -> Any:
        old, new = content.get(name), changed.get(name)
        if name not in changed:
            return old
        return _merged(old, new) if isinstance(old, Mapping) and isinstance(new, Mapping) else new

    return {name: value(name) for name in (*content, *(name for name in changed if name not in content))}


def recipe_from(content: Mapping[str, Any], source: str) -> Recipe | FeatureRecipe:
    """Return a recipe from a TOML file's content; one that names a backbone is of the feature form.

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
        "description": "A recipe of `glad train`: one that names a backbone is of the feature form, as `light` is; "
        "else of the pixel form, as `nano` is.",
    }
    definitions = TypeAdapter(FeatureRecipe | Recipe).json_schema()["$defs"]
    by_form = {  # an anyOf would leave an editor with "fits none of them" for every misspelt key
        "if": {"required": ["backbone"]},
        "then": {"$ref": "#/$defs/FeatureRecipe"},
        "else": {"$ref": "#/$defs/Recipe"},
    }
    return json_schema({**described, **by_form, "$defs": definitions}, "recipe")


def recipe_class(content: Mapping[str, Any]) -> type[Recipe] | type[FeatureRecipe]:
    """Return the class of a recipe's content, as a file or a bundle's provenance has it."""
    return FeatureRecipe if "backbone" in content else Recipe


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
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return None
        model = field.annotation
    return model
