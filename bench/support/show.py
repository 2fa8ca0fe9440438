"""How `glad bench` tells its figures: a bar while it runs, a table, and JSON with the machine and the date."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from model_store.cli.common import command_line

JsonFile = Annotated[Path | None, typer.Option("--json", help="Where the figures go as JSON, such as bench/results/.")]


@contextmanager
def shown(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar of this name: call it with how much is done, and how much there is."""
    from training.progress import progress_bar

    with progress_bar() as bar:
        task = bar.add_task(what, total=None, note="")
        yield lambda done, total: bar.update(task, completed=done, total=total)


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Prints a Markdown table."""
    from training.evaluation.tables import Table

    typer.echo(Table(header, tuple(rows)).as_markdown())


def write(path: Path | None, figures: Any) -> None:
    """Keeps the figures, with the command, the machine and the time; nothing where no file was asked for."""
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
