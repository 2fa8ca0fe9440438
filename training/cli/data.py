"""`glad data`: images and masks from annotation tools into a data folder. Loads no model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_store.cli.common import explained

if TYPE_CHECKING:
    from training.data.annotations.marks import Annotations

app = typer.Typer(
    name="data",
    help="Bring labelled images from annotation tools into the folders that training and evaluation read.\n\n"
    "Example: glad data import label-studio export.json --images photos --out my-product",
    no_args_is_help=True,
    add_completion=False,
)
importing = typer.Typer(
    help="Import images that were labelled in Label Studio, or in another tool that writes COCO.\n\n"
    "Example: glad data import coco instances.json --images photos --out my-product",
    no_args_is_help=True,
    add_completion=False,
)
app.add_typer(importing, name="import")

ImageFolder = Annotated[
    Path,
    typer.Option(
        "--images",
        metavar="DIR",
        exists=True,
        file_okay=False,
        help="The folder with the images, also in subfolders.",
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        file_okay=False, help="The data folder: gets test/DEFECT and ground_truth/DEFECT; may have images already."
    ),
]
Boxes = Annotated[
    str,
    typer.Option(
        help="Of defects marked by a box alone: `label`, the images are defective, without masks; `fill`, the whole "
        "box counts as defect."
    ),
]


@importing.command("coco")
def import_coco(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", exists=True, dir_okay=False, help="A COCO file with images, annotations, categories."
        ),
    ],
    *,
    images: ImageFolder,
    out: Out,
    boxes: Boxes = "label",
) -> None:
    """Import a COCO file: images without annotations are good, the others defects with a mask.

    Example: glad data import coco instances.json --images photos --out my-product
    """
    from training.data.annotations.coco_files import read_coco

    _import(lambda: read_coco(file), images, out, boxes)


@importing.command("label-studio")
def import_label_studio(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="EXPORT", exists=True, dir_okay=False, help="An export of Label Studio in the format JSON."
        ),
    ],
    *,
    images: ImageFolder,
    out: Out,
    boxes: Boxes = "label",
) -> None:
    """Import an export of Label Studio: tasks submitted without a region are good, the others defects with a mask.

    Example: glad data import label-studio export.json --images photos --out my-product
    """
    from training.data.annotations.label_studio_files import read_label_studio

    _import(lambda: read_label_studio(file), images, out, boxes)


def _import(read: Callable[[], Annotations], images: Path, out: Path, boxes: str) -> None:
    from training.data.annotations.import_truth import GOOD, BoxUse, check_has_images, import_truth

    with explained(ValueError):
        if boxes not in set(BoxUse):
            raise ValueError(f"--boxes is {boxes!r}: give {' or '.join(BoxUse)}")
        check_has_images(images)  # before the file is read: its problems would hide a wrong folder
        done = import_truth(read(), images, out, BoxUse(boxes))
    for note in done.notes:
        typer.secho(f"note: {note}", fg=typer.colors.YELLOW, err=True)
    for kind, count in sorted(done.images.items()):
        typer.echo(f"{count:>6}  {out / 'test' / kind}")
    typer.echo(f"{done.masks:>6}  masks in {out / 'ground_truth'}")
    if not (out / "test" / GOOD).is_dir():
        typer.echo(f"next: put good images that nothing is trained on into {out / 'test' / GOOD}, then `glad evaluate`")
    else:
        typer.echo(f"next: glad evaluate BUNDLE --data {out}")
