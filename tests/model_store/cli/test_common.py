"""What the commands share."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from model_store.cli.common import command_line, new_bundle_folder


def test_a_command_line_can_be_written_down_whatever_its_paths_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "argv", ["glad", "evaluate", "b", "--data", os.fsdecode(b"h\xe4lfte 1"), "--json", "é.json"]
    )
    assert command_line() == r"glad evaluate b --data 'h\xe4lfte 1' --json 'é.json'"


@pytest.mark.parametrize(
    ("product", "version", "option"), [("My Product", "1", "--product"), ("my-product", "1/2", "--version")]
)
def test_a_name_that_is_not_allowed_is_told_with_its_option(
    tmp_path: Path, product: str, version: str, option: str
) -> None:
    with pytest.raises(ValueError, match=f"^{option}: name '.*' is not allowed: use 1-64 of a-z"):
        new_bundle_folder(tmp_path, product, version)


def test_a_place_where_no_bundle_can_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "bundles").touch()
    with pytest.raises(NotADirectoryError):
        new_bundle_folder(tmp_path / "bundles", "toy", "1")
    assert new_bundle_folder(tmp_path / "others", "toy", "1") == tmp_path / "others" / "toy" / "1"
    assert not (tmp_path / "others").exists()
