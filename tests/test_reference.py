"""What is generated from the code is what the code says now, and the schemas take what the code takes."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from glad.__main__ import main
from model_store.manifest import MANIFEST_NAME
from scripts.reference import FOLDER, ROOT, error_classes, references
from service import errors
from service.api.openapi import examples
from service.outbox.settings import OutboxSettings
from training.recipe_file import SCHEMA, SHIPPED, RecipeError, load_recipe

RECIPES = sorted(SHIPPED.glob("*.toml"))


@pytest.fixture(scope="module")
def generated() -> dict[Path, str]:
    return references()


def schema(name: str) -> dict[str, Any]:
    text = (FOLDER / f"{name}.schema.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def test_the_references_are_what_the_code_says(generated: dict[Path, str]) -> None:
    drifted = [
        str(path.relative_to(ROOT))
        for path, text in generated.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    assert drifted == [], "run `make reference`"
    assert set(FOLDER.iterdir()) <= {*generated, FOLDER / "schemas.md"}, "a file that no code writes any more"


def test_every_setting_says_what_it_is_for_in_its_own_row(generated: dict[Path, str]) -> None:
    rows = [line for line in generated[FOLDER / "settings.md"].splitlines() if line.startswith("| `GLAD_")]
    assert len(rows) == len(OutboxSettings.model_fields)
    for row in rows:
        *_, purpose, readers, _ = row.split(" | ") if row.endswith(" | ") else [*row.split(" | "), ""]
        assert len(purpose) > 10, row
        assert readers, row


def test_every_error_of_the_tree_in_its_docstring_is_listed() -> None:
    """The tree is written by hand, the page from the classes."""
    drawn = {word.strip(" ,") for line in (errors.__doc__ or "").splitlines()[3:] for word in line.split()}
    assert {kind.__name__ for kind in error_classes()} <= drawn


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_shipped_recipe_meets_the_schema_that_its_first_line_names(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = text.splitlines()[0].removeprefix("#:schema ")
    assert (path.parent / named).resolve() == SCHEMA
    jsonschema.validate(tomllib.loads(text), json.loads(SCHEMA.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("change", "path"),
    [("unet.steps=0", ("unet", "steps")), ("unet.stepz=100", ("unet",)), ("seed=many", ("seed",))],
    ids=["a value out of range", "a key misspelt", "a value of another type"],
)
def test_what_the_schema_refuses_in_a_recipe_the_training_refuses_too(change: str, path: tuple[str, ...]) -> None:
    content = tomllib.loads((SHIPPED / "light.toml").read_text(encoding="utf-8"))
    key, _, value = change.partition("=")
    place = content
    for name in key.split(".")[:-1]:
        place = place[name]
    place[key.split(".")[-1]] = int(value) if value.isdigit() else value
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
    (error,) = validator.iter_errors(content)
    assert tuple(error.absolute_path) == path
    with pytest.raises(RecipeError):
        load_recipe("light", [change])


def test_every_shipped_manifest_meets_its_schema() -> None:
    manifests = sorted((ROOT / "model_store" / "bundles").glob(f"*/*/{MANIFEST_NAME}"))
    assert manifests
    for manifest in manifests:
        jsonschema.validate(json.loads(manifest.read_bytes()), schema("manifest"))


def test_a_manifest_with_a_hash_that_is_none_does_not_meet_it() -> None:
    (manifest, *_) = (ROOT / "model_store" / "bundles").glob(f"*/*/{MANIFEST_NAME}")
    content = json.loads(manifest.read_bytes())
    next(iter(content["components"]["unet"]["files"].values()))["sha256"] = "none"
    with pytest.raises(jsonschema.ValidationError, match="none"):
        jsonschema.validate(content, schema("manifest"))


@pytest.mark.parametrize("example", [examples.QUEUED, examples.DONE, examples.UNFIT], ids=["queued", "done", "unfit"])
def test_results_as_the_interface_shows_them_meet_their_schema(example: dict[str, Any]) -> None:
    jsonschema.validate(example, schema("result"))
    with pytest.raises(jsonschema.ValidationError, match="maybe"):
        jsonschema.validate(example | {"verdict": "maybe"}, schema("result"))


def test_the_commands_print_the_schemas_that_lie_in_the_files(capsys: pytest.CaptureFixture[str]) -> None:
    for words, text in ((["bundle", "schema"], schema("manifest")), (["train", "--schema"], SCHEMA.read_bytes())):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code in (0, None)
        assert json.loads(capsys.readouterr().out) == (json.loads(text) if isinstance(text, bytes) else text)
