"""`glad sample`, `glad train`, `glad evaluate`: the offline commands. Each imports what it needs when it is called."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from training.recipe import Recipe


Number = TypeVar("Number", int, float)


def sample(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the images go; an interrupted run goes on.")],
    *,
    seed: Annotated[int, typer.Option(help="Another seed, other parts.")] = 0,
    train: Annotated[int, typer.Option(min=0, help="Good images in train/good.")] = 0,
    calibration: Annotated[int, typer.Option(min=0, help="Good images in calibration/good.")] = 0,
    good: Annotated[int, typer.Option(min=0, help="Good images in test/good.")] = 0,
    defects: Annotated[int, typer.Option(min=0, help="Images of each defect and severity in test/.")] = 0,
) -> None:
    """Render the sample product: good parts, six defects in three severities, exact masks."""
    if train + calibration + good + defects == 0:
        raise typer.BadParameter("nothing to render: give --train, --calibration, --good or --defects")
    from training.sample_product import write_dataset

    with _explained(), typer.progressbar(length=100, label="rendering") as bar:
        shown = 0

        def show(done: int, total: int) -> None:
            nonlocal shown
            bar.update(100 * done // total - shown)
            shown = 100 * done // total

        count = write_dataset(
            folder, seed=seed, train=train, calibration=calibration, good=good, defects=defects, progress=show
        )
    typer.echo(f"{count} images in {folder}")


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A .toml file or a shipped name, such as nano.")],
    *,
    data: Annotated[Path, typer.Option(help="Folder of good images: DIR/train/good/*, or DIR/* itself.")],
    product: Annotated[str, typer.Option(help="Name of the product; default: the data folder's.")] = "",
    version: Annotated[str, typer.Option(help="Version of the bundle; default: the time, such as 20261123-2359.")] = "",
    title: Annotated[str, typer.Option(help="What people call the product.")] = "",
    run: Annotated[Path | None, typer.Option(help="Checkpoints; the same folder resumes. [runs/PRODUCT]")] = None,
    out: Annotated[Path, typer.Option(help="The bundle becomes OUT/PRODUCT/VERSION.")] = Path("bundles"),
) -> None:
    """Train a product's models on good images, calibrate them and publish a bundle."""
    from model_store.manifest import check_name
    from training.pipeline import train as train_bundle
    from training.publish import Naming

    with _explained():
        name = check_name(product or _slug(data.resolve().name))
        naming = Naming(name, check_name(version or f"{datetime.now(UTC):%Y%m%d-%H%M}"), title)
        target = out / naming.product / naming.version
        if target.exists():
            raise ValueError(f"{target} exists already, and bundles never change: give --version another name")
        try:
            bundle = train_bundle(
                _recipe(recipe), data, run or Path("runs") / name, target, naming, command=_command(), say=typer.echo
            )
        except KeyboardInterrupt:
            typer.echo("interrupted; the same command goes on where it stopped", err=True)
            raise typer.Exit(130) from None
    found = bundle.manifest.thresholds
    typer.echo(f"{bundle.path}  hash {bundle.hash[:12]}")
    typer.echo(f"review from {found.review:.4f}, fail from {found.fail:.4f}, on {found.good_images} good images")
    to_evaluate = shlex.join(["glad", "evaluate", str(target), "--data", str(data)])
    to_publish = shlex.join(["glad", "bundle", "publish", str(target), "--activate"])
    typer.echo(f"next: {to_evaluate}  (needs a labelled test/)\n      {to_publish}  (then `glad serve` has it)")


def evaluate(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle's folder.")],
    *,
    data: Annotated[Path, typer.Option(help="Labelled folder: test/good, test/<defect>, ground_truth/<defect>.")],
    json_file: Annotated[
        Path, typer.Option("--json", help="Figures and every image's row; .csv, .md and .html lie beside it.")
    ] = Path("evaluation.json"),
    worst: Annotated[int, typer.Option(min=0, help="Worst misses that the page shows.")] = 12,
    repeatability: Annotated[
        bool, typer.Option("--repeatability", help="Inspect each image again and again under camera noise.")
    ] = False,
    repeats: Annotated[int, typer.Option(min=2, help="How often, with --repeatability.")] = 10,
) -> None:
    """Measure a bundle on labelled images: detection, localization and false rejects with intervals, by defect."""
    from model_store.bundle import open_bundle
    from training.camera_noise import CameraNoise
    from training.evaluate import evaluate
    from training.misses import look_at_worst
    from training.progress import named_bars
    from training.repeatability import repeat, with_repeatability
    from training.report import write_report
    from training.tables import as_markdown

    with _explained():
        if json_file.suffix in {".csv", ".md", ".html"}:
            raise ValueError(f"{json_file}: .csv, .md and .html lie beside the JSON file; end its name in .json")
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.touch()  # a place that cannot be written shows before the long part, not after it
    with _explained(), named_bars() as show:
        limits = open_bundle(bundle).manifest.calibration
        outcome = evaluate(bundle, data, progress=show, command=_command())
        misses = look_at_worst(bundle, data, outcome.rows, worst, progress=partial(show, "worst misses"))
        if repeatability:
            camera = CameraNoise()
            found = repeat(bundle, data, outcome.rows, repeats, camera, progress=partial(show, "repeating"))
            outcome = with_repeatability(outcome, found, camera, limits)
        files = write_report(outcome, misses, limits, json_file)
    typer.echo(as_markdown(outcome.figures))
    typer.echo(f"all figures: {files.json}; table: {files.markdown}; page: {files.page}")


def calibrate(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle's folder, calibrated or not.")],
    *,
    data: Annotated[Path, typer.Option(help="Good images: DIR/train/good, DIR/calibration/good, or DIR/* itself.")],
    version: Annotated[str, typer.Option(help="Of the new bundle; default: the time, such as 20261123-2359.")] = "",
    out: Annotated[Path, typer.Option(help="The bundle becomes OUT/PRODUCT/VERSION.")] = Path("bundles"),
    keep_settings: Annotated[bool, typer.Option("--keep-settings", help="Find only the thresholds.")] = False,
    start: Annotated[str, typer.Option(help="Values of T to try, such as 300,400,500. [shares of the own]")] = "",
    t_min: Annotated[str, typer.Option(help="Values of t_min to try. [shares of T]")] = "",
    delta: Annotated[str, typer.Option(help="Values of δ to try; 0: no adaptation. [from good images]")] = "",
    settings: Annotated[
        Path | None,
        typer.Option(exists=True, help="TOML or JSON: zones, framing, foreground and more."),
    ] = None,
    images: Annotated[
        int, typer.Option(help="Good images on which settings are tried, with synthetic anomalies.")
    ] = 40,
    confidence: Annotated[
        float | None,
        typer.Option(min=0.5, max=0.999, help="That no more good parts are rejected than promised. [on average]"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the choice of images and of their anomalies.")] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Everything that was tried, as JSON.")] = None,
) -> None:
    """Choose T, t_min and δ from good images and synthetic anomalies, find the thresholds, publish a new version."""
    from model_store.bundle import open_bundle
    from model_store.manifest import check_name
    from training.choose import Ranges, told
    from training.progress import named_bars
    from training.recalibrate import Plan, recalibrate

    with _explained():
        name = check_name(version or f"{datetime.now(UTC):%Y%m%d-%H%M}")
        target = out / open_bundle(bundle).manifest.product / name
        if target.exists():
            raise ValueError(f"{target} exists already, and bundles never change: give --version another name")
        ranges = Ranges(
            _numbers("--start", start, int), _numbers("--t-min", t_min, int), _numbers("--delta", delta, float)
        )
        plan = Plan(None if keep_settings else ranges, images, settings, confidence, seed)
        with named_bars() as show:
            made = recalibrate(bundle, data, target, plan, command=_command(), progress=show)
        if json_file is not None:
            json_file.parent.mkdir(parents=True, exist_ok=True)
            json_file.write_text(json.dumps(made.report, indent=2) + "\n", encoding="utf-8")
    if made.choice is not None:
        typer.echo(told(made.choice))
    if warning := made.report.get("warning"):
        typer.secho(f"warning: {warning}", fg=typer.colors.YELLOW, err=True)
    found = made.bundle.manifest.thresholds
    typer.echo(f"{made.bundle.path}  hash {made.bundle.hash[:12]}")
    typer.echo(f"review from {found.review:.4f}, fail from {found.fail:.4f}, on {found.good_images} good images")


def ablate(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle's folder.")],
    *,
    data: Annotated[Path, typer.Option(help="Labelled folder with masks: test/good, test/<defect>, ground_truth/.")],
    train_data: Annotated[
        Path | None, typer.Option(help="What the bundle was trained on. [the labelled folder]")
    ] = None,
    plain: Annotated[bool, typer.Option("--plain/--no-plain", help="Also rows without ATP: trains a UNet.")] = True,
    without_atp: Annotated[Path | None, typer.Option(help="A bundle without ATP, in place of training one.")] = None,
    run: Annotated[Path | None, typer.Option(help="Of that training; resumes. [runs/PRODUCT-without-atp]")] = None,
    fixed: Annotated[
        str, typer.Option(help="Fixed steps to compare with. [350, 550, 750 of 750, as shares of T]")
    ] = "",
    json_file: Annotated[Path, typer.Option("--json", help="Every figure with its interval.")] = Path("ablation.json"),
) -> None:
    """What adaptive steps, fusion and ATP gain on this product: the paper's Tables 6 and 7, with paired intervals."""
    from model_store.bundle import open_bundle
    from training.ablation import as_json, as_markdown, compare, fixed_steps, measure, variants
    from training.data import test_images
    from training.plain_unet import train_plain
    from training.progress import named_bars

    with _explained(), named_bars() as show:
        opened = open_bundle(bundle)
        settings = opened.manifest.settings
        images = test_images(data)
        steps = _numbers("--fixed", fixed, int) or fixed_steps(settings)
        if settings.trigger.delta == 0:
            raise ValueError(
                "the bundle's δ is 0, which is no adaptation: give one with a δ above 0 to compare with none"
            )
        variants(opened.path, settings, None, steps)  # what cannot be compared shows before the long part
        json_file.parent.mkdir(parents=True, exist_ok=True)
        baseline = None
        if without_atp is not None:
            other = open_bundle(without_atp)
            baseline = other.path, other.manifest.settings.trigger.delta
        elif plain:
            folder = run or Path("runs") / f"{opened.manifest.product}-without-atp"
            baseline = train_plain(opened, train_data or data, folder, progress=show)
        chosen = variants(opened.path, settings, baseline, steps)
        rows = compare(chosen, measure(chosen, images, progress=show), images)
        json_file.write_text(
            json.dumps({"command": _command(), "bundle": opened.hash, "rows": as_json(rows)}, indent=2) + "\n",
            encoding="utf-8",
        )
    typer.echo(as_markdown(rows))


def reproduce(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="mvtec-ad, mpdd, visa or pcb-bank.")],
    *,
    data: Annotated[Path, typer.Option(help="The data set's folder, with a folder per class.")],
    base: Annotated[str, typer.Option(help="Stable Diffusion 1.x: a folder in Hugging Face layout, or a hub id.")],
    dino: Annotated[str, typer.Option(help="DINO's ViT: a folder in Hugging Face layout, or a hub id.")],
    licence: Annotated[str, typer.Option(help="Under which licences the models stand; kept in the manifests.")],
    unet: Annotated[str | None, typer.Option(help="Fine-tuned UNet; {class} stands for the class.")] = None,
    vae: Annotated[str | None, typer.Option(help="Fine-tuned autoencoder; {class} stands for the class.")] = None,
    features: Annotated[str | None, typer.Option(help="Fine-tuned DINO; {class} stands for the class.")] = None,
    multi: Annotated[bool, typer.Option("--multi", help="The settings of the one model for all classes.")] = False,
    classes: Annotated[str, typer.Option(help="Only these, such as carpet,grid. [all]")] = "",
    out: Annotated[
        Path | None, typer.Option(help="Bundles, a report per class, and table.md. [reproduced/DATASET]")
    ] = None,
) -> None:
    """The table of a published data set from published weights: import, evaluate and report every class."""
    from training.progress import named_bars
    from training.reproduce import Weights, plan
    from training.reproduce import reproduce as run

    with _explained():
        weights = Weights(base, dino, licence, unet=unet, vae=vae, features=features)
        chosen = tuple(name for name in classes.split(",") if name)
        plans = plan(dataset, data, weights, chosen, multi=multi)
        folder = out or Path("reproduced") / (f"{dataset}-multi" if multi else dataset)
        folder.mkdir(parents=True, exist_ok=True)
        with named_bars() as show:
            table = run(plans, weights, folder, command=_command(), progress=show, say=typer.echo)
    typer.echo(table.as_markdown())
    typer.echo(f"the table: {folder / 'table.md'}; each class: {folder}/CLASS.html")


def _numbers(option: str, given: str, kind: type[Number]) -> tuple[Number, ...] | None:
    """`300,400,500` -> numbers in ascending order, each once; None for nothing given."""
    if not given:
        return None
    try:
        return tuple(sorted({kind(part) for part in given.split(",")}))
    except ValueError as error:
        raise ValueError(f"{option} is {given!r}: give numbers separated by commas, such as 300,400,500") from error


def _recipe(name: str) -> Recipe:
    from training.recipe import load_recipe

    return load_recipe(name)


def _command() -> str:
    return "glad " + shlex.join(sys.argv[1:])


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in name.lower())


@contextmanager
def _explained() -> Iterator[None]:
    """Errors that the user can mend are told in one line, without a traceback."""
    from model_store.bundle import BundleError
    from model_store.errors import StoreError

    try:
        yield
    except (ValueError, BundleError, StoreError, OSError) as error:
        typer.secho(f"glad: {error}", fg=typer.colors.RED, err=True)
        raise typer.Exit(2) from error
