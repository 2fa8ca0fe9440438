"""Parts that the commands share: options, a progress bar, tables, and JSON with the machine and the date."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterable, Iterator
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
