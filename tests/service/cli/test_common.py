"""What the commands of the service share: a wrong setting is one sentence that names where it was set."""

from __future__ import annotations

import pytest
import typer

from service.cli.common import load_settings


def test_a_wrong_option_is_named_with_the_variable_that_it_stands_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        load_settings(port=-1, host=None)
    assert capsys.readouterr().err.startswith("glad: GLAD_PORT (--port) is -1: input should be greater than")


def test_a_wrong_variable_is_named_without_an_option_that_may_not_exist(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLAD_MAX_BACKLOG", "none")
    with pytest.raises(typer.Exit):
        load_settings()
    assert capsys.readouterr().err.startswith("glad: GLAD_MAX_BACKLOG is 'none': input should be a valid integer")


def test_an_option_that_was_not_given_leaves_the_variable_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLAD_PORT", "8100")
    assert load_settings(port=None).port == 8100
    assert load_settings(port=8200).port == 8200
