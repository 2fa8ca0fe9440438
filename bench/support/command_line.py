"""Parts that the commands share: options, images, a progress bar, tables, and JSON with the machine and the date."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from model_store.cli.common import command_line
from model_store.engines.engine_spec import EngineSpec

JsonFile = Annotated[
    Path | None, typer.Option("--json", dir_okay=False, help="Where the figures go as JSON, such as bench/results/.")
]


@contextmanager
def progress_shown(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar of this name; yield a call that takes how much is done, and how much there is."""
    from training.progress import progress_bar

    with progress_bar() as bar:
        task = bar.add_task(what, total=None, note="")
        yield lambda done, total: bar.update(task, completed=done, total=total)


def print_table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Print a Markdown table."""
    from training.evaluation.tables import Table

    typer.echo(Table(header, tuple(rows)).as_markdown())


def write_figures(path: Path | None, figures: Any) -> None:
    """Write the figures as JSON, with the command, the machine and the time; do nothing if `path` is None."""
    if path is None:
        return
    content = {
        "command": command_line(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        "figures": figures,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    typer.echo(f"all figures: {path}")


Name = TypeVar("Name", bound=str)


def engine_names(given: str) -> tuple[str, ...]:
    """Return the engines of a list such as `torch,onnx`, each as GLAD_ENGINE has it.

    An exception belongs to the engine before it: `torch,onnx,torch,unet=onnx` is torch, onnx, and torch but for the
    UNet.

    Raises:
        ValueError: if GLAD_ENGINE would not take an engine, or one stands there twice.
    """
    names: list[str] = []
    for part in (word.strip() for word in given.split(",")):
        if "=" in part and names:
            names[-1] += f",{part}"
        else:
            names.append(part)
    for name in names:
        EngineSpec.parse(name)
    if len(set(names)) < len(names):
        raise ValueError(f"--engines is {given!r}: name each engine once")
    return tuple(names)


def choose_some(option: str, given: str, names: tuple[Name, ...]) -> tuple[Name, ...]:
    """Return the names in a list such as `float32,float16`, each once.

    Raises:
        ValueError: if one is not among `names`.
    """
    return tuple(choose_one(option, part, names) for part in dict.fromkeys(given.split(",")))


def choose_one(option: str, given: str, names: tuple[Name, ...]) -> Name:
    """Return the name that was given.

    Raises:
        ValueError: if it is not among `names`.
    """
    for name in names:
        if name == given.strip():
            return name
    raise ValueError(f"{option} is {given!r}: choose of {', '.join(names)}")


def some_images(folder: Path, count: int) -> tuple[Path, ...]:
    """Return at most `count` images, evenly spread over all that the folder has, in their order.

    Args:
        folder: labelled images (those of test/), or any folder of images, with its subfolders.

    Raises:
        DataError, ValueError: if there are no images.
    """
    return spread_evenly(_all_images(folder), count)


def _all_images(folder: Path) -> Sequence[Path]:
    from glad_client.camera.line_camera import find_images
    from training.data.dataset import test_images

    labelled = (folder / "test").is_dir() or (folder / "Data" / "Images").is_dir()
    return [image.path for image in test_images(folder)] if labelled else find_images(folder)


def spread_evenly(files: Sequence[Path], count: int) -> tuple[Path, ...]:
    """Return `count` of the files, evenly spread; all of them if they are no more.

    Raises:
        ValueError: if `count` is below 1.
    """
    if count < 1:
        raise ValueError(f"count is {count}; at least one image is needed")
    import numpy as np

    places = np.linspace(0, len(files) - 1, min(count, len(files))).round().astype(int)
    return tuple(files[place] for place in places)
