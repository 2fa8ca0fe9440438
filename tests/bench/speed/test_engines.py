"""Engines are timed on the same calls, in turn. How long they take is nobody's test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from bench import cli
from bench.speed.engines import EnginePlan, Timing, measure_engines
from bench.speed.lanes import in_lanes, loaded_bundle, prepared_images
from bench.speed.model_calls import model_calls
from bench.support.command_line import choose_one, choose_some, engine_names, some_images, spread_evenly
from bench.support.device_cost import Rounds, interleaved
from glad.batching import BatchSizes
from model_store.bundle import open_bundle
from model_store.engines.engine_spec import EngineSpec
from model_store.engines.export_manifest import EngineUnusable
from model_store.engines.loading import load
from model_store.engines.torch import load_models
from model_store.inspection import inspect
from tests.support.tiny_bundle import make_tiny_bundle
from training.data.image_files import DataError, read_pixels
from training.progress import silent

pytestmark = pytest.mark.timeout(600)  # real processes or trainings: slow where other work shares the machine


def test_everything_is_warmed_up_and_then_timed_in_turn() -> None:
    seen: list[str] = []
    found = interleaved({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, rounds=2, round_s=0)
    assert "".join(seen) == "ab" + "abab"
    assert [len(one.seconds) for one in found.values()] == [2, 2]


def test_short_calls_are_repeated_equally_often_in_a_round() -> None:
    seen: list[str] = []
    interleaved({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, rounds=1, round_s=1e9)
    assert seen.count("a") == seen.count("b") == 2 + 100  # the most that a round has


def test_no_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="rounds are 0"):
        interleaved({"a": lambda: None}, rounds=0)


def test_the_figures_by_hand() -> None:
    # Medians 3 s and 1 s for four images: 4/3 and 4 a second, so three times as fast.
    timing = Timing("unet", 4, {"torch": Rounds((2.0, 4.0, 3.0)), "onnx": Rounds((1.0, 1.0, 9.0))})
    assert timing.images_per_s("torch") == pytest.approx(4 / 3)
    assert timing.images_per_s("onnx") == pytest.approx(4)
    assert timing.ratio("torch") == 1
    assert timing.ratio("onnx") == pytest.approx(3)


def test_an_exception_belongs_to_the_engine_before_it() -> None:
    assert engine_names("torch, onnx") == ("torch", "onnx")
    assert engine_names("torch,onnx,torch,unet=onnx,features=onnx") == (
        "torch",
        "onnx",
        "torch,unet=onnx,features=onnx",
    )


@pytest.mark.parametrize(
    ("given", "told"),
    [("torhc", "begins with one of"), ("unet=onnx", "begins with one of"), ("torch,torch", "each engine once")],
)
def test_engines_that_nobody_knows_are_refused(given: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        engine_names(given)


def test_names_are_taken_once_and_others_refused() -> None:
    assert choose_some("--precision", "float16,float32,float16", ("float32", "float16")) == ("float16", "float32")
    with pytest.raises(ValueError, match="--precision is 'int8': choose of float32, float16"):
        choose_one("--precision", "int8", ("float32", "float16"))


def test_images_are_spread_over_all_that_there_are() -> None:
    files = [Path(str(number)) for number in range(9)]
    assert [int(path.name) for path in spread_evenly(files, 5)] == [0, 2, 4, 6, 8]
    assert spread_evenly(files, 100) == tuple(files)
    with pytest.raises(ValueError, match="count is 0"):
        spread_evenly(files, 0)


def test_of_a_labelled_folder_only_its_test_images_are_taken(parts: Path, tmp_path: Path) -> None:
    taken = some_images(parts, 100)
    assert {path.parent.relative_to(parts).as_posix() for path in taken} == {"test/good", "test/hole"}
    assert len(taken) == 3 + 2
    assert len(some_images(parts / "train", 100)) == 10  # no labels: everything in it
    with pytest.raises((DataError, ValueError), match="holds no image"):
        some_images(tmp_path, 1)


def test_the_calls_are_those_of_a_worker(exported: Path) -> None:
    bundle = open_bundle(exported)
    models = load_models(bundle)
    calls = list(model_calls(models, bundle.manifest.settings, BatchSizes(denoiser=(1, 2, 4))))
    assert [(call.component, call.batch) for call in calls] == [
        ("encoder", 1),
        ("decoder", 1),
        ("features", 1),
        ("unet", 1),
        ("unet", 2),
        ("unet", 4),
    ]
    assert all(len(output) == call.batch for call in calls for output in call.run(models))


def test_features_of_another_side_and_prompts_are_called_too(tmp_path: Path) -> None:
    folder = make_tiny_bundle(tmp_path, prompt=1, score={"resolution": 32, "layers": (1, 2)}, thresholds=None)
    bundle = open_bundle(folder)
    models = load_models(bundle)
    calls = {call.component: call.run(models) for call in model_calls(models, bundle.manifest.settings, BatchSizes())}
    (trigger,), score = calls["features of the trigger"], calls["features of the score"]
    assert (trigger.shape[1:3], [tap.shape[1:3] for tap in score]) == ((8, 8), [(4, 4), (4, 4)])
    assert calls["unet"][0].shape == (1, 4, 8, 8)  # the default is a CPU's: one row a call


def test_the_calls_of_the_feature_form_are_those_of_its_networks(exported_features: Path) -> None:
    bundle = open_bundle(exported_features)
    own, theirs = (load(bundle, spec=EngineSpec(engine)).parts for engine in ("torch", "onnx"))
    calls = list(model_calls(own, bundle.manifest.settings, BatchSizes(denoiser=(1, 4), comparator=(1, 2))))
    assert [(call.component, call.batch) for call in calls] == [
        ("backbone", 1),
        ("decoder", 1),
        ("backbone", 2),
        ("decoder", 2),
        ("unet", 1),
        ("unet", 4),
    ]
    for call in calls:
        expected, found = call.run(own), call.run(theirs)
        assert {len(output) for output in expected} == {call.batch}
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert calls[-1].run(own)[0].shape == (4, 32, 4, 4)  # 8 channels of 2 × 2 places; 8 × 8 places in all


def test_images_in_lanes_come_out_as_one_by_one(exported: Path, parts: Path) -> None:
    bundle, images = open_bundle(exported), some_images(parts, 5)
    models, settings = load_models(bundle).assemble(), bundle.manifest.settings
    prepared = prepared_images([path.read_bytes() for path in images], loaded_bundle(bundle, models))
    merge_lanes = in_lanes(prepared, "cpu", lanes=2)
    alone = inspect([read_pixels(path) for path in images], models, settings, tiles_at_once=1)
    assert sorted(merge_lanes) == ["0", "1", "2", "3", "4"]
    scores = [merge_lanes[str(number)].score for number in range(5)]
    assert scores == pytest.approx([one.score for one in alone], rel=1e-4)
    assert len(set(scores)) == 5


def test_engines_are_timed_on_every_component_and_on_whole_images(exported: Path, parts: Path, tmp_path: Path) -> None:
    words = ["engines", exported, "--data", parts, "--images", 2, "--rounds", 1, "--lanes", 2, "--device", "cpu"]
    done = CliRunner().invoke(cli.app, [str(word) for word in [*words, "--json", tmp_path / "figures.json"]])
    assert done.exit_code == 0, done.output
    figures = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))["figures"]
    assert [(one["wanted"], one["engine"], one["memory"]) for one in figures["engines"]] == [
        ("torch", "torch-float32", None),
        ("onnx", "onnx-cpu-float32", None),
    ]
    what = {one["what"]: (one["images"], set(one["rounds"])) for one in figures["timings"]}
    both = {"torch", "onnx"}
    assert what == {
        "encoder, 1 at once": (1, both),
        "decoder, 1 at once": (1, both),
        "features, 1 at once": (1, both),
        "unet, 1 at once": (1, both),
        "images one by one": (2, both),
        "images in 2 lanes, decoded before": (2, both),
    }
    assert figures["lanes"] == 2
    assert "| what | torch, images/s | onnx, images/s | onnx / torch |" in done.output


def test_engines_are_timed_on_the_feature_form_too(exported_features: Path, parts: Path) -> None:
    plan = EnginePlan(("torch", "onnx"), rounds=1, lanes=2, round_s=0)
    found = measure_engines(exported_features, some_images(parts, 2), plan, silent)
    assert [one.engine for one in found.engines] == ["torch-float32", "onnx-cpu-float32"]
    assert [one.what for one in found.timings] == [
        "backbone, 1 at once",
        "decoder, 1 at once",
        "unet, 1 at once",
        "images one by one",
        "images in 2 lanes, decoded before",
    ]
    assert all(one.rounds.keys() == {"torch", "onnx"} for one in found.timings)


def test_an_engine_that_cannot_serve_the_bundle_is_told_before_anything_is_timed(tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path)
    with pytest.raises(EngineUnusable, match=r"has no onnx export: run `glad export"):
        measure_engines(bundle, (), EnginePlan(("torch", "onnx"), round_s=0), silent)
