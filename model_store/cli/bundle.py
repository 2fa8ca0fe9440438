"""`glad bundle`: look into a store and change what is active; loads no model."""

from __future__ import annotations

import json
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import structlog
import typer

from model_store.bundle import open_bundle, read_manifest
from model_store.bundle_lookup import find_bundle, split_version
from model_store.bundle_signer import make_key, sign_bundle
from model_store.cli.bundle_summary import PICTURES_WHEN, print_history, print_summary, to_calibrate
from model_store.cli.common import (
    DEFAULT_DATA_FOLDER,
    BundleName,
    DataFolder,
    StoreFolder,
    chosen_store,
    explained,
    own_bundle_folder,
    user_name,
)
from model_store.cli.evaluations import evaluation_lines, evaluations_command, known_evaluations
from model_store.cli.import_ import import_command
from model_store.cli.remove import remove_command
from model_store.errors import NotCalibrated
from model_store.manifest import MANIFEST_NAME, manifest_schema
from model_store.product_state import PicturesWhen, ProductState
from model_store.signing import signature_of
from model_store.store import Store
from model_store.verification import report_present

app = typer.Typer(
    name="bundle",
    help="Import, list, verify, sign, publish, activate and remove model bundles.\n\nExample: glad bundle list",
    no_args_is_help=True,
    add_completion=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
By = Annotated[str, typer.Option(help="Who changes it. Default: the user that runs this command.")]
Note = Annotated[str, typer.Option(help="Why, for the history.")]
Product = Annotated[str, typer.Argument(metavar="PRODUCT", help="The product's name.")]
Version = Annotated[str | None, typer.Argument(metavar="VERSION", help="A version. Default: the active one.")]

app.command("import")(import_command)
app.command("remove")(remove_command)
app.command("evaluations")(evaluations_command)


@app.callback()
def _log_to_stderr() -> None:
    structlog.reset_defaults()  # if a service ran in this process, its processors need another kind of logger
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))


@app.command("list")
def list_bundles(
    *, store: StoreFolder = None, data_dir: DataFolder = DEFAULT_DATA_FOLDER, as_json: Json = False
) -> None:
    """List every product's versions, newest first, the active one marked; then what is broken, and why.

    Example: glad bundle list
    """
    opened = chosen_store(store, data_dir)
    with explained():
        rows = [row for product in opened.products() for row in _rows(opened, product)]
    drafts, problems = opened.drafts(), opened.problems()
    if as_json:
        waiting = [{"product": ref.product, "version": ref.version, "path": str(ref.path)} for ref in drafts]
        unused = [{"path": str(p.path), "reason": p.reason} for p in problems]
        _print_json({"bundles": rows, "not_calibrated": waiting, "problems": unused})
        return
    for row in rows:
        mark = "*" if row["active"] else " "
        typer.echo(f"{mark} {row['product']:<24} {row['version']:<24} {row['created_at']}  {str(row['hash'])[:12]}")
    if not rows:
        typer.echo(f"no bundles in {opened.root}: publish one with `glad bundle publish FOLDER`")
    for ref in drafts:
        typer.echo(f"not calibrated: {to_calibrate(ref)}")
    for problem in problems:
        typer.secho(f"not used: {problem.reason}", fg=typer.colors.YELLOW, err=True)


@app.command()
def show(
    bundle: BundleName,
    version: Version = None,
    *,
    store: StoreFolder = None,
    data_dir: DataFolder = DEFAULT_DATA_FOLDER,
    as_json: Json = False,
) -> None:
    """Show one bundle: settings, thresholds in force, where it comes from, measured quality.

    Example: glad bundle show bracket
    """
    opened = chosen_store(store, data_dir)
    with explained(ValueError):
        found = find_bundle(bundle, opened, version)
        ref = found.ref
        state = opened.state(ref.product) if found.in_store else ProductState(product=ref.product)
        thresholds = state.thresholds(ref.version, ref.manifest.thresholds) if ref.calibrated else None
        measured = known_evaluations(opened, found)
    if as_json:
        limits, manifest = thresholds and thresholds.model_dump(), ref.manifest.model_dump(mode="json")
        facts: dict[str, object] = {"hash": ref.hash, "path": str(ref.path), "thresholds": limits}
        facts["gate_on"] = ref.manifest.gate is not None and state.gate_on
        _print_json({**facts, "manifest": manifest})
        return
    print_summary(ref, thresholds, state)
    for line in (line for one in measured for line in evaluation_lines(one)):
        typer.echo(f"{'measured':<12} {line}")
    print_history(state)


@app.command("schema")
def print_schema() -> None:
    """Print the JSON Schema of a bundle's manifest.json.

    Example: glad bundle schema
    """
    _print_json(manifest_schema())


@app.command()
def verify(
    bundle: BundleName,
    version: Version = None,
    *,
    store: StoreFolder = None,
    data_dir: DataFolder = DEFAULT_DATA_FOLDER,
) -> None:
    """Verify a bundle: read every byte and compare it with the manifest; ends with 1 if anything differs.

    Example: glad bundle verify bundles/my-product/1
    """
    opened = chosen_store(store, data_dir)
    with explained(ValueError):
        found = find_bundle(bundle, opened, version)
        checked = found.ref.open() if found.in_store else open_bundle(found.ref.path, opened.keys)
    files = {**checked.manifest.files, **report_present(checked.path, checked.manifest)}
    total = sum(entry.bytes for entry in files.values())
    typer.echo(f"{checked.path}: {len(files)} files, {total / 1e6:.1f} MB, all as published; hash {checked.hash}")
    if checked.keys.any:
        typer.echo("signed by a key of GLAD_BUNDLE_KEYS")
    elif signature_of(checked.path / MANIFEST_NAME).exists():
        typer.echo("its signature was not checked: GLAD_BUNDLE_KEYS names no key")


@app.command("key")
def make_a_key(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="The new secret key. Keep it off the line's machines.", dir_okay=False),
    ],
    *,
    password: Annotated[bool, typer.Option("--password/--no-password", help="Ask for one that encrypts it.")] = True,
) -> None:
    """Make a key that signs bundles (minisign's format), and print the public one for GLAD_BUNDLE_KEYS.

    Example: glad bundle key line.key
    """
    word = typer.prompt("Password of the new key", hide_input=True, confirmation_prompt=True) if password else ""
    with explained(ValueError):
        typer.echo(make_key(file, word))


@app.command()
def sign(
    bundle: BundleName,
    *,
    key: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="The secret key: of `glad bundle key`, or of minisign.")
    ],
    store: StoreFolder = None,
) -> None:
    """Verify a bundle and sign it, and the exports that lie in it.

    Example: glad bundle sign bundles/my-product/1 --key line.key
    """
    with explained(ValueError):
        folder = own_bundle_folder(bundle, store)
        signed, public = sign_bundle(folder, key, lambda: str(typer.prompt(f"Password of {key}", hide_input=True)))
    for file in signed:
        typer.echo(f"signed: {file}")
    typer.echo(f"by {public}")


@app.command()
def publish(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="The new bundle's folder.", exists=True, file_okay=False)
    ],
    *,
    activate_it: Annotated[bool, typer.Option("--activate", help="Make it active as well.")] = False,
    by: By = "",
    store: StoreFolder = None,
    data_dir: DataFolder = DEFAULT_DATA_FOLDER,
) -> None:
    """Verify a bundle and add it to the store in one step.

    Example: glad bundle publish bundles/my-product/1 --activate
    """
    opened = chosen_store(store, data_dir)
    with explained():
        if activate_it:
            _refuse_draft(folder)
        ref = opened.publish(folder)
        if activate_it:
            opened.activate(ref.product, ref.version, by=by or user_name())
        active = opened.resolve(ref.product).version if opened.versions(ref.product) else "none"
    typer.echo(f"published {ref.product} {ref.version} to {ref.path}; active: {active}")
    if not ref.calibrated:
        typer.echo(f"not calibrated: {to_calibrate(ref)}")
    elif active != ref.version:
        typer.echo(f"to use it: glad bundle activate {ref.product} {ref.version}")


@app.command()
def activate(
    product: Annotated[str, typer.Argument(metavar="PRODUCT", help="The product's name, or PRODUCT/VERSION.")],
    version: Annotated[str | None, typer.Argument(metavar="VERSION", help="The version to use from now on.")] = None,
    *,
    by: By = "",
    note: Note = "",
    store: StoreFolder = None,
    data_dir: DataFolder = DEFAULT_DATA_FOLDER,
) -> None:
    """Activate a version: verify it and make it the one that new inspections use.

    Example: glad bundle activate bracket 7 --note "fewer false alarms"
    """
    name, named_version = split_version(product)
    chosen = version or named_version
    if chosen is None or (version and named_version):
        raise typer.BadParameter(f"name one version to activate, such as: glad bundle activate {name} 2")
    with explained():
        state = chosen_store(store, data_dir).activate(name, chosen, by=by or user_name(), note=note)
    typer.echo(f"{name}: active version is {state.active}")


@app.command()
def rollback(
    product: Product,
    *,
    by: By = "",
    note: Note = "",
    store: StoreFolder = None,
    data_dir: DataFolder = DEFAULT_DATA_FOLDER,
) -> None:
    """Go back to the version that was active before the present one.

    Example: glad bundle rollback bracket --note "rejects too many"
    """
    with explained():
        state = chosen_store(store, data_dir).roll_back(product, by=by or user_name(), note=note)
    typer.echo(f"{product}: active version is {state.active}")


class Switch(StrEnum):
    """A position of the quality gate's switch."""

    ON = "on"
    OFF = "off"


@app.command()
def gate(
    product: Product,
    switch: Annotated[
        Switch, typer.Argument(help="Whether images that are unfit for inspection go to people at once.")
    ],
    *,
    by: By = "",
    note: Note = "",
    store: StoreFolder = None,
    data_dir: DataFolder = DEFAULT_DATA_FOLDER,
) -> None:
    """Switch a product's quality gate on or off, whatever its version; images that wait stay as they were accepted.

    Example: glad bundle gate bracket off --note "new lamp, gate not learnt yet"
    """
    opened = chosen_store(store, data_dir)
    with explained():
        opened.switch_gate(product, on=switch is Switch.ON, by=by or user_name(), note=note)
        ref = opened.resolve(product)
    typer.echo(f"{product}: quality gate is {switch}")
    if switch is Switch.ON and ref.manifest.gate is None:
        learn = shlex.join(["glad", "gate", str(ref.path)])
        typer.secho(f"version {ref.version} has none yet: {learn} --data DIR", fg=typer.colors.YELLOW, err=True)


class PicturesOption(StrEnum):
    """When pictures are drawn of parts that pass."""

    ALWAYS = "always"
    ON_DEMAND = "on-demand"


@app.command()
def pictures(
    product: Product,
    when: Annotated[
        PicturesOption,
        typer.Argument(help="Of parts that pass: at once, or when somebody asks. All others' are drawn at once."),
    ],
    *,
    by: By = "",
    note: Note = "",
    store: StoreFolder = None,
    data_dir: DataFolder = DEFAULT_DATA_FOLDER,
) -> None:
    """Choose when pictures are drawn of a product's parts that pass; images that wait stay as they were accepted.

    Example: glad bundle pictures bracket on-demand
    """
    with explained():
        chosen: PicturesWhen = "always" if when is PicturesOption.ALWAYS else "on_demand"
        chosen_store(store, data_dir).choose_pictures(product, chosen, by=by or user_name(), note=note)
    typer.echo(f"{product}: pictures of parts that pass are drawn {PICTURES_WHEN[chosen]}")


def _rows(store: Store, product: str) -> list[dict[str, object]]:
    chosen = store.state(product).active
    refs = store.versions(product)
    active = chosen if chosen is not None else refs[0].version
    return [
        {
            "product": product,
            "version": ref.version,
            "active": ref.version == active,
            "created_at": ref.manifest.provenance.created_at.isoformat(timespec="seconds"),
            "hash": ref.hash,
            "path": str(ref.path),
        }
        for ref in refs
    ]


def _refuse_draft(folder: Path) -> None:
    """Raise NotCalibrated before anything is copied."""
    manifest, _ = read_manifest(folder)
    if manifest.calibration is None:
        raise NotCalibrated.for_version(manifest.product, manifest.version)


def _print_json(content: object) -> None:
    typer.echo(json.dumps(content, indent=2))
