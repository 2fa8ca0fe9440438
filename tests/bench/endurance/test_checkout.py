"""A version is what git keeps of it: as a folder, or with a reason why not."""

from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from bench.endurance import checkout as checkouts
from bench.endurance.checkout import check_out, name_of


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with two commits; the first is tagged v1."""
    checkout = tmp_path / "checkout"

    def git(*words: str) -> None:
        who = ("-c", "user.name=test", "-c", "user.email=test@example.org")
        subprocess.run(["git", *who, *words], cwd=checkout, check=True, capture_output=True)

    checkout.mkdir()
    git("init")
    for number in (1, 2):
        (checkout / "file.txt").write_text(str(number))
        (checkout / "pyproject.toml").write_text(
            f'[project]\nname = "a-b"\nversion = "{number}"\n'
            f'[project.entry-points."a.commands"]\nrun = "m{number}:run"\n'
        )
        git("add", ".")
        git("commit", "--message", f"number {number}")
        git("tag", f"v{number}")
    monkeypatch.setattr(checkouts, "CHECKOUT", checkout)
    return checkout


@pytest.mark.usefixtures("history")
def test_an_older_version_is_given_as_a_folder_beside_the_one_in_use(tmp_path: Path) -> None:
    older = check_out("v1", tmp_path / "older")
    assert (older / "file.txt").read_text() == "1"
    (distribution,) = metadata.distributions(path=[str(older)])
    assert (distribution.name, distribution.version) == ("a-b", "1")
    assert [(one.group, one.name, one.value) for one in distribution.entry_points] == [("a.commands", "run", "m1:run")]


def test_a_version_is_named_by_its_commit(history: Path) -> None:
    told = subprocess.run(["git", "rev-parse", "v1"], cwd=history, capture_output=True, text=True, check=True).stdout
    assert told.startswith(name_of("v1"))


@pytest.mark.parametrize("reference", ["v9", "--output=/tmp/x", ""])
@pytest.mark.usefixtures("history")
def test_what_the_history_does_not_have_is_told(reference: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="`git log` lists commits"):
        check_out(reference, tmp_path / "older")
    assert not (tmp_path / "older").exists()


def test_a_folder_that_is_no_checkout_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkouts, "CHECKOUT", tmp_path)
    with pytest.raises(RuntimeError, match="not a git repository"):
        name_of("HEAD")
