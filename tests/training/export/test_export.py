"""`glad export`: what is published has been shown equal; what is damaged, foreign or unequal never decides anything."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import typer
from peft import LoraConfig, get_peft_model
from typer.testing import CliRunner

from model_store.bundle import Bundle, copy_bundle, open_bundle
from model_store.engines.backends import Backend, FindGpu
from model_store.engines.engine_spec import EngineSpec
from model_store.engines.export_manifest import (
    EXPORT_NAME,
    EngineUnusable,
    Export,
    Precision,
    export_folder,
    open_export,
)
from model_store.engines.loading import LoadedModels, load, load_backend
from model_store.engines.onnx import RuntimeOptions, Session
from model_store.engines.torch import load_models
from model_store.engines.torch_modules import TorchDenoiser
from tests.support import fake_tensorrt
from tests.support.fake_tensorrt import LIBRARY, PLACE, Host, find_gpu
from tests.support.tiny_bundle import make_tiny_bundle, pixel_models
from training.cli.export import export as command
from training.export.forms import pieces
from training.export.make import BundleExportPlan, ExportOutcome, make_export
from training.export.onnx import ExportFailed, check, exported, write_half, write_onnx
from training.export.tensorrt import TIMING_CACHE
from training.progress import silent

pytestmark = pytest.mark.timeout(600)  # each export traces every model

PLAN = BundleExportPlan(("float32",), images=2)


def silence(text: str) -> None:
    """Nobody listens."""


def export(folder: Path, data: Path, report: Path, plan: BundleExportPlan = PLAN) -> ExportOutcome:
    return make_export(folder, data, report, plan, command="glad export", progress=silent, say=silence)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A bundle with its export; tests that change something copy it."""
    store = tmp_path_factory.mktemp("store")
    bundle = make_tiny_bundle(store, thresholds=(1e-9, 100.0, 1.0))
    assert export(bundle, data, store / "report").folder == export_folder(bundle.resolve(), "onnx")
    return bundle


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Bundle:
    return open_bundle(Path(shutil.copytree(made, tmp_path / "toy" / "1")))


def test_every_model_answers_as_torchs_at_any_batch(bundle: Bundle) -> None:
    ours, theirs = load_models(bundle), pixel_models(load(bundle, spec=EngineSpec("onnx")).parts)
    draw = torch.Generator().manual_seed(0)
    for batch in (1, 3, 5):
        images = torch.rand(batch, 3, 64, 64, generator=draw) * 2 - 1
        latents, steps = ours.autoencoder.encode(images), torch.randint(1, 500, (batch,), generator=draw)
        torch.testing.assert_close(theirs.autoencoder.encode(images), latents, atol=1e-4, rtol=1e-4)
        decoded = ours.autoencoder.decode(latents)
        torch.testing.assert_close(theirs.autoencoder.decode(latents), decoded, atol=1e-4, rtol=1e-4)
        noise = ours.denoiser(latents, steps)
        torch.testing.assert_close(theirs.denoiser(latents, steps), noise, atol=1e-4, rtol=1e-4)
        pairs = zip(theirs.features(images, (1, 2)), ours.features(images, (1, 2)), strict=True)
        for found, expected in pairs:
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_text_conditioned_unet_and_a_score_at_another_side_are_exported_too(tmp_path: Path, data: Path) -> None:
    folder = make_tiny_bundle(tmp_path, prompt=1, score={"resolution": 32, "layers": (1, 2)}, thresholds=None)
    assert export(folder, data, tmp_path / "report").folder is not None
    opened = open_bundle(folder)
    ours, loaded = load_models(opened), load(opened, spec=EngineSpec("onnx"))
    assert ours.condition is not None
    assert loaded.models.condition is not None
    latents, steps = torch.randn(2, 4, 8, 8), torch.tensor([10, 400])
    told = torch.stack([ours.condition.product, ours.condition.empty])
    torch.testing.assert_close(
        loaded.models.denoiser(latents, steps, told), ours.denoiser(latents, steps, told), atol=1e-4, rtol=1e-4
    )
    small = torch.zeros(1, 3, 32, 32)
    torch.testing.assert_close(
        pixel_models(loaded.parts).features(small, (2,))[0], ours.features(small, (2,))[0], atol=1e-4, rtol=1e-4
    )
    with pytest.raises(ValueError, match="text-conditioned"):
        loaded.models.denoiser(latents, steps)
    with pytest.raises(ValueError, match="side of 16 px; exported was"):
        pixel_models(loaded.parts).features(torch.zeros(1, 3, 16, 16), (2,))


def test_the_export_names_its_bundle_and_tells_no_local_path(bundle: Bundle, tmp_path: Path) -> None:
    folder = export_folder(bundle.path, "onnx")
    manifest = Export.model_validate_json((folder / EXPORT_NAME).read_bytes())
    assert manifest.bundle == bundle.hash
    assert {part.part for part in manifest.parts} == {"encoder", "unet", "decoder", "features"}
    assert [proof.passed for proof in manifest.proofs] == [True]
    (told,) = json.loads((folder / "parity.json").read_text())
    assert told["summary"]["verdict_flips"] == 0
    assert (told["reference"], told["candidate"]) == ("torch-float32", "onnx-cpu-float32")
    assert told["software"] == dict(manifest.software)
    assert "verdict" in (folder / "parity.onnx-cpu-float32.html").read_text()
    here = str(Path(__file__).parents[3]).encode()
    assert not [file.name for file in folder.glob("*.onnx") if here in file.read_bytes()]


def test_equal_models_make_equal_files(bundle: Bundle, tmp_path: Path) -> None:
    """The session's cache of exports rests on this; here both are traced anew."""
    models = load_models(bundle)
    for name, piece in pieces(models, bundle.manifest.settings).items():
        exact, again = export_folder(bundle.path, "onnx") / f"{name}.float32.onnx", tmp_path / f"{name}.float32.onnx"
        write_onnx(piece, again)
        assert again.read_bytes() == exact.read_bytes(), name


def test_an_export_travels_with_its_bundle(bundle: Bundle, tmp_path: Path) -> None:
    copied = copy_bundle(bundle.path, tmp_path / "elsewhere" / "toy" / "1")
    assert load(copied).engine == "onnx-cpu-float32"


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("weight", r"unet.float32.onnx is not what was exported"),
        ("cut", r"unet.float32.onnx has \d+ bytes where \d+ were exported"),
        ("gone", r"unet.float32.onnx cannot be read"),
        ("foreign", r"belongs to another bundle"),
        ("parity", r"parity.json has \d+ bytes where"),
        ("manifest", r"is not the manifest of an export"),
        ("failed", r"has passed no parity"),
    ],
)
def test_what_was_damaged_is_passed_over_with_its_reason(bundle: Bundle, damage: str, told: str) -> None:
    folder = export_folder(bundle.path, "onnx")
    file, manifest = folder / "unet.float32.onnx", folder / EXPORT_NAME
    content = json.loads(manifest.read_text())
    match damage:
        case "weight":
            change_one_weight(file)
        case "cut":
            file.write_bytes(file.read_bytes()[:-100])
        case "gone":
            file.unlink()
        case "foreign":
            manifest.write_text(json.dumps({**content, "bundle": "0" * 64}))
        case "parity":
            (folder / "parity.json").write_text("[]")
        case "manifest":
            manifest.write_text("{")
        case "failed":
            content["proofs"][0]["passed"] = False
            manifest.write_text(json.dumps(content))
    loaded = load(bundle)
    assert loaded.engine == "torch-float32"
    (reason,) = [reason for reason in loaded.passed_over if reason.startswith("onnx-cpu-float32")]
    with pytest.raises(EngineUnusable, match=told):
        load(bundle, spec=EngineSpec("onnx"))
    assert "glad export" in reason


def change_one_weight(file: Path) -> None:
    """A sound ONNX file of the same size in which one weight is another."""
    model = onnx.load(file)
    largest = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    changed = bytearray(largest.raw_data)
    changed[3] ^= 0x40  # the exponent of the first float
    largest.raw_data = bytes(changed)
    before = file.stat().st_size
    file.write_bytes(model.SerializeToString(deterministic=True))
    assert file.stat().st_size == before


def test_over_tolerance_nothing_is_published(tmp_path: Path, data: Path) -> None:
    folder = make_tiny_bundle(tmp_path, thresholds=(1e-9, 100.0, 1.0))
    strict = BundleExportPlan(("float32",), images=2, tolerance=("component_error=0",))
    found = export(folder, data, tmp_path / "report", strict)
    assert found.folder is None
    assert any("onnx-cpu-float32: " in problem and "the limit is 0" in problem for problem in found.problems)
    assert (tmp_path / "report" / "parity.json").is_file()
    assert list((folder / "engines").iterdir()) == []
    assert load(open_bundle(folder)).engine == "torch-float32"


def test_a_new_export_takes_the_place_of_the_older_one(bundle: Bundle, data: Path, tmp_path: Path) -> None:
    stale = export_folder(bundle.path, "onnx") / "unet.float16.onnx"
    stale.write_bytes(b"of before")
    export(bundle.path, data, tmp_path / "report")
    assert not stale.exists()
    assert [path.name for path in (bundle.path / "engines").iterdir()] == ["onnx"]


def test_half_precision_and_int8_are_made_and_told_apart(tmp_path: Path, data: Path) -> None:
    folder = make_tiny_bundle(tmp_path, thresholds=None)
    loose = ("component_error=100", "score_difference=100", "step_differences=1", "map_correlation=-1")
    assert (
        export(
            folder, data, tmp_path / "report", BundleExportPlan(("float16", "int8"), images=2, tolerance=loose)
        ).problems
        == ()
    )
    opened = open_bundle(folder)
    assert load(opened).engine == "onnx-cpu-int8"
    parts = open_export(folder, opened.hash, "onnx").manifest.parts
    assert {part.precision for part in parts} == {"float16", "int8"}
    assert not list(export_folder(folder, "onnx").glob("*.float32.onnx*"))
    kinds = {
        name: {node.op_type for node in onnx.load(export_folder(folder, "onnx") / name).graph.node}
        for name in ("unet.float16.onnx", "unet.int8.onnx")
    }
    assert "Cast" in kinds["unet.float16.onnx"]
    assert "QuantizeLinear" in kinds["unet.int8.onnx"]


def test_a_model_may_stay_float32_in_every_precision(tmp_path: Path, data: Path) -> None:
    folder = make_tiny_bundle(tmp_path, thresholds=None)
    loose = ("component_error=100", "score_difference=100", "step_differences=1", "map_correlation=-1")
    plan = BundleExportPlan(("float16",), exact=("features",), images=2, tolerance=loose)
    assert export(folder, data, tmp_path / "report", plan).problems == ()
    files = open_export(folder, open_bundle(folder).hash, "onnx").files("float16")
    assert {part: file.name for part, file in files.items()} == {
        "encoder": "encoder.float16.onnx",
        "unet": "unet.float16.onnx",
        "decoder": "decoder.float16.onnx",
        "features": "features.float32.onnx",
    }


def test_merged_low_rank_adapters_are_exported_as_what_they_computed(bundle: Bundle, tmp_path: Path) -> None:
    models = load_models(bundle)
    assert isinstance(models.denoiser, TorchDenoiser)
    latents, steps = torch.randn(2, 4, 8, 8), torch.tensor([10, 400])
    plain = models.denoiser(latents, steps)
    config = LoraConfig(r=2, lora_alpha=16, target_modules=["conv1", "time_emb_proj"], init_lora_weights=False)
    adapted = get_peft_model(models.denoiser.module, config).eval()
    with torch.no_grad():
        expected = adapted(latents, steps, return_dict=False)[0]
    merged = replace(models, denoiser=TorchDenoiser(adapted.merge_and_unload()))
    file = tmp_path / "unet.onnx"
    write_onnx(pieces(merged, bundle.manifest.settings)["unet"], file)
    (found,) = Session(file, RuntimeOptions())({"latents": latents, "timesteps": steps}, ("noise",))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert float((expected - plain).abs().max()) > 1e-2  # the adapter changes what is predicted


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A bundle with engines for TensorRT."""
    store = tmp_path_factory.mktemp("store")
    bundle = make_tiny_bundle(store, thresholds=(1e-9, 100.0, 1.0))
    assert to_tensorrt(bundle, data, store / "report").problems == ()
    return bundle


def test_tensorrt_engines_are_built_for_the_workers_batches_proven_and_chosen(built: Path) -> None:
    opened = open_bundle(built)
    manifest = open_export(built, opened.hash, "tensorrt").manifest
    assert {part.file for part in manifest.parts} >= {"unet.float16.engine", "features.float32.engine"}
    assert [proof.runner for proof in manifest.proofs] == ["tensorrt-float32", "tensorrt-float16"]
    assert (manifest.device, manifest.software["tensorrt"]) == (PLACE.device.name, LIBRARY.__version__)
    plan = json.loads((export_folder(built, "tensorrt") / "unet.float32.engine").read_bytes())
    assert plan["buckets"] == [1, 2, 4]  # for three lanes
    loaded = on_tensorrt(opened, Backend("tensorrt"))
    assert loaded.engine == "tensorrt-float32"
    latents, steps = torch.randn(3, 4, 8, 8), torch.tensor([10, 200, 400])
    expected = load_models(opened).denoiser(latents, steps)
    torch.testing.assert_close(loaded.models.denoiser(latents, steps), expected, atol=1e-4, rtol=1e-4)


def test_tensorrt_engines_that_were_not_proven_or_are_of_another_device_are_refused(built: Path) -> None:
    opened = open_bundle(built)
    with pytest.raises(EngineUnusable, match=r"no parity of tensorrt-bfloat16 was shown \(shown: tensorrt-float32, "):
        on_tensorrt(opened, Backend("tensorrt", precision="bfloat16"))
    other = replace(PLACE, device=Host(name="Other GPU (8.6)"))
    with pytest.raises(
        EngineUnusable, match=r"built for Toy GPU \(9.0\), this device is Other GPU \(8.6\): make it again"
    ):
        on_tensorrt(opened, Backend("tensorrt"), lambda device: other)


def test_a_new_build_knows_what_the_last_one_timed(built: Path, tmp_path: Path, data: Path) -> None:
    folder = Path(shutil.copytree(built, tmp_path / "toy" / "1"))
    assert builds_in(folder) == 7  # four models, three of them in two precisions
    to_tensorrt(folder, data, tmp_path / "report", ("float32",))
    assert builds_in(folder) == 7 + 4


def builds_in(folder: Path) -> int:
    return int(json.loads((export_folder(folder, "tensorrt") / TIMING_CACHE).read_bytes())["builds"])


def to_tensorrt(
    folder: Path, data: Path, report: Path, precisions: tuple[Precision, ...] = ("float32", "float16")
) -> ExportOutcome:
    plan = BundleExportPlan(precisions, engine="tensorrt", exact=("features",), lanes=3, images=2)
    words: dict[str, Any] = {"command": "glad export", "progress": silent, "say": silence}
    return make_export(folder, data, report, plan, find_gpu=find_gpu, **words)


def on_tensorrt(bundle: Bundle, runner: Backend, find: FindGpu = find_gpu) -> LoadedModels:
    return load_backend(bundle, "cpu", runner, lambda engine: open_export(bundle.path, bundle.hash, engine), find)


def test_where_tensorrt_is_absent_the_export_is_refused_before_any_work(tmp_path: Path) -> None:
    folder = make_tiny_bundle(tmp_path)
    plan = BundleExportPlan(("float32",), engine="tensorrt", images=2)
    with pytest.raises(EngineUnusable, match=r"TensorRT runs on a GPU of NVIDIA; the device is 'cpu'"):
        export(folder, tmp_path / "no data either", tmp_path / "report", plan)
    assert not (folder / "engines").exists()


def test_bfloat16_is_made_from_the_float32_weights_and_is_sound(bundle: Bundle, tmp_path: Path) -> None:
    models, exact, file = load_models(bundle), tmp_path / "decoder.float32.onnx", tmp_path / "decoder.bfloat16.onnx"
    write_onnx(pieces(models, bundle.manifest.settings)["decoder"], exact)
    write_half(exact, file, "bfloat16")
    wide, narrow = ({one.name: one for one in onnx.load(path).graph.initializer} for path in (exact, file))
    kept = {name for name, one in narrow.items() if one.data_type == onnx.TensorProto.BFLOAT16}
    assert kept
    for name in kept:
        values, found = (onnx.numpy_helper.to_array(some[name]) for some in (wide, narrow))
        assert np.array_equal(found.astype(np.float32), torch.from_numpy(values.copy()).bfloat16().float().numpy())
    kinds = {
        value.type.tensor_type.elem_type for value in (*onnx.load(file).graph.input, *onnx.load(file).graph.output)
    }
    assert kinds == {onnx.TensorProto.FLOAT}


def test_an_engine_that_fails_while_it_is_compared_publishes_nothing(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_tensorrt.Context, "execute_async_v3", lambda self, stream: False)
    folder = make_tiny_bundle(tmp_path)
    with pytest.raises(
        ExportFailed, match=r"tensorrt-float32 did not answer .* nothing was published: TensorRT did not"
    ):
        to_tensorrt(folder, data, tmp_path / "report")
    assert list((folder / "engines").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--to", "tensorrt"), "TensorRT runs on a GPU of NVIDIA; the device is 'cpu'"),
        (("--to", "onnx", "--provider", "cuda"), "--provider is 'cuda', and the device is 'cpu': cuda runs on another"),
        (
            ("--to", "onnx", "--provider", "rocm"),
            "'rocm': rocm is not available; choose from cpu, openvino, cuda, tensorrt",
        ),
        (("--to", "tensorrt", "--provider", "cuda"), "only ONNX files have providers; leave it out"),
        (("--to", "onnx", "--precision", "bfloat16"), "bfloat16 is not available; choose from float32, float16, int8"),
        (("--to", "onnx", "--keep-float32", "vae"), "vae is not available; choose from encoder, unet, decod"),
        (("--to", "onnx", "--components", "vae"), "vae is not available; choose from autoencoder, unet, features"),
        (("--to", "onnx", "--components", "backbone"), "backbone cannot be exported: a bundle of form pixel"),
    ],
)
def test_what_the_command_cannot_do_is_refused_with_what_it_can(
    bundle: Bundle, data: Path, words: tuple[str, ...], told: str
) -> None:
    app = typer.Typer()
    app.command()(command)
    done = CliRunner().invoke(app, [str(bundle.path), "--data", str(data), *words], env={"GLAD_DEVICE": "cpu"})
    assert done.exit_code == 1
    assert told in " ".join(done.output.split())


@pytest.mark.filterwarnings("ignore")  # of the exporter itself; what is tested is its file
def test_a_file_with_a_fixed_batch_is_not_sound(bundle: Bundle, tmp_path: Path) -> None:
    models = load_models(bundle)
    piece = pieces(models, bundle.manifest.settings)["decoder"]
    fixed = tmp_path / "fixed.onnx"
    torch.onnx.export(
        piece.module.eval(), tuple(piece.inputs.values()), fixed, input_names=["latents"], output_names=["images"],
        dynamo=True, external_data=False, verbose=False,
    )  # fmt: skip
    with pytest.raises(ExportFailed, match=r"fixed.onnx: latents has the shape \[2, 4, 8, 8\]; only its batch"):
        check(fixed)


def test_only_torchs_models_are_exported(bundle: Bundle) -> None:
    models = pixel_models(load(bundle, spec=EngineSpec("onnx")).parts)
    with pytest.raises(TypeError, match="only torch's can be exported"):
        pieces(models, bundle.manifest.settings)


def test_weights_that_no_file_can_hold_lie_beside_it(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.export.onnx.PROTOBUF_LIMIT", 0)  # stands for 2 GB
    models = load_models(bundle)
    piece = pieces(models, bundle.manifest.settings)["features"]
    exact, half = tmp_path / "features.float32.onnx", tmp_path / "features.float16.onnx"
    write_onnx(piece, exact)
    write_half(exact, half, "float16")
    assert sorted(path.name for path in tmp_path.glob("*.onnx*")) == [
        name for file in (half, exact) for name in (file.name, f"{file.name}.data")
    ]
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        expected = piece.module(images)
    for file, tolerance in ((exact, 1e-4), (half, 2e-2)):
        assert exported("features", "float32", file).files[f"{file.name}.data"].bytes > 0
        found = Session(file, RuntimeOptions())({"images": images}, piece.outputs)
        torch.testing.assert_close(tuple(found), tuple(expected), atol=tolerance, rtol=tolerance)
