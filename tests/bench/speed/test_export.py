"""An export at full size, tried on tiny models: what is made, and what is compared with what."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench import cli
from bench.speed.commands import show_export
from bench.speed.export import ExportFigures, ExportPlan, measure_export
from bench.speed.fullsize import Modules
from glad.settings.method import MethodSettings
from tests.support.tiny_bundle import TINY_SETTINGS, tiny_condition, tiny_modules

pytestmark = pytest.mark.timeout(600)  # real processes or trainings: slow where other work shares the machine

PARTS = ("encoder", "unet", "decoder", "features")


@pytest.fixture(scope="module")
def figures() -> ExportFigures:
    autoencoder, unet, features = tiny_modules(told=True)
    settings = MethodSettings.model_validate({**TINY_SETTINGS, "resolution": 64})
    modules = Modules(autoencoder, unet, features, tiny_condition(1))
    plan = ExportPlan(("float32", "float16"), "bfloat16", batches=(1, 2), rounds=2, round_s=0)
    return measure_export(modules, settings, plan, say=lambda text: None)


def test_every_model_is_exported_in_every_precision(figures: ExportFigures) -> None:
    made = {(one.part, one.precision): one.megabytes for one in figures.files}
    assert set(made) == {(part, precision) for part in PARTS for precision in ("float32", "float16")}
    assert made["unet", "float16"] < made["unet", "float32"]
    # Four bytes a weight, and the graph.
    assert made["unet", "float32"] > 4e-6 * figures.parameters["unet"]
    assert figures.side == 64


def test_every_engine_makes_the_same_calls(figures: ExportFigures) -> None:
    engines = ("torch-bfloat16", "onnx-cpu-float32", "onnx-cpu-float16")
    assert tuple(one.name for one in figures.candidates) == engines
    assert {(row.component, row.batch) for row in figures.rows} == {(part, batch) for part in PARTS for batch in (1, 2)}
    assert all(tuple(row.rounds) == engines for row in figures.rows)
    assert all(len(rounds.seconds) == 2 for row in figures.rows for rounds in row.rounds.values())


def test_errors_are_from_torch_in_float32(figures: ExportFigures) -> None:
    errors = {row.component: row.errors for row in figures.rows if row.batch == 1}
    for found in errors.values():
        assert 0 < found["onnx-cpu-float32"] < 1e-4 < found["torch-bfloat16"] < 1
        assert found["onnx-cpu-float32"] < found["onnx-cpu-float16"] < found["torch-bfloat16"]
    assert all(row.errors == {} for row in figures.rows if row.batch == 2)


def test_the_tables_show_all_of_it(figures: ExportFigures, capsys: pytest.CaptureFixture[str]) -> None:
    show_export(figures)
    shown = capsys.readouterr().out
    row = next(row for row in figures.rows if (row.component, row.batch) == ("unet", 2))
    rate, ratio = row.images_per_s("onnx-cpu-float32"), row.ratio("onnx-cpu-float32")
    seconds = row.rounds["onnx-cpu-float32"].median
    assert rate == pytest.approx(2 / seconds)
    assert f"| unet, 2 at once | onnx-cpu-float32 | {seconds:.3g} | {rate:.3g} | {ratio:.2f} |" in shown
    assert "| decoder | float16 |" in shown


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--precision", "int8"], "--precision is 'int8': choose of float32, float16"),
        (["--torch-dtype", "float8"], "--torch-dtype is 'float8': choose of"),
        (["--batch", "one"], "--batch is 'one': give numbers"),
        (["--provider", "gpu"], "--provider is 'gpu': choose of cpu, cuda, tensorrt"),
        (["--device", "cuda:99"], "cannot be used"),
    ],
)
def test_what_cannot_be_measured_is_said_at_once(words: list[str], told: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(cli.app, ["export", *words])
    assert done.exit_code == 1
    assert told in done.output
