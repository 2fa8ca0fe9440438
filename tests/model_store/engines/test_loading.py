"""What GLAD_ENGINE names is used or refused; `auto` takes the fastest of what may be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_store.bundle import open_bundle
from model_store.engines.backends import BACKEND_ORDER
from model_store.engines.engine_spec import EngineSpec, offline_engine_spec
from model_store.engines.export_manifest import EngineUnusable
from model_store.engines.loading import load
from model_store.engines.timing import seconds_per_image
from model_store.engines.torch import load_models
from tests.support.tiny_bundle import make_tiny_bundle


def test_the_setting_names_an_engine_and_exceptions() -> None:
    assert EngineSpec.parse("auto") == EngineSpec()
    assert EngineSpec.parse("torch, unet=onnx") == EngineSpec("torch", (("unet", "onnx"),))


@pytest.mark.parametrize("text", ["tf", "", "torch,unet", "torch,unet=tf", "torch,encoder=onnx", "unet=onnx"])
def test_what_the_setting_cannot_mean_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="GLAD_ENGINE is "):
        EngineSpec.parse(text)


def test_offline_commands_run_the_bundles_own_weights_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLAD_ENGINE", raising=False)
    assert offline_engine_spec() == EngineSpec("torch")
    monkeypatch.setenv("GLAD_ENGINE", "onnx")
    assert offline_engine_spec() == EngineSpec("onnx")


def test_without_an_export_auto_is_torch_and_says_why(tmp_path: Path) -> None:
    loaded = load(open_bundle(make_tiny_bundle(tmp_path)))
    assert loaded.engine == "torch-float32"
    assert all("glad export" in reason for reason in loaded.passed_over)
    assert len(loaded.passed_over) == 2  # ONNX Runtime, float32 and int8; OpenVINO must be named


@pytest.mark.parametrize("text", ["onnx", "tensorrt", "torch,unet=onnx"])
def test_an_engine_that_is_named_is_never_replaced(tmp_path: Path, text: str) -> None:
    with pytest.raises(EngineUnusable, match="GLAD_ENGINE is"):
        load(open_bundle(make_tiny_bundle(tmp_path)), spec=EngineSpec.parse(text))


def test_the_time_of_an_image_is_measured_on_the_bundles_own_calls(tmp_path: Path) -> None:
    bundle = open_bundle(make_tiny_bundle(tmp_path, prompt=1, guidance=3.0))
    spent = seconds_per_image(load_models(bundle).assemble(), bundle.manifest.settings, "cpu", lanes=2)
    assert spent > 0


def test_tensorrts_own_engines_serve_those_who_name_them_and_never_auto() -> None:
    automatic = [str(backend) for backend in BACKEND_ORDER["cuda"] if backend.serves("auto")]
    assert automatic == [
        "onnx-tensorrt-float16",
        "onnx-tensorrt-float32",
        "onnx-cuda-float16",
        "onnx-cuda-float32",
        "torch-float32",
    ]
    named = [str(backend) for backend in BACKEND_ORDER["cuda"] if backend.serves("tensorrt")]
    assert named[:3] == ["tensorrt-float16", "tensorrt-bfloat16", "tensorrt-float32"]
