"""`glad bench products`: many products that share a backbone in one worker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench import cli
from bench.speed.products import ProductsFigures, own_share


def figures(products: int, memory_mib: float) -> ProductsFigures:
    return ProductsFigures(products, memory_mib, None, 1.0, 1.0, products, 1.0, 1.0)


def test_memory_beyond_each_products_own_weights_is_a_share_of_the_smallest_count() -> None:
    """Eight further products of 20 MiB are 160; 200 more than two take: 40 of 400 are beyond."""
    assert own_share([figures(2, 400.0), figures(10, 600.0)], 20.0) == pytest.approx(0.1)


def test_products_take_turns_without_loading_again(tmp_path: Path, exported_features: Path, parts: Path) -> None:
    told = tmp_path / "products.json"
    words = ["products", exported_features, "--data", parts, "--counts", "3,1", "--images", 2, "--device", "cpu"]
    done = CliRunner().invoke(cli.app, [str(word) for word in (*words, "--json", told)])
    assert done.exit_code == 0, done.output
    found = json.loads(told.read_text())["figures"]
    assert [(one["products"], one["loads"]) for one in found["products"]] == [(1, 1), (3, 3)]
    assert all(one["turns_ms"] > 0 and one["memory_mib"] > 0 for one in found["products"])
    assert found["own_weights_mib"] > 0
