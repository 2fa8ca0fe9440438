"""The contract's words stand in the client, the method's in the method: neither imports the other, and they agree."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

import glad_client
from glad.quality_gate import limits
from glad_client import answers, evaluations, fields, results
from model_store import evaluations as stored
from model_store import manifest, product_state


@pytest.mark.parametrize(
    ("contract", "method"), [(results.Verdict, manifest.Verdict), (results.QualityCheck, limits.QualityCheck)]
)
def test_the_contract_has_the_words_of_the_method(contract: type[StrEnum], method: type[StrEnum]) -> None:
    assert {one.name: one.value for one in contract} == {one.name: one.value for one in method}


def test_the_contract_has_the_limits_names_and_choices_of_the_store() -> None:
    limits_in_store = manifest.VerdictThresholds.model_json_schema()["properties"]
    assert results.Thresholds.model_json_schema()["properties"] == limits_in_store
    assert answers.PicturesWhen == product_state.PicturesWhen
    assert TypeAdapter(fields.Sha256).json_schema() == TypeAdapter(manifest.Sha256).json_schema()


@pytest.mark.parametrize("name", ["bracket", "kx-42.b_1", "0", "a" * 64, "a" * 65, "", "A", "-a", "a..b", "a/b", "a\n"])
def test_a_name_is_allowed_where_the_store_allows_it(name: str) -> None:
    assert is_valid(fields.Name, name) is is_valid(manifest.Name, name)


def is_valid(kind: Any, value: str) -> bool:
    """Whether a value is of this type."""
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True


def test_every_public_name_is_there_and_an_unknown_one_names_them() -> None:
    assert all(getattr(glad_client, name).__name__ == name for name in glad_client.__all__)
    with pytest.raises(AttributeError, match=r"it has ApiError, AsyncClient, .*Client"):
        _ = glad_client.Klient


def test_the_contract_has_the_figures_of_the_store() -> None:
    assert list(evaluations.EvaluationFigures.model_fields) == list(stored.QualityFigures.model_fields)
    assert set(stored.EvaluatedData.model_fields) == set(evaluations.EvaluationData.model_fields)
    assert set(stored.Measurement.model_fields) == set(evaluations.EvaluationOrigin.model_fields)
    assert set(stored.RecordedEvaluation.model_fields) - {"removed"} | {"id"} == set(
        evaluations.EvaluationView.model_fields
    )
