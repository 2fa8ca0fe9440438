"""Files that are exchanged or written over between their verification and their use: the old bytes, or a refusal."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import load_file, save_file

from model_store.bundle import Bundle, open_bundle, write_bundle
from model_store.engines.backends import Backend, reads_copies
from model_store.engines.engine_spec import EngineSpec
from model_store.engines.export_manifest import EngineUnusable, OpenExport, open_export
from model_store.engines.loading import load, load_backend, load_own_models
from model_store.engines.onnx import RuntimeOptions, Session
from model_store.engines.openvino import CompiledFile
from model_store.errors import HashMismatch
from model_store.files import hash_file
from model_store.manifest import CONFIG_NAME, WEIGHTS_NAME, ComponentName
from model_store.private_copy import verified_copies
from model_store.store import SHIPPED_BUNDLES
from tests.support.bundles import parts_of
from tests.support.tiny_bundle import make_tiny_bundle

Swap = Callable[[Path], None]
PIXEL: tuple[ComponentName, ...] = ("autoencoder", "unet", "features", "condition")
FEATURE: tuple[ComponentName, ...] = ("backbone", "embedding", "unet", "memory", "decoder")
BACKBONE = "engines/onnx/backbone.float32.onnx"


def changed(content: bytes) -> bytes:
    """Of the same size and still a sound file: the last bytes are weights, or the end of a JSON object."""
    return content[:-2] + b" }" if content.endswith(b"}\n") else content[:-4] + bytes(4)


def exchange(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(changed(file.read_bytes()))
    os.replace(other, file)


def write_over(file: Path) -> None:
    content = changed(file.read_bytes())
    with file.open("r+b") as stream:
        stream.write(content)


SWAPS = pytest.mark.parametrize("swap", [exchange, write_over])


@pytest.fixture(scope="module")
def pixel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("pixel"), prompt=1, guidance=3.0)


@pytest.fixture
def opened(request: pytest.FixtureRequest, pixel: Path, tmp_path: Path) -> Bundle:
    """A verified copy of a bundle of the form that the test names."""
    source = pixel if request.param == "pixel" else SHIPPED_BUNDLES / "bracket" / "7"
    return open_bundle(shutil.copytree(source, tmp_path / "copy"))


EACH_COMPONENT = pytest.mark.parametrize(
    ("opened", "name"),
    [*(("pixel", name) for name in PIXEL), *(("feature", name) for name in FEATURE)],
    indirect=["opened"],
)


def weights_of(bundle: Bundle, name: ComponentName) -> Path:
    return bundle.path / name / WEIGHTS_NAME[bundle.manifest.components[name].kind]


@SWAPS
@EACH_COMPONENT
def test_weights_that_were_swapped_after_they_were_verified_are_not_loaded(
    opened: Bundle, name: ComponentName, swap: Swap
) -> None:
    swap(weights_of(opened, name))
    with pytest.raises(HashMismatch, match=str(weights_of(opened, name))):
        load_own_models(opened)


@EACH_COMPONENT
def test_a_configuration_that_was_swapped_after_it_was_verified_is_not_loaded(
    opened: Bundle, name: ComponentName
) -> None:
    exchange(opened.path / name / CONFIG_NAME)
    with pytest.raises(HashMismatch, match=CONFIG_NAME):
        load_own_models(opened)


@SWAPS
@EACH_COMPONENT
def test_weights_that_are_swapped_while_they_are_loaded_are_the_old_ones(
    opened: Bundle, name: ComponentName, swap: Swap
) -> None:
    file = weights_of(opened, name)
    before = {key: value.clone() for key, value in load_file(file).items()}
    with opened.verified(name) as folder:
        swap(file)
        loaded = load_file(folder / file.name)
    # The folder is gone, what was loaded is not.
    assert not folder.exists()
    assert {key: torch.equal(value, before[key]) for key, value in loaded.items()} == dict.fromkeys(before, True)


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="sealed memory is Linux's")
@pytest.mark.parametrize("opened", ["pixel"], indirect=True)
def test_nobody_can_change_a_private_copy(opened: Bundle) -> None:
    with opened.verified("unet") as folder:
        for file in folder.iterdir():
            with pytest.raises(PermissionError), file.open("r+b", buffering=0) as stream:
                stream.write(b"x")


@pytest.mark.parametrize("opened", ["pixel"], indirect=True)
def test_a_bundle_made_of_an_opened_one_takes_its_verified_weights_alone(opened: Bundle, tmp_path: Path) -> None:
    sources, parts = opened.sources(), parts_of(opened.manifest, version="2")
    exchange(weights_of(opened, "unet"))
    with pytest.raises(HashMismatch, match="unet"):
        write_bundle(tmp_path / "made", parts, sources)
    assert not (tmp_path / "made").exists()


@SWAPS
@pytest.mark.parametrize("opened", ["feature"], indirect=True)
def test_an_export_that_was_swapped_after_it_was_verified_is_not_loaded(opened: Bundle, swap: Swap) -> None:
    export = open_export(opened.path, opened.hash, "onnx")
    swap(opened.path / BACKBONE)
    with pytest.raises(EngineUnusable, match="glad export"):
        load_backend(opened, "cpu", Backend("onnx", "cpu"), lambda _: export)


@SWAPS
@pytest.mark.parametrize("opened", ["feature"], indirect=True)
def test_an_export_that_is_swapped_while_it_is_loaded_is_the_old_one(opened: Bundle, swap: Swap) -> None:
    image, levels = torch.zeros(1, 3, 256, 256), ("level_3",)
    expected = Session(opened.path / BACKBONE, RuntimeOptions())({"images": image}, levels)
    export: OpenExport = open_export(opened.path, opened.hash, "onnx")
    with export.verified("float32") as files:
        swap(opened.path / BACKBONE)
        session = Session(files["backbone"], RuntimeOptions())
    assert torch.equal(session({"images": image}, levels)[0], expected[0])


@pytest.mark.parametrize("opened", ["feature"], indirect=True)
def test_an_export_that_is_untouched_serves(opened: Bundle) -> None:
    loaded = load(opened, spec=EngineSpec.parse("onnx"))
    assert "backbone: onnx-cpu-float32" in loaded.engine


@pytest.fixture
def in_two_files(tmp_path: Path) -> tuple[Path, torch.Tensor]:
    """A file with external data, as an export of more than two gigabytes is, and its weights (4, 4)."""
    weights = np.arange(16, dtype=np.float32).reshape(4, 4)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["given", "weights"], ["found"])],
        "product",
        [value("given", TensorProto.FLOAT, ["batch", 4])],
        [value("found", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    file = tmp_path / "large.onnx"
    onnx.save_model(model, file, save_as_external_data=True, location="large.onnx.data", size_threshold=0)
    return file, torch.from_numpy(weights)


@SWAPS
@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_external_data_that_is_swapped_while_it_is_loaded_is_the_old_one(
    in_two_files: tuple[Path, torch.Tensor], swap: Swap, provider: str
) -> None:
    file, weights = in_two_files
    data = file.with_name("large.onnx.data")
    backend = Backend("onnx", "openvino" if provider == "openvino" else "cpu")
    entries = {path: hash_file(path) for path in (file, data)}
    with verified_copies(entries, on_disk=not reads_copies(backend)) as folder:
        swap(data)
        run = (
            CompiledFile(folder / file.name)
            if provider == "openvino"
            else Session(folder / file.name, RuntimeOptions())
        )
    (found,) = run({"given": torch.eye(4)}, ("found",))
    assert torch.equal(found, weights)
    with pytest.raises(HashMismatch, match=r"large\.onnx\.data"), verified_copies(entries):
        pass


PEAK = """
import sys
from pathlib import Path
from safetensors.torch import load_file
from model_store.files import hash_file
from model_store.private_copy import verified_copies
def peak():
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1])
file = Path(sys.argv[1])
entry = hash_file(file)
before = peak()
with verified_copies({file: entry}) as folder:
    weights = load_file(folder / file.name)
assert float(weights["w"].sum()) == 0
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for the peak")
def test_weights_that_are_used_as_they_lie_in_the_file_are_in_memory_once(tmp_path: Path) -> None:
    kilobytes = 128 << 10
    save_file({"w": torch.zeros(kilobytes << 8)}, tmp_path / "w.safetensors")
    command = [sys.executable, "-c", PEAK, str(tmp_path / "w.safetensors")]
    grown = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert kilobytes < grown < 1.25 * kilobytes
