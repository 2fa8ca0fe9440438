"""TensorRT behind the Protocols, on a stand-in that computes on the CPU (tests/support/fake_tensorrt)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from model_store.engines.backends import Backend, open_files
from model_store.engines.export_manifest import (
    EngineFailed,
    EngineUnusable,
    Export,
    ExportedPart,
    FeatureShapes,
    Part,
    PixelShapes,
    Proof,
)
from model_store.engines.tensorrt import (
    TensorRtEngine,
    check_built_for,
    cuda_device,
    gpu_identity,
    load_tensorrt_parts,
)
from model_store.engines.tensorrt_protocols import installed_tensorrt
from model_store.manifest import FileEntry
from tests.support import fake_tensorrt
from tests.support.fake_tensorrt import PLACE, STREAM, find_gpu

SHAPES = PixelShapes(
    latent_channels=4, factor=8, patch=8, depth=2, resolution=16, scoring_side=16, layers=(1, 2), conditioned=False
)
UNET = {
    "inputs": {"latents": ["float32", [-1, 4, 2, 2]], "timesteps": ["int64", [-1]]},
    "outputs": {"noise": ["float32", [-1, 4, 2, 2], 2.0]},
}
FEATURES = {
    "inputs": {"images": ["float32", [-1, 3, 16, 16]]},
    "outputs": {"layer_1": ["float32", [-1, 2, 2, 5], 1.0], "layer_2": ["float32", [-1, 2, 2, 5], 10.0]},
}
ENCODER = {"inputs": FEATURES["inputs"], "outputs": {"latents": ["float32", [-1, 4, 2, 2], 3.0]}}
DECODER = {
    "inputs": {"latents": ["float32", [-1, 4, 2, 2]]},
    "outputs": {"images": ["float32", [-1, 3, 16, 16], 5.0]},
}


@pytest.fixture(autouse=True)
def calls() -> list[tuple[str, Any]]:
    """What the library was asked during one test."""
    fake_tensorrt.CALLS.clear()
    return fake_tensorrt.CALLS


def engine_file(folder: Path, plan: dict[str, Any], **more: Any) -> Path:
    file = folder / f"{'-'.join(plan['outputs'])}.engine"
    file.write_text(json.dumps({**plan, "buckets": [1, 2, 4], "version": fake_tensorrt.__version__, **more}))
    return file


def unet(folder: Path, **more: Any) -> TensorRtEngine:
    return TensorRtEngine(engine_file(folder, UNET, **more), PLACE)


def latents_of(*values: float) -> torch.Tensor:
    """One lane per value, filled with it."""
    return torch.tensor(values).reshape(-1, 1, 1, 1).expand(-1, 4, 2, 2)


def predict(engine: TensorRtEngine, *values: float) -> list[float]:
    """The noise of lanes filled with these values at timestep 100 × lane number: 2 × (value + timestep)."""
    steps = 100 * torch.arange(len(values))
    (noise,) = engine({"latents": latents_of(*values), "timesteps": steps}, ("noise",))
    assert noise.shape == (len(values), 4, 2, 2)
    assert torch.equal(noise, noise[:, :1, :1, :1].expand_as(noise))
    return noise[:, 0, 0, 0].tolist()


def values_in(tensor: torch.Tensor) -> list[float]:
    """The different values of a tensor's elements."""
    return sorted(set(tensor.flatten().tolist()))


def executed(calls: list[tuple[str, Any]]) -> list[int]:
    """The batch sizes that ran."""
    return [arguments[0] for call, arguments in calls if call == "execute"]


@pytest.mark.parametrize(
    ("lanes", "ran"), [(1, [1]), (2, [2]), (3, [4]), (4, [4]), (5, [4, 1]), (7, [4, 4]), (9, [4, 4, 1])]
)
def test_a_batch_runs_in_built_sizes_only_and_its_padding_is_cut(
    tmp_path: Path, calls: list[tuple[str, Any]], lanes: int, ran: list[int]
) -> None:
    values = [float(lane) for lane in range(lanes)]
    assert predict(unet(tmp_path), *values) == [2 * (value + 100 * value) for value in values]
    assert executed(calls) == ran


def test_the_profile_is_switched_only_when_the_batch_size_changes(tmp_path: Path, calls: list[tuple[str, Any]]) -> None:
    engine = unet(tmp_path)
    for lanes in (1, 4, 3, 2, 2):
        predict(engine, *[1.0] * lanes)
    assert [arguments for call, arguments in calls if call == "profile"] == [(2, STREAM), (1, STREAM)]
    assert {arguments[1] for call, arguments in calls if call == "execute"} == {STREAM}


def test_sizes_come_from_the_profiles_in_whatever_order_they_were_built(
    tmp_path: Path, calls: list[tuple[str, Any]]
) -> None:
    engine = unet(tmp_path, buckets=[8, 2])
    assert engine.buckets == (2, 8)
    assert predict(engine, 1.0, 2.0, 3.0) == [2.0, 204.0, 406.0]
    assert executed(calls) == [8]


def test_inputs_of_other_types_and_strides_are_taken(tmp_path: Path) -> None:
    latents = latents_of(1.0, 2.0).double().transpose(2, 3)
    steps = torch.tensor([3, 4], dtype=torch.int32)
    (noise,) = unet(tmp_path)({"timesteps": steps, "latents": latents}, ("noise",))
    assert noise[:, 0, 0, 0].tolist() == [8.0, 12.0]
    assert noise.dtype == torch.float32


def test_an_answer_is_not_overwritten_by_the_next_call(tmp_path: Path) -> None:
    engine = unet(tmp_path)
    inputs = {"latents": latents_of(1.0), "timesteps": torch.tensor([0])}
    (first,) = engine(inputs, ("noise",))
    engine({**inputs, "latents": latents_of(50.0)}, ("noise",))
    assert values_in(first) == [2.0]


def test_a_shape_that_was_not_built_is_refused_with_the_one_that_was(tmp_path: Path) -> None:
    given = {"latents": torch.zeros(2, 4, 3, 3), "timesteps": torch.zeros(2, dtype=torch.int64)}
    with pytest.raises(ValueError, match=r"latents has shape \(2, 4, 3, 3\).*built for \(2, 4, 2, 2\)"):
        unet(tmp_path)(given, ("noise",))


def test_an_empty_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the batch is empty"):
        unet(tmp_path)({"latents": torch.zeros(0, 4, 2, 2), "timesteps": torch.zeros(0)}, ("noise",))


def test_a_call_that_the_library_does_not_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match="did not run"):
        unet(tmp_path)({"latents": latents_of(1.0)}, ("noise",))


def all_files(folder: Path) -> dict[Part, Path]:
    plans: dict[Part, dict[str, Any]] = {"encoder": ENCODER, "unet": UNET, "decoder": DECODER, "features": FEATURES}
    return {part: engine_file(folder, plan) for part, plan in plans.items()}


def loaded(folder: Path) -> dict[str, Any]:
    return open_files(Backend("tensorrt"), all_files(folder), SHAPES, "cuda", find_gpu=find_gpu)


def test_the_networks_of_an_export_call_their_engines(tmp_path: Path) -> None:
    networks = loaded(tmp_path)
    images = torch.full((2, 3, 16, 16), 0.5)
    assert values_in(networks["autoencoder"].encode(images)) == [1.5]  # 3 × 0.5
    assert networks["autoencoder"].decode(latents_of(0.5)).shape == (1, 3, 16, 16)
    assert values_in(networks["unet"](latents_of(1.0), torch.tensor([5]))) == [12.0]  # 2 × (1 + 5)
    deep, shallow = networks["features"](images, (2, 1))  # in the order asked for
    assert (deep.shape, values_in(deep), values_in(shallow)) == ((2, 2, 2, 5), [5.0], [0.5])


def test_one_layer_can_be_asked_for_alone(tmp_path: Path) -> None:
    (deep,) = loaded(tmp_path)["features"](torch.full((1, 3, 16, 16), 0.5), (2,))
    assert values_in(deep) == [5.0]


def test_an_export_of_some_parts_loads_those(tmp_path: Path) -> None:
    parts = load_tensorrt_parts({"unet": engine_file(tmp_path, UNET)}, PLACE)
    assert list(parts) == ["unet"]
    networks = open_files(Backend("tensorrt"), {"unet": engine_file(tmp_path, UNET)}, SHAPES, "cuda", find_gpu=find_gpu)
    assert list(networks) == ["unet"]  # PyTorch runs the other components
    with pytest.raises(EngineUnusable, match="the export has no encoder: export the bundle again"):
        open_files(Backend("tensorrt"), {"decoder": engine_file(tmp_path, DECODER)}, SHAPES, "cuda", find_gpu=find_gpu)
    with pytest.raises(EngineUnusable, match="the export has no decoder, encoder, features, unet"):
        open_files(Backend("tensorrt"), {}, SHAPES, "cuda", find_gpu=find_gpu)


def test_the_networks_of_the_feature_form_call_their_engines(tmp_path: Path) -> None:
    places = {"level_3": ["float32", [-1, 40, 2, 2], 1.0], "level_4": ["float32", [-1, 112, 1, 1], 10.0]}
    plans: dict[Part, dict[str, Any]] = {
        "backbone": {"inputs": FEATURES["inputs"], "outputs": places},
        "unet": UNET,
        "decoder": DECODER,
    }
    files = {part: engine_file(tmp_path, plan) for part, plan in plans.items()}
    shapes = FeatureShapes(resolution=16, levels=(3, 4), latent_channels=4, factor=8, modelled=4, fold=1)
    networks = open_files(Backend("tensorrt"), files, shapes, "cuda", find_gpu=find_gpu)
    assert list(networks) == ["backbone", "unet", "decoder"]
    fine, coarse = networks["backbone"](torch.full((2, 3, 16, 16), 0.5), (3, 4))
    assert (fine.shape, values_in(fine)) == ((2, 40, 2, 2), [0.5])
    assert (coarse.shape, values_in(coarse)) == ((2, 112, 1, 1), [5.0])
    assert values_in(networks["unet"](latents_of(1.0), torch.tensor([5]))) == [12.0]  # 2 × (1 + 5)
    assert values_in(networks["decoder"].decode(latents_of(0.5))) == [2.5]  # 5 × 0.5
    with pytest.raises(ValueError, match=r"levels are \(2, 3\); exported were \(3, 4\): choose of them"):
        networks["backbone"](torch.zeros(1, 3, 16, 16), (2, 3))
    del files["backbone"]
    assert list(open_files(Backend("tensorrt"), files, shapes, "cuda", find_gpu=find_gpu)) == ["unet", "decoder"]


@pytest.mark.parametrize("content", [b"", b"ftrt\x00\x01", json.dumps({"version": "9.3"}).encode()])
def test_a_file_that_does_not_deserialize_is_refused_with_the_command(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "unet.engine"
    file.write_bytes(content)
    with pytest.raises(EngineUnusable, match=r"unet\.engine.*10\.16.*`glad export BUNDLE --to tensorrt --data DIR`"):
        TensorRtEngine(file, PLACE)


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineUnusable, match="cannot be read"):
        TensorRtEngine(tmp_path / "none.engine", PLACE)


def test_an_engine_without_room_to_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineUnusable, match="GPU memory"):
        unet(tmp_path, too_large=True)


def test_an_engine_with_half_inputs_is_refused(tmp_path: Path) -> None:
    half = {**UNET, "inputs": {"latents": ["float16", [-1, 4, 2, 2]]}}
    with pytest.raises(EngineUnusable, match=r"latents of .* is DataType\.HALF"):
        TensorRtEngine(engine_file(tmp_path, half), PLACE)


def manifest(device: str | None, **software: str) -> Export:
    entry = FileEntry(sha256="0" * 64, bytes=1)
    return Export(
        engine="tensorrt",
        bundle="0" * 64,
        product="toy",
        version="1",
        command="glad export",
        shapes=SHAPES,
        parts=(ExportedPart(part="unet", precision="float16", file="unet.engine", files={"unet.engine": entry}),),
        proofs=(
            Proof(
                runner="tensorrt-float16",
                precision="float16",
                passed=True,
                images=1,
                verdict_flips=0,
                largest_score_difference=0.0,
            ),
        ),
        parity=entry,
        software=software,
        device=device,
    )


def test_engines_built_here_by_this_version_are_taken() -> None:
    check_built_for(manifest("Toy GPU (9.0)", tensorrt="10.16.1.11"), PLACE)


@pytest.mark.parametrize(
    ("built", "told"),
    [
        (manifest("Other GPU (8.6)", tensorrt="10.16.1.11"), r"built for Other GPU \(8\.6\), this device is Toy GPU"),
        (manifest(None, tensorrt="10.16.1.11"), "an unknown device"),
        (manifest("Toy GPU (9.0)", tensorrt="10.7.0"), r"built by TensorRT 10\.7\.0, installed is 10\.16\.1\.11"),
        (manifest("Toy GPU (9.0)"), "an unknown version"),
    ],
)
def test_engines_of_another_device_or_version_are_refused_with_the_command(built: Export, told: str) -> None:
    with pytest.raises(EngineUnusable, match=told + r".*`glad export BUNDLE --to tensorrt --data DIR`"):
        check_built_for(built, PLACE)


@pytest.mark.parametrize("ask", [cuda_device, gpu_identity])
def test_a_cpu_is_refused_with_the_settings_to_change(ask: Any) -> None:
    with pytest.raises(EngineUnusable, match=r"the device is 'cpu'.*GLAD_DEVICE.*GLAD_ENGINE"):
        ask("cpu")


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineUnusable, match=r"tensorrt is not installed.*\[gpu\]"):
        installed_tensorrt()


def test_the_library_is_taken_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt)
    assert installed_tensorrt() is fake_tensorrt
