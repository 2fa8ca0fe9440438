"""`glad evaluate`, `glad ablate`, `glad reproduce`: what measures bundles. Each imports its needs when called."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from model_store.cli.common import (
    BundleName,
    StoreFolder,
    bundle_folder,
    command_line,
    explained,
    find_store,
    numbers,
    user_name,
)
from training.cli.data import images_folder
from training.cli.printed import tell_data_warnings
from training.interrupts import resumable

if TYPE_CHECKING:
    from glad.settings.method import MethodSettings
    from training.studies.reproduction_outlook import ReproductionOutlook


def evaluate(
    bundle: BundleName,
    *,
    data: Annotated[
        Path,
        typer.Option(
            parser=images_folder,
            exists=True,
            file_okay=False,
            metavar="DIR",
            help="Labelled images: DIR/test/good, DIR/test/<defect>; or a class of a published data set.",
        ),
    ],
    json_file: Annotated[
        Path,
        typer.Option(
            "--json", dir_okay=False, help="Figures and every image's row; .csv, .md and .html lie beside it."
        ),
    ] = Path("evaluation.json"),
    worst: Annotated[int, typer.Option(min=0, help="Worst misses that the page shows.")] = 12,
    repeatability: Annotated[
        bool, typer.Option("--repeatability", help="Inspect each image again and again under camera noise.")
    ] = False,
    repeats: Annotated[int, typer.Option(min=2, help="How often, with --repeatability.")] = 10,
    yardstick: Annotated[
        str,
        typer.Option(
            metavar="auto|none|FILE",
            help="What a pretrained network gives without training, beside the bundle: learnt from DIR's good images "
            "(auto), left out (none), or the JSON of `glad bench yardstick` on the same images.",
        ),
    ] = "auto",
    record: Annotated[
        bool, typer.Option("--record", help="Keep the figures beside the bundle: the page shows them.")
    ] = False,
    name: Annotated[
        str, typer.Option(metavar="TEXT", help="Of the data set, with --record. Default: the folder's name.")
    ] = "",
    store: StoreFolder = None,
) -> None:
    """Measure a bundle on labelled images: detection, localization and false rejects with intervals, by defect.

    Example: glad evaluate bracket --data my-product --json evaluation.json --record
    """
    from model_store.bundle import open_bundle
    from model_store.bundle_lookup import find_bundle
    from model_store.cli.evaluations import record_evaluation, refuse_unwritable
    from model_store.evaluations import MeasuredQuality
    from training.data.camera_noise import CameraNoise
    from training.data.dataset import test_images
    from training.evaluation.evaluate import evaluate
    from training.evaluation.misses import inspect_worst
    from training.evaluation.record import with_record
    from training.evaluation.repeatability import repeat, with_repeatability
    from training.evaluation.report import write_report
    from training.evaluation.tables import as_markdown
    from training.progress import named_bars
    from training.yardstick.report_row import (
        AUTO,
        NONE,
        read_yardstick,
        with_learnt_yardstick,
        with_yardstick_of_file,
    )

    with explained(ValueError):
        if json_file.suffix in {".csv", ".md", ".html"}:
            raise ValueError(f"{json_file}: .csv, .md and .html lie beside the JSON file; end its name in .json")
        opened = find_store(store)
        found = find_bundle(bundle, opened)
        folder = found.ref.path
        if record:
            refuse_unwritable(opened, found)
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.touch()  # a place that cannot be written shows before the long part, not after it
        tell_data_warnings(data)
        file = None if yardstick in (AUTO, NONE) else Path(yardstick)
        read = None if file is None else read_yardstick(file, test_images(data))
    with explained(ValueError), named_bars() as show:
        limits = open_bundle(folder).manifest.calibration
        outcome = evaluate(folder, data, progress=show, command=command_line())
        if file is not None and read is not None:
            outcome = with_yardstick_of_file(outcome, read, file)
        elif yardstick == AUTO:
            outcome = with_learnt_yardstick(outcome, folder, data, progress=show)
        misses = inspect_worst(folder, data, outcome.rows, worst, progress=partial(show, "worst misses"))
        if repeatability:
            camera = CameraNoise()
            repeated = repeat(folder, data, outcome.rows, repeats, camera, progress=partial(show, "repeating"))
            outcome = with_repeatability(outcome, repeated, camera, limits)
        outcome = with_record(outcome, name)
        files = write_report(outcome, misses, limits, json_file)
    typer.echo(as_markdown(outcome.figures))
    typer.echo(f"all figures: {files.json}; table: {files.markdown}; page: {files.page}")
    if record:
        with explained(ValueError):
            if "record" not in outcome.figures:
                raise ValueError("nothing is recorded: without thresholds and without defects there are no figures")
            measured = MeasuredQuality.model_validate(outcome.figures["record"])
            kept = record_evaluation(opened, found, measured, by=user_name())
        typer.echo(f"recorded: {', '.join(map(str, kept))}")


def ablate(
    bundle: BundleName,
    *,
    data: Annotated[
        Path,
        typer.Option(
            parser=images_folder,
            exists=True,
            file_okay=False,
            metavar="DIR",
            help="Labelled folder with masks: test/good, test/<defect>, ground_truth/.",
        ),
    ],
    train_data: Annotated[
        Path | None,
        typer.Option(
            parser=images_folder,
            exists=True,
            file_okay=False,
            metavar="DIR",
            help="What the bundle was trained on. Default: the labelled folder.",
        ),
    ] = None,
    plain: Annotated[bool, typer.Option("--plain/--no-plain", help="Also rows without ATP: trains a UNet.")] = True,
    without_atp: Annotated[
        str | None, typer.Option(metavar="BUNDLE", help="A bundle without ATP, in place of training one.")
    ] = None,
    unadapted: Annotated[
        bool,
        typer.Option("--unadapted", help="Features trained without reconstructions, for all rows."),
    ] = False,
    run: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Checkpoints of a training. Default: runs/PRODUCT-without-atp, -unadapted."),
    ] = None,
    fixed: Annotated[
        str,
        typer.Option(
            help="Fixed steps to compare with, such as 200,300. Default: 350, 550, 750 of 750, as shares of T."
        ),
    ] = "",
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=BUNDLE", help="Also a bundle of another training, in a row of this name; repeatable."
        ),
    ] = None,
    json_file: Annotated[Path, typer.Option("--json", dir_okay=False, help="Every figure with its interval.")] = Path(
        "ablation.json"
    ),
    store: StoreFolder = None,
) -> None:
    """Measure what the parts of the method (adaptive steps, fusion, ATP) gain on a product, with paired intervals.

    These are the paper's Tables 6 and 7.

    Example: glad ablate bracket --data my-product --no-plain
    """
    from model_store.bundle import open_bundle
    from training.data.dataset import test_images
    from training.progress import named_bars
    from training.studies.ablation import as_json, as_markdown, compare, fixed_steps, measure, variants
    from training.studies.retrained import train_plain, train_unadapted

    with explained(ValueError), named_bars() as show:
        opened = open_bundle(bundle_folder(bundle, store))
        bundle_without_atp = None if without_atp is None else open_bundle(bundle_folder(without_atp, store))
        settings = opened.manifest.settings
        images = test_images(data)
        tell_data_warnings(data)
        steps = numbers("--fixed", fixed, int) or fixed_steps(settings)
        if settings.trigger.delta == 0:
            raise ValueError("the bundle's δ is 0: it never adapts; give one with a δ above 0 to compare with none")
        others = [_named_bundle(given, store) for given in against or ()]
        variants(opened.path, settings, None, steps, others)  # what cannot be compared shows before the long part
        json_file.parent.mkdir(parents=True, exist_ok=True)
        baseline, weights = None, opened.path
        if unadapted:
            if bundle_without_atp is not None:
                raise ValueError("--unadapted and --without-atp exclude each other: two parts would differ")
            folder = run or Path("runs") / f"{opened.manifest.product}-unadapted"
            weights, delta = train_unadapted(opened, train_data or data, folder, progress=show)
            settings = settings.with_delta(delta)
        elif bundle_without_atp is not None:
            baseline = bundle_without_atp.path, bundle_without_atp.manifest.settings.trigger.delta
        elif plain:
            folder = run or Path("runs") / f"{opened.manifest.product}-without-atp"
            baseline = train_plain(opened, train_data or data, folder, progress=show)
        chosen = variants(weights, settings, baseline, steps, others)
        rows = compare(chosen, measure(chosen, images, progress=show), images)
        json_file.write_text(
            json.dumps({"command": command_line(), "bundle": opened.hash, **as_json(rows, images)}, indent=2) + "\n",
            encoding="utf-8",
        )
    typer.echo(as_markdown(rows))


def _named_bundle(given: str, store: Path | None) -> tuple[str, Path, MethodSettings]:
    from model_store.bundle import open_bundle

    name, found, folder = given.partition("=")
    if not found or not name or not folder:
        raise ValueError(f"--against {given}: give a name and a bundle's folder, such as no-atp=bundles/tile/no-atp")
    bundle = open_bundle(bundle_folder(folder, store))
    return name, bundle.path, bundle.manifest.settings


def reproduce(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="mvtec-ad, mpdd, visa or pcb-bank.")],
    *,
    data: Annotated[
        Path,
        typer.Option(
            parser=images_folder,
            exists=True,
            file_okay=False,
            metavar="DIR",
            help="The data set's folder, with a folder per class.",
        ),
    ],
    base: Annotated[str, typer.Option(help="Stable Diffusion 1.x: a folder in Hugging Face layout, or a hub id.")] = "",
    dino: Annotated[str, typer.Option(help="DINO's ViT: a folder in Hugging Face layout, or a hub id.")] = "",
    licence: Annotated[str, typer.Option(help="Under which licences the models stand; kept in the manifests.")] = "",
    recipe: Annotated[
        str,
        typer.Option(
            "--train",
            metavar="RECIPE",
            help="Train each class by this recipe, with ATP and without, and make the paper's Tables 6 and 7.",
        ),
    ] = "",
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="With --train: a value of the recipe; repeatable."),
    ] = None,
    unet: Annotated[str | None, typer.Option(help="Fine-tuned UNet; {class} stands for the class.")] = None,
    vae: Annotated[str | None, typer.Option(help="Fine-tuned autoencoder; {class} stands for the class.")] = None,
    features: Annotated[str | None, typer.Option(help="Fine-tuned DINO; {class} stands for the class.")] = None,
    multi: Annotated[bool, typer.Option("--multi", help="The settings of the one model for all classes.")] = False,
    classes: Annotated[str, typer.Option(help="Only these, such as carpet,grid. Default: all.")] = "",
    out: Annotated[
        Path | None,
        typer.Option(
            file_okay=False, help="Bundles, reports, and table.md or tables-6-7.md. Default: reproduced/DATASET."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Read all images, print which classes are done, what is left, about how long and how much disk that "
            "takes, and do nothing.",
        ),
    ] = False,
) -> None:
    """Reproduce the tables of a published data set, every class: from published weights, or by a training (--train).

    What is done in --out already, also by a call that was interrupted, is not done again.

    Example: glad reproduce mvtec-ad --data mvtec --base sd15 --dino dino-vitb8 --licence "CreativeML OpenRAIL-M"

    Of trainings: glad reproduce mvtec-ad --data mvtec --train mvtec-ad --classes carpet,grid
    """
    if recipe:
        published = {"base": base, "dino": dino, "unet": unet, "vae": vae, "features": features, "multi": multi}
        if unneeded := [name for name, given in {**published, "licence": licence}.items() if given]:
            raise typer.BadParameter(
                f"--{unneeded[0]} is for published weights; with --train the recipe says what it trains: --set "
                "base=FOLDER, for example"
            )
        _reproduce_by_training(dataset, data, (recipe, *(changes or ())), classes=classes, out=out, dry_run=dry_run)
        return
    if lacking := [name for name, given in (("base", base), ("dino", dino), ("licence", licence)) if not given]:
        raise typer.BadParameter(f"give --{lacking[0]}, or --train RECIPE to train the models instead")
    from training.progress import named_bars
    from training.studies.reproduce import PublishedWeights, plan
    from training.studies.reproduce import reproduce as run
    from training.studies.reproduction_outlook import published_outlook

    if changes:
        raise typer.BadParameter("--set changes a recipe: give --train RECIPE too")
    with explained(ValueError):
        weights = PublishedWeights(base, dino, licence, unet=unet, vae=vae, features=features)
        chosen = tuple(name for name in classes.split(",") if name)
        plans = plan(dataset, data, weights, chosen, multi=multi)
        folder = out or Path("reproduced") / (f"{dataset}-multi" if multi else dataset)
        if dry_run:
            with named_bars() as show:
                outlook = published_outlook(plans, weights, folder, progress=show)
            _tell_outlook(outlook)
        with resumable(), named_bars() as show:
            table = run(plans, weights, folder, command=command_line(), progress=show, say=typer.echo)
    typer.echo(table.as_markdown())
    typer.echo(f"the table: {folder / 'table.md'}; each class: {folder}/CLASS.html")


def _reproduce_by_training(
    dataset: str, data: Path, recipe: tuple[str, ...], *, classes: str, out: Path | None, dry_run: bool
) -> None:
    """Make the paper's Tables 6 and 7 of trainings by a recipe, given as its name and its changes."""
    from training.progress import named_bars
    from training.studies.protocol import TABLES, plan_trainings, run_protocol
    from training.studies.reproduction_outlook import protocol_outlook

    name, *changes = recipe
    with explained(ValueError):
        plan = plan_trainings(dataset, data, name, changes, tuple(name for name in classes.split(",") if name))
        folder = out or Path("reproduced") / f"{dataset}-{Path(name).stem}"
        if dry_run:
            with named_bars() as show:
                outlook = protocol_outlook(plan, folder, progress=show)
            _tell_outlook(outlook)
        with resumable(), named_bars() as show:
            result = run_protocol(plan, folder, command=command_line(), progress=show, say=typer.echo)
    typer.echo(result.as_markdown())
    typer.echo(f"the tables: {folder / TABLES}.md and .json; each class, with intervals: {folder}/CLASS-{TABLES}.md")


def _tell_outlook(outlook: ReproductionOutlook) -> NoReturn:
    """Print what a reproduction is going to do, and end the command: with 1 if it would fail."""
    typer.echo(outlook.as_text())
    raise typer.Exit(1 if outlook.problems else 0)
