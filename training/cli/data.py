"""`glad data`: images and masks from annotation tools into a data folder, and which images probably show one part."""

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
    help="Bring labelled images from annotation tools into the folders that training and evaluation read; propose "
    "which images show one part.\n\n"
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


def images_folder(given: str) -> Path:
    """Return the folder of an option such as `--data`: as it was given, or a local copy of what lies behind a URL.

    Raises:
        typer.BadParameter: if there is no such folder.
        typer.Exit: if nothing can be copied from the URL; the reason is printed.
    """
    if "://" in given:
        from training.data.remote_folder import local_copy

        with explained(ValueError):
            return local_copy(given)
    folder = Path(given)
    if not folder.exists():
        raise typer.BadParameter(f"Directory '{given}' does not exist.")
    if not folder.is_dir():
        raise typer.BadParameter(f"Directory '{given}' is a file.")
    return folder


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


@app.command("groups")
def groups(
    data: Annotated[
        Path,
        typer.Argument(metavar="DIR", exists=True, file_okay=False, help="Good images, arranged as for `glad train`."),
    ],
    *,
    out: Annotated[
        Path, typer.Option(dir_okay=False, help="The proposed groups file, a new one. It counts as DIR/groups.csv.")
    ] = Path("proposed-groups.csv"),
    picture: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Draws some of the groups, as PNG. Default: beside the file."),
    ] = None,
) -> None:
    """Propose which good images show one part, as a groups file and a picture to look at. Nothing reads it unseen.

    Example: glad data groups my-product --out proposed.csv
    """
    from training.data.dataset import find_groups_file
    from training.data.proposed_groups import groups_sheet, propose_groups, write_groups
    from training.progress import named_bars

    drawing = picture or out.with_suffix(".png")
    with explained(ValueError):
        if (file := find_groups_file(data)) is not None:
            raise ValueError(f"{data} has a groups file, {file}, and no proposal is better: move it away to get one")
        with named_bars() as show:
            found = propose_groups(data, progress=lambda done, total: show("images", done, total))
        count = len(found.images)
        if not found.groups:
            typer.echo(
                f"{count} images, and none has a sister: each seems to show a part of its own; nothing is written"
            )
            return
        for file in (out, drawing):
            file.parent.mkdir(parents=True, exist_ok=True)
        write_groups(found, data, out)
        groups_sheet(found, data).save(drawing, format="PNG")
    typer.echo(
        f"{found.grouped} of {count} images stand in {len(found.groups)} groups, each apart from all other images, as "
        f"photographs of one part do; {count - found.grouped} stand alone\n{out}  {drawing}"
    )
    if not found.suspicious:
        typer.echo("so few say little: they may be parts that look alike by chance")
    typer.echo(
        f"next: look at the picture, mend the file where it is wrong, and put it into {data} as groups.csv. If each "
        "image shows a part of its own, throw it away"
    )


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
