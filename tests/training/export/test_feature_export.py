"""The feature form is exported, shown equal and served as the pixel form is; what is no network stays PyTorch's."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from glad.feature_form import FeatureModels
from model_store.bundle import Bundle, open_bundle
from model_store.engines.backends import Backend
from model_store.engines.engine_spec import EngineSpec
from model_store.engines.export_manifest import (
    EXPORT_NAME,
    EngineUnusable,
    Export,
    FeatureShapes,
    export_folder,
    open_export,
)
from model_store.engines.feature_form import load_feature_models
from model_store.engines.loading import load, load_backend
from model_store.engines.timing import seconds_per_image
from model_store.inspection import inspect
from tests.support.fake_tensorrt import PLACE, find_gpu
from training.data.image_files import read_pixels
from training.export.forms import pieces
from training.export.make import BundleExportPlan, ExportOutcome, make_export
from training.export.parity import compare
from training.export.tolerances import tolerances_for
from training.progress import silent
from training.synthesis.probes import Probe

pytestmark = pytest.mark.timeout(600)  # each export traces every model

ROOT = Path(__file__).parents[3]
PLAN = BundleExportPlan(("float32",), images=2)
LIMITS = tolerances_for("float32")
SHAPES = FeatureShapes(resolution=64, levels=(3, 4), latent_channels=24, factor=8, modelled=8, fold=2)
"""What `tests.support.tiny_recipe.TINY_FEATURE_RECIPE` makes: 8 × 8 places, of which the UNet takes 2 × 2 as one."""


def export(folder: Path, data: Path, report: Path, plan: BundleExportPlan = PLAN, **words: Any) -> ExportOutcome:
    return make_export(
        folder, data, report, plan, command="glad export", progress=silent, say=lambda text: None, **words
    )


@pytest.fixture(scope="module")
def made(feature_bundle: Bundle, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of the feature form with its export; tests that change something copy it."""
    folder = Path(shutil.copytree(feature_bundle.path, tmp_path_factory.mktemp("store") / "part" / "1"))
    outcome = export(folder, data, folder.parent / "report")
    assert (outcome.problems, outcome.folder) == ((), export_folder(folder.resolve(), "onnx"))
    return open_bundle(folder)


@pytest.fixture
def bundle(made: Bundle, tmp_path: Path) -> Bundle:
    return open_bundle(Path(shutil.copytree(made.path, tmp_path / "part" / "1")))


def test_the_export_holds_the_networks_and_says_what_they_are(made: Bundle) -> None:
    manifest = open_export(made.path, made.hash, "onnx").manifest
    assert manifest.shapes == SHAPES
    assert {part.part: part.file for part in manifest.parts} == {
        name: f"{name}.float32.onnx" for name in ("backbone", "unet", "decoder")
    }
    assert [(proof.runner, proof.passed) for proof in manifest.proofs] == [("onnx-cpu-float32", True)]
    (told,) = json.loads((export_folder(made.path, "onnx") / "parity.json").read_text())
    found = {(row["component"], row["detail"]) for row in told["components"]}
    # The grid is 61, 1 and t_min 40: one step is compared.
    assert found == {("backbone", "level 3"), ("backbone", "level 4"), ("unet", "at step 61"), ("decoder", "")}
    assert {row["batch"] for row in told["components"]} == {1, 2, 4}
    assert told["summary"]["verdict_flips"] == 0


def test_files_take_and_give_what_the_torch_networks_do(made: Bundle) -> None:
    shapes = {
        file.stem: {
            value.name: [size.dim_value for size in value.type.tensor_type.shape.dim][1:]
            for value in (*graph.input, *graph.output)
        }
        for file in sorted(export_folder(made.path, "onnx").glob("*.onnx"))
        for graph in [onnx.load(file).graph]
    }
    # EfficientNet-Lite0 has 40 channels at stride 8 and 112 at stride 16; the UNet sees 8 channels of 2 × 2 places.
    assert shapes == {
        "backbone.float32": {"images": [3, 64, 64], "level_3": [40, 8, 8], "level_4": [112, 4, 4]},
        "decoder.float32": {"latents": [24, 8, 8], "images": [3, 64, 64]},
        "unet.float32": {"latents": [32, 4, 4], "timesteps": [], "noise": [32, 4, 4]},
    }


def test_scores_maps_and_pictures_of_the_export_are_torchs(made: Bundle, data: Path) -> None:
    ours, theirs = load(made, spec=EngineSpec("torch")), load(made, "cpu", EngineSpec("onnx"))
    assert (ours.engine, theirs.engine) == ("torch-float32", "onnx-cpu-float32")
    settings = made.manifest.settings
    pixels = [read_pixels(path) for path in sorted((data / "test").rglob("*.png"))]
    pairs = list(zip(*(inspect(pixels, one.models, settings) for one in (ours, theirs)), strict=True))
    assert len(pairs) == 5
    scores = [expected.score for expected, _ in pairs]
    assert len(set(scores)) == 5
    limit = LIMITS.score_difference * float(np.median(scores))
    for expected, found in pairs:
        assert found.score == pytest.approx(expected.score, abs=limit)
        assert found.lane.denoising_step == expected.lane.denoising_step
        np.testing.assert_allclose(found.map, expected.map, atol=limit)
        assert np.abs(found.reconstruction.astype(int) - expected.reconstruction.astype(int)).max() <= 1


def test_what_is_no_network_is_torchs_own_on_every_engine(made: Bundle) -> None:
    ours, theirs = load(made, spec=EngineSpec("torch")), load(made, spec=EngineSpec("onnx"))
    assert ours.identities.keys() == theirs.identities.keys() == ours.parts.components.keys()
    same = {name for name, identity in ours.identities.items() if theirs.identities[name] == identity}
    assert same == {"embedding", "memory"}
    assert {theirs.identities[name].partition(" ")[0] for name in ("backbone", "unet", "decoder")} == {
        "onnx-cpu-float32"
    }
    mixed = load(made, spec=EngineSpec.parse("torch,unet=onnx"))
    assert mixed.identities == {**ours.identities, "unet": theirs.identities["unet"]}
    assert type(mixed.parts.components["unet"]) is type(theirs.parts.components["unet"])
    assert type(mixed.parts.components["backbone"]) is type(ours.parts.components["backbone"])


def test_auto_measures_both_engines_on_the_forms_own_calls(made: Bundle) -> None:
    settings = made.manifest.settings
    loaded = load(made, measure=lambda parts: seconds_per_image(parts.assemble(), settings, "cpu", lanes=2))
    assert loaded.seconds is not None
    assert loaded.seconds.keys() == {"onnx-cpu-float32", "torch-float32"}
    assert min(loaded.seconds.values()) > 0


@pytest.mark.parametrize("part", ["backbone", "unet", "decoder"])
def test_an_export_without_a_network_is_refused_in_words(bundle: Bundle, part: str) -> None:
    path = export_folder(bundle.path, "onnx") / EXPORT_NAME
    content = json.loads(path.read_text())
    content["parts"] = [one for one in content["parts"] if one["part"] != part]
    path.write_text(json.dumps(content))
    with pytest.raises(EngineUnusable, match=f"the export has no {part}: make it again with `glad export"):
        load(bundle, spec=EngineSpec("onnx"))
    assert load(bundle).engine == "torch-float32"


def test_an_export_of_a_form_that_nobody_knows_is_refused(bundle: Bundle) -> None:
    path = export_folder(bundle.path, "onnx") / EXPORT_NAME
    content = json.loads(path.read_text())
    content["shapes"]["form"] = "later"
    path.write_text(json.dumps(content))
    with pytest.raises(EngineUnusable, match=r"is not the manifest of an export .*: run `glad export"):
        load(bundle, spec=EngineSpec("onnx"))


def test_a_network_of_another_form_cannot_be_kept_in_float32(bundle: Bundle, data: Path, tmp_path: Path) -> None:
    told = "features cannot stay float32: a bundle of form feature .* is exported as unet, decoder, backbone; choose"
    with pytest.raises(ValueError, match=told):
        export(bundle.path, data, tmp_path / "report", replace(PLAN, exact=("features",)))
    assert load(bundle).engine == "onnx-cpu-float32"  # the older export stays


def test_a_single_component_is_exported_and_torch_runs_the_others(
    feature_bundle: Bundle, data: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(feature_bundle.path, tmp_path / "part" / "1"))
    outcome = export(folder, data, tmp_path / "report", replace(PLAN, components=("backbone",)))
    assert outcome.folder is not None
    assert sorted(path.name for path in outcome.folder.glob("*.onnx")) == ["backbone.float32.onnx"]
    bundle = open_bundle(folder)
    assert open_export(bundle.path, bundle.hash, "onnx").manifest.components == ("backbone",)
    ours, theirs = load(bundle, spec=EngineSpec("torch")), load(bundle, spec=EngineSpec("onnx"))
    assert theirs.engine == "backbone: onnx-cpu-float32, unet: torch-float32, decoder: torch-float32"
    other = {name for name, identity in ours.identities.items() if theirs.identities[name] != identity}
    assert other == {"backbone"}
    pixels = [read_pixels(next((data / "test/good").glob("*.png")))]
    (expected,), (found,) = (inspect(pixels, one.models, bundle.manifest.settings) for one in (ours, theirs))
    assert found.score == pytest.approx(expected.score, rel=1e-4)


def test_a_component_that_is_no_network_is_not_exported(bundle: Bundle, data: Path, tmp_path: Path) -> None:
    told = "memory cannot be exported: a bundle of form feature is exported as backbone, unet, decoder; choose of them"
    with pytest.raises(ValueError, match=told):
        export(bundle.path, data, tmp_path / "report", replace(PLAN, components=("memory",)))


def test_openvino_runs_the_same_files_by_a_proof_of_its_own(
    bundle: Bundle, feature_bundle: Bundle, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(EngineUnusable, match=r"no parity of onnx-openvino-float32 was shown .*--provider openvino"):
        load(bundle, spec=EngineSpec.parse("openvino"))
    folder = Path(shutil.copytree(feature_bundle.path, tmp_path / "proven" / "1"))
    words = ("--to", "onnx", "--provider", "cpu,openvino", "--images", "2", "--report", str(tmp_path / "report"))
    alone("-m", "glad", "export", str(folder), "--data", str(data), *words)
    proven = open_bundle(folder)
    manifest = open_export(proven.path, proven.hash, "onnx").manifest
    assert [(proof.runner, proof.passed) for proof in manifest.proofs] == [
        ("onnx-cpu-float32", True),
        ("onnx-openvino-float32", True),
    ]
    assert "openvino" in manifest.software
    images = sorted((data / "test").rglob("*.png"))
    told = json.loads(alone("-c", SCORES_ON_OPENVINO, str(folder), *map(str, images)))
    assert told["engine"] == "onnx-openvino-float32"
    ours = inspect(
        [read_pixels(path) for path in images], load_feature_models(proven).assemble(), proven.manifest.settings
    )
    assert told["scores"] == pytest.approx([one.score for one in ours], rel=1e-4)
    assert load(proven).engine == "onnx-cpu-float32"  # auto never takes OpenVINO


SCORES_ON_OPENVINO = """
import json, sys
from pathlib import Path
from model_store.bundle import open_bundle
from model_store.engines.engine_spec import EngineSpec
from model_store.engines.loading import load
from model_store.inspection import inspect
from training.data.image_files import read_pixels

bundle = open_bundle(Path(sys.argv[1]))
loaded = load(bundle, spec=EngineSpec.parse("openvino"))
found = inspect([read_pixels(Path(path)) for path in sys.argv[2:]], loaded.models, bundle.manifest.settings)
print(json.dumps({"engine": loaded.engine, "scores": [one.score for one in found]}))
"""
LEVELS_ON_OPENVINO = """
import sys
import numpy as np
import openvino

compiled = openvino.Core().compile_model(sys.argv[1], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
found = compiled({"images": np.load(sys.argv[2])})
np.savez(sys.argv[3], level_3=found["level_3"], level_4=found["level_4"])
"""


def alone(*words: str) -> str:
    """Run Python with OpenVINO in a process of its own: beside it a training of torch's has crashed."""
    if find_spec("openvino") is None:
        pytest.skip("openvino is not installed here")
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_files_are_run_by_their_libraries_alone(made: Bundle, tmp_path: Path) -> None:
    file = export_folder(made.path, "onnx") / "backbone.float32.onnx"
    images = np.random.default_rng(0).uniform(-1, 1, (3, 3, 64, 64)).astype(np.float32)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    by_runtime = session.run(["level_3", "level_4"], {"images": images})
    expected = load_feature_models(made).backbone(torch.from_numpy(images), (3, 4))
    for level, theirs in zip(expected, by_runtime, strict=True):
        np.testing.assert_allclose(theirs, level, atol=1e-4)
    np.save(tmp_path / "images.npy", images)
    alone("-c", LEVELS_ON_OPENVINO, str(file), str(tmp_path / "images.npy"), str(tmp_path / "levels.npz"))
    with np.load(tmp_path / "levels.npz") as found:
        for name, level in zip(("level_3", "level_4"), expected, strict=True):
            np.testing.assert_allclose(found[name], level, atol=1e-4)


def test_only_torchs_networks_are_exported(made: Bundle) -> None:
    with pytest.raises(TypeError, match="models are PartBackbone and others; only torch's can be exported"):
        pieces(load(made, spec=EngineSpec("onnx")).parts, made.manifest.settings)


def test_half_precision_passes_and_int8_is_made_and_judged_like_any_other(
    feature_bundle: Bundle, data: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(feature_bundle.path, tmp_path / "part" / "1"))
    outcome = export(folder, data, tmp_path / "report", replace(PLAN, precisions=("float16", "int8")))
    half, eight = outcome.parities
    assert (half.passed, half.summary.verdict_flips) == (True, 0)
    assert eight.summary.component_error > half.summary.component_error
    # So tiny a backbone loses too much in int8: like any precision that does not pass, it keeps the export back.
    assert outcome.folder is None
    assert all(problem.startswith("onnx-cpu-int8: ") for problem in outcome.problems)


@dataclass(frozen=True)
class Duller:
    """A backbone whose every level is off by a constant."""

    inner: Any
    by: float

    def __call__(self, images: torch.Tensor, levels: Any) -> tuple[torch.Tensor, ...]:
        return tuple(level - self.by for level in self.inner(images, levels))


def test_another_backbone_is_named_by_its_levels_and_shows_in_scores(made: Bundle, data: Path) -> None:
    models: FeatureModels = load_feature_models(made)
    other = replace(models, backbone=Duller(models.backbone, 0.5))
    (path,) = sorted((data / "test/good").glob("*.png"))[:1]
    probe = Probe(path, np.zeros((24, 32), np.bool_))
    runner, manifest = Backend("onnx", "cpu"), made.manifest
    parity = compare(models, other, manifest, [probe], LIMITS, runner=runner, progress=silent, batches=(1,))
    errors = {(row.component, row.detail): row.largest_error for row in parity.components}
    assert [errors["backbone", f"level {level}"] for level in (3, 4)] == pytest.approx([0.5, 0.5], abs=1e-4)
    assert (errors["unet", "at step 61"], errors["decoder", ""]) == (0, 0)  # each is given the reference's inputs
    assert parity.images[0].score_difference > 0
    assert not parity.passed


def test_tensorrts_engines_are_built_for_the_workers_batches_and_serve_the_form(
    feature_bundle: Bundle, data: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(feature_bundle.path, tmp_path / "part" / "1"))
    plan = replace(PLAN, engine="tensorrt", lanes=3)
    assert export(folder, data, tmp_path / "report", plan, find_gpu=find_gpu).problems == ()
    opened = open_bundle(folder)
    exported = open_export(folder, opened.hash, "tensorrt")
    assert (exported.manifest.shapes, exported.manifest.device) == (SHAPES, PLACE.device.name)
    buckets = {
        part: json.loads(file.read_bytes())["buckets"] for part, file in sorted(exported.files("float32").items())
    }
    # The UNet's sizes for three lanes; images and pictures come in the comparator's, as they do in the pixel form.
    assert buckets["unet"] == [1, 2, 4]
    assert buckets["backbone"] == buckets["decoder"]
    served = load_backend(opened, "cpu", Backend("tensorrt"), lambda engine: exported, find_gpu)
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected = load_feature_models(opened).assemble().encoder.encode(images)
    torch.testing.assert_close(served.models.encoder.encode(images), expected, atol=1e-4, rtol=1e-4)


EARLIER = """{
  "format": 1, "engine": "onnx", "bundle": "%s", "product": "toy", "version": "1",
  "command": "glad export toy/1 --to onnx --data data",
  "shapes": {"latent_channels": 4, "factor": 8, "patch": 8, "depth": 2, "resolution": 64, "scoring_side": 64,
             "layers": [1, 2], "conditioned": false},
  "parts": [{"part": "unet", "precision": "float32", "file": "unet.float32.onnx",
             "files": {"unet.float32.onnx": {"sha256": "%s", "bytes": 7}}}],
  "proofs": [{"runner": "onnx-cpu-float32", "precision": "float32", "passed": true, "images": 4, "verdict_flips": 0,
              "largest_score_difference": 1e-7}],
  "parity": {"sha256": "%s", "bytes": 7}, "software": {"torch": "2.13.0"}, "device": null
}""" % (("0" * 64,) * 3)
"""The manifest of an export, as it was written when there was one form only."""


def test_an_export_of_before_there_were_forms_is_read_and_written_as_it_was() -> None:
    manifest = Export.model_validate_json(EARLIER)
    assert manifest.shapes.form == "pixel"
    assert set(manifest.shapes.component_parts) == {"autoencoder", "unet", "features"}
    assert json.loads(manifest.model_dump_json()) == json.loads(EARLIER)
