"""What the commands share."""

from __future__ import annotations

import os
import sys

import pytest

from model_store.cli.common import command_line


def test_a_command_line_can_be_written_down_whatever_its_paths_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "argv", ["glad", "evaluate", "b", "--data", os.fsdecode(b"h\xe4lfte 1"), "--json", "é.json"]
    )
    assert command_line() == r"glad evaluate b --data 'h\xe4lfte 1' --json 'é.json'"
