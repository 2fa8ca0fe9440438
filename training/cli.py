"""`glad sample`, `glad train`, `glad evaluate`: the offline commands. Each imports what it needs when it is called."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from training.recipe import Recipe


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
    json_file: Annotated[Path, typer.Option("--json", help="Figures and every image's row.")] = Path("evaluation.json"),
) -> None:
    """Measure a bundle on labelled images: AUROC, PRO and false rejects with intervals, by defect and severity."""
    from training.evaluate import as_markdown, evaluate, write_evaluation
    from training.progress import progress_bar

    with _explained():
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.touch()  # a place that cannot be written shows before the long part, not after it
    with _explained(), progress_bar() as bar:
        task = bar.add_task("inspecting", total=None, note="")
        outcome = evaluate(
            bundle,
            data,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            command=_command(),
        )
    write_evaluation(outcome, json_file)
    typer.echo(as_markdown(outcome.figures))
    typer.echo(json.dumps(outcome.figures["verdicts"]))
    typer.echo(f"all figures: {json_file}")


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
