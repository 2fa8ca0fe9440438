"""Every command of `glad`: its place in the help, its help and example, and how it refuses what it cannot use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import torch

from glad.__main__ import GROUPS, OTHERS, grouped, usage
from tests.support.commands import EXAMPLE, Command, Parameter, call, entry_points, every_command
from training.cli.data import images_folder

COMMANDS = tuple(every_command())
BUNDLE = "BUNDLE"
NO_SUCH = "no-such-thing"
ANY_KIND = {
    "glad bench startup --against",
    *(f"glad bundle import {option}" for option in ("--unet", "--vae", "--features")),
    *(f"glad finetune {option}" for option in ("--unet", "--vae")),
}
"""Options that may name a file or a folder: an interpreter; a checkpoint, which can lie in a folder."""

pytestmark = pytest.mark.timeout(600)  # the first command of a kind imports torch, slow where the machine is shared


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder without anything; the store has the bundles that come with the package."""
    for name in [name for name in os.environ if name.startswith("GLAD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GLAD_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "1000")  # sentences on one line
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    yield tmp_path
    structlog.reset_defaults()
    torch.set_num_threads(threads)


def by_name(command: Command) -> str:
    return " ".join(command.words)


def made_paths(command: Command) -> None:
    """Makes the files and folders that an example names and the command wants to exist."""
    for parameter in command.parameters:
        if not parameter.info.exists:
            continue
        folder, value = not parameter.info.file_okay, value_in_example(command, parameter)
        if value is not None and folder:
            Path(value).mkdir(parents=True)
        elif value is not None:
            Path(value).write_text("")


def value_in_example(command: Command, parameter: Parameter) -> str | None:
    words = command.example
    if not parameter.flags:
        return words[[one for one in command.parameters if not one.flags].index(parameter)]
    return next((words[words.index(flag) + 1] for flag in parameter.flags if flag in words), None)


def test_every_command_stands_under_one_heading_of_the_help() -> None:
    listed = [name for names in GROUPS.values() for name in names]
    assert len(listed) == len(set(listed))
    assert OTHERS not in grouped(entry_points())
    headings = [line for line in usage(entry_points()).splitlines() if line.endswith(":") and line[0] != " "]
    assert headings == [f"{heading}:" for heading in GROUPS]


def test_a_command_of_another_distribution_stands_at_the_end() -> None:
    assert list(grouped(["weld", "serve", "inspect"])) == ["Inspect", "Serve", OTHERS]


@pytest.mark.parametrize("command", COMMANDS, ids=by_name)
def test_a_commands_help_begins_with_what_it_is_for_and_has_one_example(command: Command) -> None:
    purpose = command.help.partition("\n\n")[0]
    assert purpose[0].isupper()
    assert purpose[-1] in ".?"
    assert not purpose.startswith(("Usage", "Example"))
    assert len(EXAMPLE.findall(command.help)) == 1


@pytest.mark.parametrize("command", COMMANDS, ids=by_name)
def test_a_commands_example_is_understood_by_its_parser(command: Command) -> None:
    made_paths(command)
    context = command.click.make_context(command.name, command.example)
    assert context.params is not None


def paths(command: Command) -> Iterator[Parameter]:
    return (one for one in command.parameters if "Path" in one.annotation and one.info.parser in {None, images_folder})


def bundles(command: Command) -> Iterator[Parameter]:
    return (one for one in command.parameters if one.info.metavar == BUNDLE)


def spelled(command: Command, parameter: Parameter) -> str:
    return f"{command.name} {parameter.flags[0] if parameter.flags else parameter.name}"


PATHS = [(command, one) for command in COMMANDS for one in paths(command)]
BUNDLES = [(command, one) for command in COMMANDS for one in bundles(command)]
PATH_NAMES = [spelled(*one) for one in PATHS]
BUNDLE_NAMES = [spelled(*one) for one in BUNDLES]


@pytest.mark.parametrize(("command", "parameter"), PATHS, ids=PATH_NAMES)
def test_a_path_of_the_wrong_kind_is_refused_as_a_call_that_is_not_understood(
    command: Command, parameter: Parameter, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    info, name = parameter.info, spelled(command, parameter)
    assert name in ANY_KIND or not (info.file_okay and info.dir_okay), f"{name}: say file_okay=False or dir_okay=False"
    made_paths(command)
    (place / "a-file.txt").write_text("text")
    (place / "a-folder").mkdir()
    wrong = [
        *(["a-file.txt"] if not info.file_okay else []),
        *(["a-folder"] if not info.dir_okay else []),
        *([NO_SUCH] if info.exists else []),
    ]
    for value in wrong:
        status, printed = call(command.words, command.example_with(parameter, value), capsys)
        assert status == 2, printed
        assert value in printed
        assert "Traceback" not in printed


@pytest.mark.parametrize(("command", "parameter"), BUNDLES, ids=BUNDLE_NAMES)
def test_what_is_no_bundle_is_refused_with_what_the_store_has(
    command: Command, parameter: Parameter, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_paths(command)
    (place / "a-file.txt").write_text("text")
    (place / "a-folder").mkdir()
    for value, why in (
        ("brackt", "Did you mean bracket?"),
        ("a-file.txt", "it is a file"),
        ("a-folder", "the folder has no manifest.json"),
        ("gone/bracket/7", "there is no such folder"),
        ("bracket/99", "product 'bracket' has no version '99': use one of 7"),
    ):
        status, printed = call(command.words, command.example_with(parameter, value), capsys)
        assert status in (1, 2), printed
        assert why in printed
        assert "bracket (7)" in printed or "use one of 7" in printed
        assert "Traceback" not in printed


@pytest.mark.parametrize("command", [one for one in COMMANDS if not one.is_group], ids=by_name)
def test_an_unknown_option_is_a_call_that_is_not_understood(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    made_paths(command)
    status, printed = call(command.words, [*command.example, "--no-such-option"], capsys)
    assert status == 2
    assert "--no-such-option" in printed
    assert "Traceback" not in printed


WITH_DATA = [
    (command, one)
    for command, one in PATHS
    if one.info.exists and not one.info.file_okay and value_in_example(command, one) is not None
]


@pytest.mark.parametrize(("command", "parameter"), WITH_DATA, ids=[spelled(*one) for one in WITH_DATA])
def test_an_empty_folder_is_refused_with_a_sentence(
    command: Command, parameter: Parameter, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_paths(command)
    (place / "empty").mkdir()
    status, printed = call(command.words, command.example_with(parameter, "empty"), capsys)
    assert status == 1, printed
    assert "empty" in printed or "is not installed" in printed
    assert "Traceback" not in printed
    assert len([line for line in printed.splitlines() if line.strip()]) <= 3, printed
