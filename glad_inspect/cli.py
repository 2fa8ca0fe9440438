"""`glad inspect`: verdicts and pictures of image files, without a server. Torch is imported when it is called."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from model_store.cli.common import (
    DEFAULT_DATA_FOLDER,
    BundleName,
    DataFolder,
    StoreFolder,
    chosen_store,
    explained,
    in_words,
    what_is_wrong,
)
from model_store.manifest import Verdict

if TYPE_CHECKING:
    from glad_inspect.annotations import CocoExport
    from glad_inspect.result import InspectionResult, Pixels

LARGEST_CELL_PX, OVERVIEW_CELL_PX = 2048, 256
"""Of one of the four pictures of an image."""
LONGEST_NAME_BYTES = 200
"""Of a picture's name: file systems take 255, and a number and an ending are added."""
CAPTION_BYTES = 80
"""Of a name in the overview, so that it ends before the next image's."""
STDOUT = Path("-")
MASKS = "ground_truth"
"""The folder of a data set that holds where its defects are, as images."""
Cell = TypeVar("Cell")


def inspect(
    bundle: BundleName,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...",
            help="Image files, folders of them (masks in ground_truth are left out), or patterns: 'in/*.png'.",
        ),
    ],
    *,
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder for one picture per image.")] = Path("inspected"),
    pictures: Annotated[bool, typer.Option("--pictures/--no-pictures", help="Draw a picture of each image.")] = True,
    overview: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Also all images in one PNG, two abreast.")
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json",
            dir_okay=False,
            allow_dash=True,
            help="Write the results as a JSON list; `-`: to the output, alone.",
        ),
    ] = None,
    coco: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False,
            help="Write boxes, masks and scores as a COCO file; needs the extra `formats`.",
        ),
    ] = None,
    label_studio: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Write tasks with predictions (masks, verdicts) for Label Studio."),
    ] = None,
    address_prefix: Annotated[
        str,
        typer.Option(
            help="What stands before each image's path for Label Studio, such as '/data/local-files/?d=photos/'."
        ),
    ] = "",
    store: StoreFolder = None,
    data_dir: DataFolder = DEFAULT_DATA_FOLDER,
) -> None:
    """Inspect image files without a server: verdicts and pictures; ends with 1 if any verdict or picture is missing.

    Example: glad inspect bracket photos/ --json results.json
    """
    from glad.image_codec import ImageError, downscale, to_png
    from glad_inspect.inspector import load_inspector
    from model_store.compatibility import ModelsDoNotFit
    from model_store.engines.engine_spec import offline_engine_spec
    from model_store.engines.loading import device_of_environment
    from model_store.errors import ModelLoadError

    exports = AnnotationExports(coco, label_studio, address_prefix)
    quiet = json_file == STDOUT
    with explained(ModelLoadError, ModelsDoNotFit, ValueError):
        files = list(_files(images))
        inspector = load_inspector(
            bundle,
            version=None,
            device=device_of_environment(),
            engine=offline_engine_spec(),
            store=chosen_store(store, data_dir),
        )
        if pictures:
            out.mkdir(parents=True, exist_ok=True)
    of = inspector.inspected_with
    typer.echo(
        f"{of.product} {of.version}: review from {of.thresholds.review:.4f}, fail from {of.thresholds.fail:.4f}; "
        f"engine {of.engine}",
        err=quiet,
    )
    results: list[dict[str, Any]] = []
    rows: list[list[Pixels]] = []
    captions: list[list[str]] = []
    for number, path in enumerate(files, start=1):
        try:
            result = inspector(path)
        except (ImageError, OSError, ValueError) as error:
            results.append({"file": _text(path), "error": _text(what_is_wrong(error))})
            typer.secho(f"{'error':<7} {_text(path)}: {results[-1]['error']}", fg=typer.colors.RED, err=True)
            continue
        results.append({"file": _text(path), **result.to_dict()})
        exports.add(path, result)
        if overview is not None and result.measured is not None:
            rows.append([downscale(picture, OVERVIEW_CELL_PX) for picture in _row(result)])
            named = f"{result.verdict}  {result.measured.score:.4f}  {_short(path.stem, CAPTION_BYTES)}"
            captions.append([named, *[""] * (len(rows[-1]) - 1)])
        drawn = pictures and result.measured is not None
        picture = out / f"{number:03d}_{_short(path.stem)}.png" if drawn else None
        _print_result(result, path, picture, err=quiet)
        try:  # after the verdict: a picture that cannot be written does not cost it
            if picture is not None:
                cell = min(LARGEST_CELL_PX, max(result.original.shape[:2]))
                picture.write_bytes(to_png(_sheet([_row(result)], cell)))
        except OSError as error:
            results[-1]["error"] = _text(f"inspected, but without its picture: {in_words(error)}")
            typer.secho(f"{'error':<7} {_text(path)}: {results[-1]['error']}", fg=typer.colors.RED, err=True)
    with explained():
        if overview is not None and rows:
            overview.write_bytes(to_png(_sheet(_abreast(rows), OVERVIEW_CELL_PX, _abreast(captions))))
        if json_file is not None:
            _write_json(json_file, results)
        exports.write()
    if any("error" in one for one in results):
        raise typer.Exit(1)


@dataclass
class AnnotationExports:
    """The files for annotation tools that were asked for."""

    coco_file: Path | None
    label_studio_file: Path | None
    address_prefix: str
    _coco: CocoExport | None = field(init=False, default=None)
    _tasks: list[dict[str, Any]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        if self.coco_file is not None:
            import pycocotools.mask  # noqa: F401 - a missing extra is told before anything is inspected

            from glad_inspect.annotations import CocoExport

            self._coco = CocoExport()

    def add(self, path: Path, result: InspectionResult) -> None:
        """Add an image to each file."""
        from glad_inspect.annotations import label_studio_task

        if self._coco is not None:
            self._coco.add(_text(path.as_posix()), result)
        if self.label_studio_file is not None:
            self._tasks.append(label_studio_task(self.address_prefix + _text(path.as_posix()), result))

    def write(self) -> None:
        """Write the files."""
        if self.coco_file is not None and self._coco is not None:
            _write_json(self.coco_file, self._coco.to_dict(), indent=None)
        if self.label_studio_file is not None:
            _write_json(self.label_studio_file, self._tasks, indent=None)


def _files(given: Sequence[str]) -> Iterator[Path]:
    """Yield the files that are named: themselves, those of folders but for masks, those that match patterns.

    Raises:
        ValueError: for a folder without images, or a pattern that nothing matches.
    """
    from glad.image_codec import SUFFIXES

    for name in given:
        path = Path(name)
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
            images = [file for file in found if MASKS not in file.relative_to(path).parts[:-1]]
            if not images:
                only = f" but masks in {MASKS}" if found else ""
                raise ValueError(f"{path} holds no images{only} ({', '.join(sorted(SUFFIXES))}): give another folder")
            if masks := len(found) - len(images):
                typer.echo(f"{_text(path)}: {masks} mask{'' if masks == 1 else 's'} in {MASKS} left out", err=True)
            yield from images
        elif not path.exists() and glob.has_magic(name):
            matching = sorted(Path(file) for file in glob.glob(name, recursive=True) if Path(file).is_file())
            if not matching:
                raise ValueError(f"nothing matches {name}: give files, folders, or another pattern")
            yield from matching
        else:
            yield path


def _text(value: object) -> str:
    r"""Return a text that can be printed, and that JSON can hold: what is not UTF-8 in a file's name becomes `\xe4`."""
    return os.fsencode(str(value)).decode(errors="backslashreplace")


def _short(stem: str, longest: int = LONGEST_NAME_BYTES) -> str:
    """Return a file's name, cut where a file system would not take it with a number before and an ending behind."""
    return stem.encode(errors="replace")[:longest].decode(errors="ignore")


def _row(result: InspectionResult) -> list[Pixels]:
    """Return input, reconstruction, heatmap and overlay."""
    import numpy as np

    drawn = (result.reconstruction, result.heatmap, result.overlay)
    return [result.original, *(np.asarray(picture) for picture in drawn if picture is not None)]


def _abreast(rows: Sequence[list[Cell]]) -> list[list[Cell]]:
    return [[*chain(*rows[start : start + 2])] for start in range(0, len(rows), 2)]


def _sheet(rows: Sequence[Sequence[Pixels]], cell: int, captions: Sequence[Sequence[str]] = ()) -> Pixels:
    from glad.images.rendering import contact_sheet
    from model_store.inspection import TITLES

    return contact_sheet(rows, cell=cell, titles=TITLES * (len(rows[0]) // len(TITLES)), captions=captions)


def _print_result(result: InspectionResult, path: Path, picture: Path | None, *, err: bool) -> None:
    colours = {Verdict.PASS: typer.colors.GREEN, Verdict.REVIEW: typer.colors.YELLOW, Verdict.FAIL: typer.colors.RED}
    typer.secho(f"{result.verdict:<7}", fg=colours[result.verdict], nl=False, err=err)
    if result.measured is None:
        reasons = "; ".join(one.detail for one in result.quality.reasons)
        typer.echo(f" not inspected: {reasons}  {_text(path)}", err=err)
        return
    drawn = "" if picture is None else f"  -> {_text(picture)}"
    typer.echo(f" score {result.measured.score:8.4f}  {_text(path)}{drawn}", err=err)


def _write_json(target: Path, results: Sequence[dict[str, Any]] | dict[str, Any], *, indent: int | None = 2) -> None:
    text = json.dumps(results, indent=indent, ensure_ascii=False)
    if target == STDOUT:
        typer.echo(text)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text + "\n", encoding="utf-8")
