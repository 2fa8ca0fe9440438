"""`glad bundle import` on tiny published models: from the base, with every form of checkpoint, and refusals."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer
from typer.testing import CliRunner

from glad.settings.method import MethodSettings
from model_store.bundle import Bundle, open_bundle
from model_store.checkpoints import ImportRefused, read_tensors
from model_store.cli.bundle import app
from model_store.compatibility import ModelsDoNotFit
from model_store.engines.torch import load_models
from model_store.files import hash_file
from model_store.importing.base import Base, check_schedule
from model_store.importing.bundle import STAGES, ImportSpec, Origins, import_bundle
from tests.model_store.importing.test_names import Dino, ldm_names
from tests.support.tiny_base import base_autoencoder, base_unet, write_base, write_dino
from tests.support.tiny_bundle import TINY_SETTINGS

SETTINGS = {**TINY_SETTINGS, "resolution": 64, "guidance": 9.0}
PROMPT = "a photo of sks"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dino(tmp_path_factory.mktemp("dino"))


Import = Callable[..., Bundle]


@pytest.fixture
def import_(base: Path, dino: Path, tmp_path: Path) -> Import:
    """Imports into a store; keywords are checkpoints, or `product`, `prompt`, `settings`."""

    def run(product: str = "part", prompt: str = PROMPT, **given: Any) -> Bundle:
        settings = MethodSettings.model_validate({**SETTINGS, **given.pop("settings", {})})
        origins = Origins(given.pop("base", str(base)), str(dino), **given)
        wanted = ImportSpec(product, "1", settings, prompt, "CreativeML Open RAIL-M; Apache-2.0")
        return import_bundle(tmp_path / "store" / product / "1", origins, wanted, command="test", say=lambda _: None)

    return run


def weights_of(bundle: Bundle) -> dict[str, dict[str, Tensor]]:
    models: Any = load_models(bundle)
    parts = {"vae": models.autoencoder, "unet": models.denoiser, "features": models.features}
    return {name: part.module.state_dict() for name, part in parts.items()}


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    """Equal after the float16 that the bundle stores."""
    return found.keys() == expected.keys() and all(
        torch.equal(found[name], expected[name].half().float()) for name in found
    )


def test_a_base_becomes_a_bundle_that_waits_for_its_calibration(import_: Import, base: Path) -> None:
    bundle = import_()
    assert open_bundle(bundle.path) == bundle
    assert bundle.manifest.calibration is None
    kinds = {name: component.kind for name, component in bundle.manifest.components.items()}
    assert kinds == {
        "autoencoder": "autoencoder_kl",
        "unet": "unet2d_condition",
        "features": "vit",
        "condition": "text_condition",
    }
    weights = weights_of(bundle)
    assert same(weights["unet"], UNet2DConditionModel.from_pretrained(base / "unet").state_dict())
    assert same(weights["vae"], AutoencoderKL.from_pretrained(base / "vae").state_dict())
    assert not list(bundle.path.parent.glob(".import*"))


def test_dinos_epsilon_replaces_the_published_one(import_: Import) -> None:
    config = json.loads((import_().component("features") / "config.json").read_text())
    assert config["layer_norm_eps"] == 1e-6


@torch.no_grad()
def test_the_condition_is_the_text_encoders_last_hidden_state_of_the_padded_prompt(import_: Import, base: Path) -> None:
    bundle = import_()
    condition = load_models(bundle).condition
    assert condition is not None
    encoder = CLIPTextModel.from_pretrained(base / "text_encoder").eval()
    # By hand: start, one token a letter with a word's last one marked, then the end token up to 77.
    vocabulary = CLIPTokenizer.from_pretrained(base / "tokenizer").get_vocab()
    letters = ["a</w>", "p", "h", "o", "t", "o</w>", "o", "f</w>", "s", "k", "s</w>"]
    tokens = [0, *(vocabulary[letter] for letter in letters), *[1] * (77 - 12)]
    for found, row in ((condition.product, tokens), (condition.empty, [0] + [1] * 76)):
        expected = encoder(torch.tensor([row])).last_hidden_state[0]
        torch.testing.assert_close(found, expected)
    about = json.loads((bundle.component("condition") / "config.json").read_text())
    assert (about["prompt"], about["tokens"], about["width"]) == (PROMPT, 77, 8)


def test_products_of_one_multi_class_model_share_everything_but_the_condition(import_: Import) -> None:
    cable, screw = import_("cable", "a photo of skscable"), import_("screw", "a photo of sksscrew")
    for path in cable.manifest.files:
        shared = (cable.path / path).stat().st_ino == (screw.path / path).stat().st_ino
        assert shared == (not path.startswith("condition/")), path


def trained(module: Any) -> dict[str, Tensor]:
    """The module's weights after some fine-tuning."""
    return {name: tensor * 1.25 for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("name", ["unet/pytorch_model.bin", "unet/diffusion_pytorch_model.safetensors", "some.pth"])
def test_a_fine_tuned_unet_takes_the_place_of_the_bases(import_: Import, tmp_path: Path, name: str) -> None:
    file, weights = tmp_path / name, trained(base_unet())
    file.parent.mkdir(exist_ok=True)
    if name.endswith("safetensors"):
        save_file(weights, file)
    else:
        torch.save({f"module.{key}": tensor for key, tensor in weights.items()}, file)
    before = hash_file(file)
    bundle = import_(unet=file.parent if file.parent != tmp_path else file)
    assert same(weights_of(bundle)["unet"], weights)
    assert hash_file(file) == before
    assert bundle.manifest.provenance.recipe["checkpoints"] == {"unet": {"file": file.name, "sha256": before.sha256}}


@pytest.mark.parametrize("nest", [(), ("state_dict",), ("model", "state_dict")])
def test_a_fine_tuned_autoencoder_in_ldms_names_does_so_too(
    import_: Import, tmp_path: Path, nest: tuple[str, ...]
) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        autoencoder = base_autoencoder()
    content: Any = {f"first_stage_model.{name}": tensor for name, tensor in ldm_names(autoencoder).items()}
    for key in reversed(nest):
        content = {key: content, "global_step": 7}
    torch.save(content, tmp_path / "vae.ckpt")
    assert same(weights_of(import_(vae=tmp_path / "vae.ckpt"))["vae"], autoencoder.state_dict())


def test_the_folder_of_a_small_autoencoder_takes_the_place_of_the_bases(import_: Import, tmp_path: Path) -> None:
    small = AutoencoderTiny(
        encoder_block_out_channels=(4,) * 4,
        decoder_block_out_channels=(4,) * 4,
        num_encoder_blocks=(1,) * 4,
        num_decoder_blocks=(1,) * 4,
    )
    small.save_pretrained(tmp_path / "small")
    bundle = import_(vae=tmp_path / "small")
    assert bundle.manifest.components["autoencoder"].kind == "autoencoder_tiny"
    assert same(weights_of(bundle)["vae"], small.state_dict())


def test_a_fine_tuned_dino_in_its_own_names_does_so_too(import_: Import, tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        own = Dino().state_dict()
    torch.save({"teacher": {f"backbone.{name}": tensor for name, tensor in own.items()}}, tmp_path / "dino.pth")
    found = weights_of(import_(features=tmp_path / "dino.pth"))["features"]
    fused = own["blocks.1.attn.qkv.weight"].half().float()
    assert torch.equal(torch.cat([found[f"layers.1.attention.{part}_proj.weight"] for part in "qkv"]), fused)
    assert torch.equal(found["embeddings.position_embeddings"], own["pos_embed"].half().float())


class Malicious:
    """Runs code when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_of_anything_but_tensors_is_refused_and_not_run(tmp_path: Path, legacy: bool) -> None:
    marker, file = tmp_path / "owned", tmp_path / "evil.bin"
    content = {"weight": torch.zeros(1), "surprise": Malicious(marker)}
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(
        ImportRefused, match=r"holds posix\.mkdir; only tensors are unpickled.*weights_only=False"
    ) as refused:
        read_tensors(file)
    assert not marker.exists()
    assert "converted.safetensors" in str(refused.value)
    pickle.loads(pickle.dumps(Malicious(marker)))
    assert marker.exists()  # the bait was real


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.safetensors", b"not tensors", "not a safetensors file"),
        ("a.ckpt", b"PK\x03\x04 cut off", "not a checkpoint that torch can read|only tensors"),
    ],
)
def test_a_broken_file_is_told(tmp_path: Path, name: str, content: bytes, complaint: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImportRefused, match=complaint):
        read_tensors(tmp_path / name)


def test_a_checkpoint_without_weights_and_a_folder_without_a_checkpoint_are_told(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "optimizer": {"lr": 1.0}}, tmp_path / "a.ckpt")
    with pytest.raises(ImportRefused, match="holds no weights by name, but epoch, optimizer"):
        read_tensors(tmp_path / "a.ckpt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImportRefused, match="holds no checkpoint: expected one of"):
        read_tensors(tmp_path / "empty")


def test_weights_of_another_architecture_are_counted_and_named(import_: Import, tmp_path: Path) -> None:
    weights = base_unet().state_dict()
    dropped = [name for name in weights if "attn2" in name]
    changed: dict[str, Tensor] = {name: tensor for name, tensor in weights.items() if name not in dropped}
    changed |= {"conv_in.weight": torch.zeros(16, 9, 3, 3), "lora.up": torch.zeros(1)}
    torch.save(changed, tmp_path / "unet.bin")
    with pytest.raises(ImportRefused) as refused:
        import_(unet=tmp_path / "unet.bin")
    told = str(refused.value)
    assert f"{len(dropped)} weights missing ({', '.join(dropped[:3])}, ...)" in told
    assert "1 weights unexpected (lora.up)" in told
    assert "conv_in.weight is (16, 9, 3, 3), expected (16, 4, 3, 3)" in told
    assert "does not hold the UNet2DConditionModel of" in told


def test_a_weight_beyond_the_precision_is_refused_with_the_option_that_helps(import_: Import, tmp_path: Path) -> None:
    weights = {**base_unet().state_dict(), "conv_out.bias": torch.full((4,), 1e6)}
    save_file(weights, tmp_path / "unet.safetensors")
    with pytest.raises(
        ImportRefused, match=r"conv_out\.bias reaches 1e\+06; float16 .*bfloat16 or float32 \(--dtype\)"
    ):
        import_(unet=tmp_path / "unet.safetensors")


def test_a_base_of_pickled_weights_is_never_read(import_: Import, base: Path, tmp_path: Path) -> None:
    pickled = shutil.copytree(base, tmp_path / "pickled")
    (pickled / "unet/diffusion_pytorch_model.safetensors").unlink()
    torch.save(base_unet().state_dict(), pickled / "unet/diffusion_pytorch_model.bin")
    with pytest.raises(ImportRefused, match="pickled weights of a base are never read: give them as --unet"):
        import_(base=str(pickled))
    assert import_(base=str(pickled), unet=pickled / "unet").manifest.calibration is None


def test_a_base_that_predicts_something_else_than_noise_is_refused(base: Path, tmp_path: Path) -> None:
    other = shutil.copytree(base, tmp_path / "other")
    config = other / "scheduler/scheduler_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "prediction_type": "v_prediction"}))
    schedule = MethodSettings.model_validate(SETTINGS).schedule
    check_schedule(Base(str(base)), schedule)
    with pytest.raises(ImportRefused, match=r"prediction_type v_prediction; the settings need epsilon: use a Stable"):
        check_schedule(Base(str(other)), schedule)


def test_settings_that_the_models_do_not_fit_are_refused_before_anything_is_written(
    import_: Import, tmp_path: Path
) -> None:
    with pytest.raises(ModelsDoNotFit, match=r"names block \[3, 6, 9, 12\]; the features have 2 blocks"):
        import_(settings={"score": {"layers": (3, 6, 9, 12)}})
    assert not (tmp_path / "store").exists()


@pytest.fixture
def glad(base: Path, dino: Path, tmp_path: Path) -> Callable[..., Any]:
    (tmp_path / "settings.json").write_text(MethodSettings.model_validate(SETTINGS).model_dump_json())
    fixed = ["import", "--base", base, "--dino", dino, "--product", "part", "--licence", "x", "--out", tmp_path / "out"]
    return lambda *words: CliRunner().invoke(app, [str(word) for word in (*fixed, *words)])


def test_the_command_makes_the_bundle_and_says_how_to_go_on(glad: Callable[..., Any], tmp_path: Path) -> None:
    done = glad("--settings", tmp_path / "settings.json", "--title", "A part")
    assert done.exit_code == 0, done.output
    manifest = open_bundle(tmp_path / "out/part/imported").manifest
    assert (manifest.title, manifest.provenance.recipe["prompt"]) == ("A part", PROMPT)
    assert "glad calibrate" in done.output
    again = glad("--settings", tmp_path / "settings.json")
    assert again.exit_code == 1
    assert "bundles never change: give --version another name" in again.output


def test_a_checkpoint_can_be_named_by_its_folder(
    glad: Callable[..., Any], base: Path, dino: Path, tmp_path: Path
) -> None:
    checkpoints = ("--unet", base / "unet", "--vae", base / "vae", "--features", dino)
    done = glad("--settings", tmp_path / "settings.json", *checkpoints)
    assert done.exit_code == 0, done.output
    recorded = open_bundle(tmp_path / "out/part/imported").manifest.provenance.recipe["checkpoints"]
    assert {part: one["file"] for part, one in recorded.items()} == {
        "unet": "diffusion_pytorch_model.safetensors",
        "vae": "diffusion_pytorch_model.safetensors",
        "features": "model.safetensors",
    }


def test_a_preset_brings_its_settings_and_prompt(glad: Callable[..., Any]) -> None:
    # The published settings ask for blocks 3, 6, 9 and 12: the tiny ViT has two, and that is what is told.
    done = glad("--preset", "multi/mvtec-ad/cable")
    assert done.exit_code == 1
    assert "names block [12]" in done.output
    unknown = glad("--preset", "mvtec-ad/carpets")
    assert "did you mean mvtec-ad/carpet" in " ".join(unknown.output.split())


@pytest.mark.parametrize("words", [(), ("--preset", "mvtec-ad/carpet", "--settings", "settings.json")])
def test_settings_come_from_exactly_one_place(
    glad: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "either --preset or --settings" in " ".join(glad(*words).output.split())


def test_the_stages_are_told_in_their_order(base: Path, dino: Path, tmp_path: Path) -> None:
    told: list[str] = []
    wanted = ImportSpec("part", "1", MethodSettings.model_validate(SETTINGS), PROMPT, "x")
    import_bundle(tmp_path / "part" / "1", Origins(str(base), str(dino)), wanted, command="t", say=told.append)
    assert tuple(told) == STAGES
