"""The reference of the commands, from the options that each of them parses; and tables as Markdown writes them."""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from typer.main import get_command

from glad.__main__ import GROUP, as_app


def written_by(title: str) -> str:
    """Return the head of a page that nobody edits."""
    return f"<!-- Written by `make reference` from the code: change it there. -->\n# {title}\n"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; texts must have passed `cell`."""
    head, *body = (f"| {' | '.join(line)} |\n" for line in (columns, *rows))
    return head + "|---" * len(columns) + "|\n" + "".join(body)


def cell(text: str) -> str:
    """Return a text as a table's cell shows it."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def commands_page(project: Path) -> str:
    """Return the page of all commands.

    Args:
        project: the pyproject.toml that names them; an installation may be older.
    """
    points = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["entry-points"][GROUP]
    parts = [part for name in sorted(points) for part in _parts(_command(points[name]), f"glad {name}", depth=2)]
    return written_by("Commands") + _HEAD + "\n".join(parts)


_HEAD = """
`glad --help` lists the commands, `glad COMMAND --help` says of each what this page says. Options have two dashes; the
value in square brackets behind an option is its default. Where a setting is named, it counts if the option is not
given.

"""


def _command(entry_point: str) -> Any:
    module, _, attribute = entry_point.partition(":")
    return get_command(as_app(getattr(import_module(module), attribute)))


def _parts(command: Any, name: str, depth: int) -> Iterator[str]:
    """Yield the text of a command, and of those below it."""
    context = command.context_class(command, info_name=name)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    text = _escaped(inspect.cleandoc(command.help or "").partition("\f")[0])
    records = (parameter.get_help_record(context) for parameter in command.params)
    rows = [_row(record) for record in records if record is not None]
    lines = [f"{'#' * depth} {name}\n", f"{text}\n", f"```\n{usage}\n```\n"]
    if rows:
        lines.append(table(("argument or option", "what it is"), rows))
    yield "\n".join(lines)
    for below, one in sorted(getattr(command, "commands", {}).items()):
        if not one.hidden:
            yield from _parts(one, f"{name} {below}", depth + 1)


def _row(record: tuple[str, str]) -> tuple[str, str]:
    names, text = record
    return f"`{names.replace('|', '/')}`", cell(text.replace(str(Path.home()), "~"))


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;")
