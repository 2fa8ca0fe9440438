"""`glad sample`, `glad preview`, `glad train`, `glad calibrate`, `glad gate`: what makes images and bundles.

Each imports its needs when called.
"""

from __future__ import annotations

import json
import shlex
from functools import partial
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from model_store.cli.common import (
    BundleName,
    StoreFolder,
    bundle_folder,
    command_line,
    explained,
    new_bundle_folder,
    numbers,
    version_of_now,
)
from training.cli.data import images_folder
from training.cli.printed import (
    checked_before_training,
    print_plan,
    tell_data_warnings,
    tell_gate,
    tell_thresholds,
    to_publish,
)
from training.interrupts import resumable


def sample(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", file_okay=False, help="Where the images go; an interrupted run goes on.")
    ],
    *,
    seed: Annotated[int, typer.Option(help="Another seed, other parts.")] = 0,
    train: Annotated[int, typer.Option(min=0, help="Good images in train/good.")] = 0,
    calibration: Annotated[int, typer.Option(min=0, help="Good images in calibration/good.")] = 0,
    good: Annotated[int, typer.Option(min=0, help="Good images in test/good.")] = 0,
    defects: Annotated[int, typer.Option(min=0, help="Images of each defect and severity in test/.")] = 0,
    lamp: Annotated[
        str, typer.Option(metavar="usual|opposite", help="Where it stands: the same parts in another light.")
    ] = "usual",
) -> None:
    """Render images of the sample product to try everything with: good parts, six defects, exact masks.

    Example: glad sample parts --train 60 --good 20 --defects 2
    """
    if train + calibration + good + defects == 0:
        raise typer.BadParameter("nothing to render: give --train, --calibration, --good or --defects")
    from training.sample_product import Lamp, write_dataset

    if lamp not in list(Lamp):
        raise typer.BadParameter(f"lamp {lamp!r}: give {' or '.join(Lamp)}", param_hint="--lamp")
    with explained(ValueError), typer.progressbar(length=100, label="rendering") as bar:
        shown = 0

        def show(done: int, total: int) -> None:
            nonlocal shown
            bar.update(100 * done // total - shown)
            shown = 100 * done // total

        count = write_dataset(
            folder,
            seed=seed,
            train=train,
            calibration=calibration,
            good=good,
            defects=defects,
            lamp=Lamp(lamp),
            progress=show,
        )
    typer.echo(f"{count} images in {folder}")


def preview(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A .toml file, or the name of a shipped one, such as light or visa.")
    ],
    *,
    data: Annotated[
        Path,
        typer.Option(
            parser=images_folder,
            exists=True,
            file_okay=False,
            metavar="DIR",
            help="Good images, arranged as for `glad train`.",
        ),
    ],
    out: Annotated[Path, typer.Option(dir_okay=False, help="The picture, as PNG.")] = Path("anomalies.png"),
    kinds: Annotated[
        str,
        typer.Option(help="Such as crack,pores; all: also those without a weight in the recipe. Default: its own."),
    ] = "",
    columns: Annotated[int, typer.Option(min=1, max=50, help="Anomalies of each kind.")] = 6,
    seed: Annotated[int, typer.Option(help="Another seed, other anomalies.")] = 0,
) -> None:
    """Draw the synthetic anomalies that a recipe trains with, a row for each kind, on a product's own good images.

    Example: glad preview light --data my-product --out anomalies.png
    """
    from training.data.dataset import good_split
    from training.recipe_file import load_recipe
    from training.synthesis.contact_sheet import contact_sheet

    with explained(ValueError):
        loaded = load_recipe(recipe, data=data)
        tell_data_warnings(data)
        weights = loaded.synthesis.weights
        chosen = [kind for kind in weights if weights[kind] > 0 or kinds == "all"]
        if kinds not in ("", "all"):
            chosen = [kind.strip() for kind in kinds.split(",")]
        images = good_split(data, loaded.calibration.holdout, loaded.seed).train
        sheet = contact_sheet(images, loaded.settings, chosen, columns=columns, seed=seed, synthesis=loaded.synthesis)
        out.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(out, format="PNG")
    typer.echo(f"{', '.join(chosen)}: {columns} of each in {out}; the red line goes around what counts as anomalous")


def _print_recipe_schema(wanted: bool) -> None:
    from training.recipe_file import recipe_schema

    if wanted:
        typer.echo(json.dumps(recipe_schema(), indent=2, ensure_ascii=False))
        raise typer.Exit


Confidence: TypeAlias = Annotated[
    float | None,
    typer.Option(
        min=0.5,
        max=0.999,
        help="0.95: what is promised of false rejects holds in 95 of 100 calibrations, by higher thresholds. Default: "
        "the recipe's; without one it holds on average.",
    ),
]


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="A .toml file, the name of a shipped one (light, nano, mvtec-ad, mpdd, visa, pcb-bank, multi-class), "
            "or my-product: light, with what the images propose.",
        ),
    ],
    *,
    data: Annotated[
        Path,
        typer.Option(
            parser=images_folder,
            exists=True,
            file_okay=False,
            metavar="DIR",
            help="Good images: DIR/train/good, or DIR itself; or a class of a published data set.",
        ),
    ],
    product: Annotated[str, typer.Option(help="Name of the product; default: the data folder's.")] = "",
    version: Annotated[str, typer.Option(help="Version of the bundle; default: the time, such as 20261123-2359.")] = "",
    title: Annotated[str, typer.Option(help="What people call the product.")] = "",
    run: Annotated[
        Path | None, typer.Option(file_okay=False, help="Checkpoints; the same folder resumes. Default: runs/PRODUCT.")
    ] = None,
    confidence: Confidence = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A value of the recipe, such as unet.steps=900; repeatable."),
    ] = None,
    smallest_defect: Annotated[
        int | None,
        typer.Option(metavar="PX", help="To be found, in pixels of your images: my-product cuts tiles if it must."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check everything, try a few steps, print the plan, and train nothing."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run: the plan as JSON.")] = False,
    out: Annotated[Path, typer.Option(file_okay=False, help="The bundle becomes OUT/PRODUCT/VERSION.")] = Path(
        "bundles"
    ),
    export: Annotated[
        bool | None,
        typer.Option(
            "--export/--no-export", help="Also for ONNX Runtime, as `glad export` does. Default: recipes like light."
        ),
    ] = None,
    schema: Annotated[
        bool,
        typer.Option(
            "--schema",
            callback=_print_recipe_schema,
            is_eager=True,
            help="Print the JSON Schema of recipes, for editors, and end.",
        ),
    ] = False,
) -> None:
    """Train a product's models on good images alone, find its thresholds, and write a bundle.

    Every image is read first. With --dry-run the exit status is 1 if the training would fail.

    Example: glad train light --data my-product --version 1
    """
    from training.checked_training import Wanted
    from training.cli.classes import train_every_class
    from training.cli.export import export_new_bundle
    from training.cli.report import tell_report
    from training.package import Naming, product_of_folder
    from training.pipeline import train as train_bundle
    from training.recipe import FeatureRecipe
    from training.run_lock import locked_run

    of_classes = train_every_class(
        recipe,
        changes or (),
        data,
        product=product,
        version=version,
        title=title,
        run=run,
        confidence=confidence,
        out=out,
        warn=tell_data_warnings,
        show_plan=partial(print_plan, as_json=as_json) if dry_run else None,
    )
    for one in of_classes:
        tell_thresholds(one)
    if of_classes:
        return
    with explained(ValueError):
        naming = Naming(product or product_of_folder(data), version or version_of_now(), title)
        target = new_bundle_folder(out, naming.product, naming.version)
        checkpoints = run or Path("runs") / naming.product
        wanted = Wanted(recipe, data, checkpoints, target, naming, changes or (), confidence, smallest_defect)
        if dry_run:
            raise typer.Exit(0 if print_plan(wanted, as_json) else 1)
        if as_json:
            raise ValueError("--json prints the plan of a --dry-run: give both, or neither")
        with resumable():
            chosen, plan = checked_before_training(wanted)
            bundle = train_bundle(
                chosen, data, checkpoints, target, naming, command=command_line(), say=typer.echo, plan=plan
            )
    whole = f"{target} is whole; `glad export` and `glad report` make what is missing beside it"
    with resumable(whole), explained(ValueError), locked_run(checkpoints):
        tell_thresholds(bundle)
        if isinstance(chosen, FeatureRecipe) if export is None else export:
            export_new_bundle(target, data, checkpoints / "parity")
        tell_report(checkpoints, target)
    to_evaluate = shlex.join(["glad", "evaluate", str(target), "--data", str(data)])
    typer.echo(f"next: {to_evaluate}  (needs a labelled test/)\n      {to_publish(target)}  (then `glad serve` has it)")


def calibrate(
    bundle: BundleName,
    *,
    data: Annotated[
        Path | None,
        typer.Option(
            parser=images_folder,
            exists=True,
            file_okay=False,
            metavar="DIR",
            help="Good images, arranged as for `glad train`; those of DIR/calibration/good are for the thresholds.",
        ),
    ] = None,
    from_reviews: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            metavar="DIR",
            help="In place of --data: propose thresholds from a folder of `glad reviews export`, DIR/PRODUCT. Writes "
            "nothing; takes --confidence and --json alone.",
        ),
    ] = None,
    version: Annotated[
        str, typer.Option(help="Version of the new bundle; default: the time, such as 20261123-2359.")
    ] = "",
    out: Annotated[Path, typer.Option(file_okay=False, help="The bundle becomes OUT/PRODUCT/VERSION.")] = Path(
        "bundles"
    ),
    keep_settings: Annotated[bool, typer.Option("--keep-settings", help="Find only the thresholds.")] = False,
    start: Annotated[
        str,
        typer.Option(help="How far to go back (T), values to try, such as 300,400,500. Default: shares of its own."),
    ] = "",
    t_min: Annotated[
        str,
        typer.Option(
            help="Below which step an image that showed no difference stays as it was (t_min). Default: shares of T."
        ),
    ] = "",
    delta: Annotated[
        str,
        typer.Option(
            help="From which difference on an image is unlike good ones (δ), values to try; 0: not asked. Default: "
            "found on good images."
        ),
    ] = "",
    settings: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="TOML or JSON: zones, framing, foreground and more."),
    ] = None,
    images: Annotated[
        int, typer.Option(help="Good images on which settings are tried, with synthetic anomalies.")
    ] = 40,
    confidence: Confidence = None,
    seed: Annotated[int, typer.Option(help="Of the choice of images and of their anomalies.")] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", dir_okay=False, help="Everything that was tried, as JSON.")
    ] = None,
    store: StoreFolder = None,
) -> None:
    """Find a bundle's thresholds and settings anew on good images, and write them as a new version.

    How far the method goes back, and from which difference on an image is unlike good ones, is tried on synthetic
    anomalies; --keep-settings finds only the thresholds. With --from-reviews thresholds are proposed from the blind
    random audit of a running service, and nothing is written.

    Example: glad calibrate bracket --data my-product --keep-settings
    """
    if data is None or from_reviews is not None:
        from training.cli.reviewed import propose_from_reviews

        with explained(ValueError):
            if from_reviews is None or data is not None:
                raise ValueError("give --data, a folder of good images, or --from-reviews, one of exported reviews")
            propose_from_reviews(bundle_folder(bundle, store), from_reviews, confidence, json_file)
        return
    from model_store.bundle import open_bundle
    from training.calibration.search import SearchRanges, choice_as_markdown
    from training.progress import named_bars
    from training.recalibrate import RecalibrationPlan, recalibrate

    with explained(ValueError):
        folder = bundle_folder(bundle, store)
        target = new_bundle_folder(out, open_bundle(folder).manifest.product, version or version_of_now())
        ranges = SearchRanges(
            numbers("--start", start, int), numbers("--t-min", t_min, int), numbers("--delta", delta, float)
        )
        tell_data_warnings(data)
        plan = RecalibrationPlan(None if keep_settings else ranges, images, settings, confidence, seed)
        with named_bars() as show:
            made = recalibrate(folder, data, target, plan, command=command_line(), progress=show, say=typer.echo)
        if json_file is not None:
            json_file.parent.mkdir(parents=True, exist_ok=True)
            json_file.write_text(json.dumps(made.report, indent=2) + "\n", encoding="utf-8")
    if made.choice is not None:
        typer.echo(choice_as_markdown(made.choice))
    tell_thresholds(made.bundle)
    typer.echo(f"next: {to_publish(target)}")


def gate(
    bundle: BundleName,
    *,
    data: Annotated[
        Path,
        typer.Option(
            parser=images_folder,
            exists=True,
            file_okay=False,
            metavar="DIR",
            help="Good images, arranged as for `glad train`.",
        ),
    ],
    version: Annotated[
        str, typer.Option(help="Version of the new bundle; default: the time, such as 20261123-2359.")
    ] = "",
    out: Annotated[Path, typer.Option(file_okay=False, help="The bundle becomes OUT/PRODUCT/VERSION.")] = Path(
        "bundles"
    ),
    store: StoreFolder = None,
) -> None:
    """Learn from good images which images are fit for inspection, and write a version with that quality gate.

    Example: glad gate bracket --data my-product
    """
    from model_store.bundle import open_bundle
    from training.progress import named_bars
    from training.recalibrate import relearn_gate

    with explained(ValueError):
        folder = bundle_folder(bundle, store)
        target = new_bundle_folder(out, open_bundle(folder).manifest.product, version or version_of_now())
        tell_data_warnings(data)
        with named_bars() as show:
            made = relearn_gate(folder, data, target, command=command_line(), progress=show)
    tell_gate(made)
    typer.echo(f"next: {to_publish(target)}")
