"""All commands of `glad`, as typer sees them, and how a test calls one."""

from __future__ import annotations

import inspect
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, get_origin, get_type_hints

import pytest
from typer.main import get_command
from typer.models import ArgumentInfo, OptionInfo

from glad.__main__ import GROUP, as_app, run

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = re.compile(r"^Example: (glad .+)$", re.MULTILINE)


@dataclass(frozen=True)
class Parameter:
    """An argument or option of a command."""

    name: str
    info: ArgumentInfo | OptionInfo
    annotation: str
    flags: tuple[str, ...]
    """As they are typed, such as `--json`; empty for an argument."""


@dataclass(frozen=True)
class Command:
    """A command or a group of commands: its words after `glad`, its help, and its parameters."""

    words: tuple[str, ...]
    help: str
    click: Any
    parameters: tuple[Parameter, ...]

    @property
    def name(self) -> str:
        return " ".join(("glad", *self.words))

    @property
    def is_group(self) -> bool:
        return hasattr(self.click, "commands")

    @property
    def example(self) -> list[str]:
        """The words of its example, after the command's own."""
        (line,) = EXAMPLE.findall(self.help)
        words = shlex.split(line)
        assert tuple(words[1 : 1 + len(self.words)]) == self.words, f"{self.name} has another command's example: {line}"
        return words[1 + len(self.words) :]

    def example_with(self, parameter: Parameter, value: object) -> list[str]:
        """The words of its example, in which a parameter has another value. Arguments stand before the options."""
        words = self.example
        if not parameter.flags:
            place = [one for one in self.parameters if not one.flags].index(parameter)
            return [*words[:place], str(value), *words[place + 1 :]]
        for flag in parameter.flags:
            while flag in words:
                at = words.index(flag)
                del words[at : at + 2]
        return [*words, parameter.flags[0], str(value)]


def entry_points() -> dict[str, metadata.EntryPoint]:
    """The commands that the project names; what is installed may be older."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {name: metadata.EntryPoint(name, value, GROUP) for name, value in project["entry-points"][GROUP].items()}


def every_command() -> Iterator[Command]:
    """Every command of the project, with the commands below it."""
    for name, point in sorted(entry_points().items()):
        yield from _with_those_below((name,), get_command(as_app(point.load())))


def _with_those_below(words: tuple[str, ...], click: Any) -> Iterator[Command]:
    yield Command(words, inspect.cleandoc(click.help or ""), click, tuple(_parameters(click)))
    for name, one in getattr(click, "commands", {}).items():
        yield from _with_those_below((*words, name), one)


def _parameters(click: Any) -> Iterator[Parameter]:
    if click.callback is None:
        return
    function = inspect.unwrap(click.callback)
    hints = get_type_hints(function, include_extras=True)
    flags = {one.name: tuple(one.opts) if one.opts[0].startswith("-") else () for one in click.params}
    for name, hint in hints.items():
        if get_origin(hint) is Annotated:
            yield Parameter(name, hint.__metadata__[0], str(hint.__origin__), flags[name])


def call(words: tuple[str, ...], arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Runs `glad WORDS ARGUMENTS` in this process; returns its exit status, and all that it printed."""
    try:
        status: object = run(entry_points()[words[0]], [*words[1:], *arguments])
    except SystemExit as end:
        status = end.code
    printed = capsys.readouterr()
    return (status if isinstance(status, int) else 1 if status else 0), printed.out + printed.err
