"""Building engines, on a stand-in for TensorRT (tests/support/fake_tensorrt)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model_store.engines.tensorrt_protocols import TensorRt
from tests.support import fake_tensorrt
from training.export.tensorrt import BuildFailed, build_engine

LIBRARY: TensorRt = fake_tensorrt
UNET = {
    "inputs": {"latents": ["float32", [-1, 4, 2, 2]], "timesteps": ["int64", [-1]]},
    "outputs": {"noise": ["float32", [-1, 4, 2, 2], 2.0]},
}


@pytest.fixture(autouse=True)
def calls() -> list[tuple[str, Any]]:
    """What the library was asked during one test."""
    fake_tensorrt.CALLS.clear()
    return fake_tensorrt.CALLS


def build(folder: Path, network: dict[str, Any], buckets: tuple[int, ...] = (1, 2)) -> dict[str, Any]:
    """Builds and gives back what the engine file holds."""
    (folder / "unet.onnx").write_text(json.dumps(network))
    target = folder / "unet.engine"
    build_engine(folder / "unet.onnx", target, buckets=buckets, timing_cache=folder / "timing.cache", library=LIBRARY)
    built: dict[str, Any] = json.loads(target.read_bytes())
    return built


def builds_in(cache: Path) -> int:
    return int(json.loads(cache.read_bytes())["builds"])


def test_every_bucket_has_a_profile_of_exactly_its_size(tmp_path: Path, calls: list[tuple[str, Any]]) -> None:
    assert build(tmp_path, UNET, buckets=(1, 4))["buckets"] == [1, 4]
    one, four = ((1, 4, 2, 2), (1,)), ((4, 4, 2, 2), (4,))
    expected = [{"latents": (latents,) * 3, "timesteps": (steps,) * 3} for latents, steps in (one, four)]
    assert dict(calls)["build"] == expected


def test_the_types_are_the_files_own_and_float32_is_not_rounded(tmp_path: Path, calls: list[tuple[str, Any]]) -> None:
    build(tmp_path, UNET)
    assert dict(calls)["create_network"] == 0b10  # 1 << STRONGLY_TYPED, which is 1 in TensorRT 10
    assert dict(calls)["clear_flag"] is fake_tensorrt.BuilderFlag.TF32


def test_the_timing_cache_is_written_and_read_by_the_next_build(tmp_path: Path) -> None:
    build(tmp_path, UNET)
    assert builds_in(tmp_path / "timing.cache") == 1
    build(tmp_path, UNET)
    assert builds_in(tmp_path / "timing.cache") == 2


@pytest.mark.parametrize("content", ["not a cache", json.dumps({"version": "10.0", "builds": 9})])
def test_a_broken_or_foreign_timing_cache_is_begun_anew(tmp_path: Path, content: str) -> None:
    (tmp_path / "timing.cache").write_text(content)
    build(tmp_path, UNET)
    assert builds_in(tmp_path / "timing.cache") == 1


def test_every_error_of_the_parser_is_told(tmp_path: Path) -> None:
    errors = ["In node 3 (Foo): UNSUPPORTED_NODE", "In node 9 (Bar): INVALID_NODE"]
    with pytest.raises(BuildFailed, match=r"unet\.onnx does not parse.*node 3 \(Foo\).*; In node 9 \(Bar\)"):
        build(tmp_path, {**UNET, "errors": errors})


@pytest.mark.parametrize("shape", [[1, 4, 2, 2], [-1, 4, -1, -1]])
def test_a_file_whose_batch_is_not_the_one_dynamic_dimension_is_refused(tmp_path: Path, shape: list[int]) -> None:
    fixed = {**UNET, "inputs": {"latents": ["float32", shape]}}
    with pytest.raises(BuildFailed, match=r"latents of .* the batch alone must be dynamic"):
        build(tmp_path, fixed)


def test_a_failed_build_leaves_no_engine_and_the_old_cache(tmp_path: Path) -> None:
    build(tmp_path, UNET)
    (tmp_path / "unet.engine").unlink()
    with pytest.raises(BuildFailed, match=r"TensorRT 10\.16\.1\.11 built no engine"):
        build(tmp_path, {**UNET, "unsupported": True})
    assert not (tmp_path / "unet.engine").exists()
    assert builds_in(tmp_path / "timing.cache") == 1
