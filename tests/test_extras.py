"""In the environment of each extra, every command that `glad --help` lists works, or names what installs the rest."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from tests.support.environments import Environment, build_wheel, make_environment
from tests.support.redis_server import RedisServer
from tests.support.tried_commands import (
    SERVERS,
    Call,
    CommandInputs,
    Outcome,
    every_call,
    listed_commands,
    make_inputs,
    try_commands,
)

pytestmark = pytest.mark.timeout(1800)  # sixty commands, with trainings and services among them

EXTRAS: tuple[str, ...] = ("", "cpu", "train")
EVERY = "GLAD_TEST_EVERY_EXTRA" in os.environ
if EVERY:
    EXTRAS += ("embedded", "formats", "openvino", "otel", "s3", "sample", "signing", "worker")
"""All but [gpu] and [peers], which this machine does not have, and [dev]. An environment takes a minute and more."""
WHOLE = "cpu,train"
"""With it every command works, or names [signing]."""
USED_BY_OTHERS = {"calibrate"}
"""Commands whose bundle is what others work on."""
COMMANDS = tuple(call.command for call in every_call(CommandInputs(*[Path("nowhere")] * len(fields(CommandInputs)))))
STEPS = Path(__file__).resolve().parents[1] / "bench" / "results" / "2026-11-27-steps-bracket-cpu.json"


class Laboratory:
    """Makes the environment of an extra and tries all commands in it, once."""

    def __init__(self, folder: Path, wheel: Path, inputs: CommandInputs) -> None:
        self._folder, self._wheel, self._inputs = folder, wheel, inputs
        self._environments: dict[str, Environment] = {}
        self._outcomes: dict[str, dict[str, Outcome]] = {}
        self._tries = 0

    def environment(self, extras: str) -> Environment:
        """With these extras, separated by commas."""
        if extras not in self._environments:
            chosen = [extra for extra in extras.split(",") if extra]
            folder = self._folder / f"with-{extras}"
            self._environments[extras] = make_environment(folder, self._wheel, *chosen)
        return self._environments[extras]

    def outcomes(self, extras: str) -> dict[str, Outcome]:
        """Of every command by its name; with all of `WHOLE`, only those are tried that did not work with [train]."""
        if extras not in self._outcomes:
            known = {} if extras != WHOLE or EVERY else self.outcomes("train")
            worked = {name: outcome for name, outcome in known.items() if outcome.worked}
            again = [call for call in every_call(self._inputs) if call.command not in set(worked) - USED_BY_OTHERS]
            self._outcomes[extras] = worked | self._try(extras, again)
        return self._outcomes[extras]

    def outcomes_of(self, commands: Sequence[str], extras: str) -> dict[str, Outcome]:
        """Of these commands; no other is called where all have not been."""
        if extras in self._outcomes or extras == WHOLE:
            return self.outcomes(extras)
        return self._try(extras, [call for call in every_call(self._inputs) if call.command in commands])

    def _try(self, extras: str, calls: Sequence[Call]) -> dict[str, Outcome]:
        self._tries += 1
        work, data = self._folder / f"work-{self._tries}", self._folder / f"data-{self._tries}"
        work.mkdir()
        shutil.copytree(self._inputs.pixel, work / "SIGNED")
        server = RedisServer(data)
        server.start()
        try:
            settings = {"GLAD_DATA_DIR": str(data), "GLAD_DEVICE": "cpu"}
            found = try_commands(self.environment(extras), calls, work, settings)
        finally:
            server.kill()
        return {outcome.call.command: outcome for outcome in found}


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    """One for the module: what an extra's environment says is compared with another's."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("extras")
    (folder / "inputs").mkdir()
    yield Laboratory(folder, build_wheel(folder / "dist"), make_inputs(folder / "inputs", STEPS))
    torch.set_num_threads(threads)


def test_every_command_that_help_lists_is_tried(laboratory: Laboratory, tmp_path: Path) -> None:
    listed = set(listed_commands(laboratory.environment(WHOLE), tmp_path))
    assert listed - set(laboratory.outcomes(WHOLE)) - SERVERS == set()


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("extra", EXTRAS)
def test_every_command_works_or_names_what_installs_the_rest(laboratory: Laboratory, extra: str, command: str) -> None:
    outcome = laboratory.outcomes(extra)[command]
    assert outcome.worked or outcome.needs is not None, outcome.output[-2000:]


@pytest.mark.parametrize("extra", EXTRAS)
def test_all_that_the_extra_requires_is_installed_here(laboratory: Laboratory, extra: str) -> None:
    assert laboratory.environment(extra).missing == ()


@pytest.mark.parametrize("extra", EXTRAS)
def test_what_a_command_names_is_all_that_it_needs(laboratory: Laboratory, extra: str) -> None:
    """With what it names beside what is there, it works: the user is not sent for one extra after the other."""
    lacking: dict[str, list[str]] = {}
    for name, outcome in laboratory.outcomes(extra).items():
        if outcome.needs is not None and not outcome.worked:
            together = ",".join(sorted({*outcome.needs.split(","), extra} - {""}))
            lacking.setdefault(together, []).append(name)
    for together, commands in lacking.items():
        outcomes = laboratory.outcomes_of(commands, together)
        still = {name: outcomes[name].output[-2000:] for name in commands if not outcomes[name].worked}
        assert still == {}, f"with [{extra}] they name more, and with [{together}] they do not work"


def test_serving_without_a_worker_names_what_brings_one_before_anything_starts(
    laboratory: Laboratory, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    outcome = laboratory.environment("").glad("serve", "--port", "0", "--data-dir", data, cwd=tmp_path)
    assert outcome.returncode == 1
    assert outcome.stderr == (
        "glad serve: needs the [worker] extra (torch is not installed): pip install 'glad-inspect[worker]'\n"
    )
    assert not data.exists()


def test_a_worker_names_what_brings_one(laboratory: Laboratory, tmp_path: Path) -> None:
    outcome = laboratory.environment("").glad("worker", cwd=tmp_path, GLAD_REDIS_URL="redis://127.0.0.1:9/0")
    assert outcome.returncode == 1
    assert outcome.stderr == (
        "glad worker: needs the [worker] extra (torch is not installed): pip install 'glad-inspect[worker]'\n"
    )
