"""A backbone as a component of a bundle: written, verified, read back from the bundle's folder alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from model_store.backbones.base import FrozenBackbone
from model_store.backbones.loading import LoadedBackbone, load_backbone, load_backbone_component, save_backbone
from model_store.bundle import Bundle, BundleParts, ComponentSource, open_bundle, write_bundle
from model_store.engines.torch import component_hashes, load_models
from model_store.errors import BadManifest, ForeignFormat, ModelLoadError
from model_store.pretrained import round_to_stored_precision
from tests.model_store.backbones.conftest import WriteVit
from tests.support.bundles import agree
from tests.support.efficientnet_reference import picture


def with_backbone(bundle: Bundle, source: ComponentSource, target: Path) -> Bundle:
    """The same bundle under another version, with a backbone beside its models."""
    manifest = bundle.manifest
    parts = BundleParts(manifest.product, "with-backbone", manifest.settings, None, manifest.provenance)
    return write_bundle(target, parts, {**bundle.sources(), "backbone": source})


@pytest.fixture
def bundle(sound_bundle: Path) -> Bundle:
    return open_bundle(sound_bundle)


def check_round_trip(backbone: FrozenBackbone, loaded: FrozenBackbone, levels: tuple[int, ...]) -> None:
    """Rounded as a bundle stores it, the backbone is the loaded one, to the bit."""
    round_to_stored_precision(backbone)
    assert loaded.kind == backbone.kind
    assert (loaded.mean, loaded.std) == (backbone.mean, backbone.std)
    assert all(map(torch.equal, loaded(picture(32), levels), backbone(picture(32), levels)))


def test_an_efficientnet_comes_back_as_it_was_rounded(
    bundle: Bundle, tmp_path: Path, published: LoadedBackbone, network_calls: list[str]
) -> None:
    source = save_backbone(published.backbone, tmp_path / "saved", licence=published.licence, up_to=3)
    made = with_backbone(bundle, source, tmp_path / "bundle")
    component = made.manifest.components["backbone"]
    assert (component.kind, component.dtype, component.licence) == ("efficientnet_lite", "float16", published.licence)
    loaded: Any = load_backbone_component(open_bundle(made.path))
    assert loaded.levels == 3
    whole = published.backbone.cut(published.backbone.levels)
    # As it was, to the bit; channels-last, as it serves, the same sums are rounded in another order.
    images, levels = torch.rand(2, 3, 64, 48, generator=torch.Generator().manual_seed(1)), (1, 2, 3)
    serves = loaded(images, levels)
    loaded.to(memory_format=torch.contiguous_format)
    for one, other in zip(serves, loaded(images, levels), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    check_round_trip(type(whole).from_folder(source.folder), loaded, levels)  # type: ignore[attr-defined]
    assert network_calls == []


@pytest.mark.parametrize("kind", ["vit", "dinov2", "dinov2_with_registers"])
def test_a_vision_transformer_comes_back_as_it_was_rounded(
    bundle: Bundle, tmp_path: Path, write_vit: WriteVit, kind: str, network_calls: list[str]
) -> None:
    backbone = load_backbone(str(write_vit(kind)), licence="none").backbone
    made = with_backbone(bundle, save_backbone(backbone, tmp_path / "saved", licence="none"), tmp_path / "bundle")
    check_round_trip(backbone, load_backbone_component(open_bundle(made.path)), (1, 3))
    assert network_calls == []


def test_a_bundles_other_models_are_as_without_a_backbone(
    bundle: Bundle, tmp_path: Path, published: LoadedBackbone
) -> None:
    source = save_backbone(published.backbone, tmp_path / "saved", licence="none", up_to=1)
    made = with_backbone(bundle, source, tmp_path / "bundle")
    without = component_hashes(bundle)
    hashes = component_hashes(made)
    assert {name: hashes[name] for name in without} == without
    assert set(hashes) - set(without) == {"backbone"}
    images = picture(64)
    expected = load_models(bundle).autoencoder.encode(images)
    assert torch.equal(load_models(made).autoencoder.encode(images), expected)


def test_a_backbone_computes_in_half_precision_where_asked(
    bundle: Bundle, tmp_path: Path, published: LoadedBackbone
) -> None:
    source = save_backbone(published.backbone, tmp_path / "saved", licence="none", up_to=2)
    made = with_backbone(bundle, source, tmp_path / "bundle")
    exact, coarse = (load_backbone_component(made, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    (expected,), (found,) = exact(picture(64), (2,)), coarse(picture(64), (2,))
    assert found.dtype == torch.float32
    assert not torch.equal(found, expected)
    # bfloat16 holds 8 bits, a rounding of 0.4 %; seven convolutions and a stem in sequence stay below 5 %.
    assert (found - expected).norm() < 0.05 * expected.norm()


def test_a_bundle_without_a_backbone_says_what_it_has(bundle: Bundle) -> None:
    with pytest.raises(ModelLoadError, match="no component backbone; it has autoencoder, unet, features"):
        load_backbone_component(bundle)


def test_a_backbone_of_another_kind_of_component_is_refused(
    bundle: Bundle, tmp_path: Path, published: LoadedBackbone
) -> None:
    source = save_backbone(published.backbone, tmp_path / "saved", licence="none", up_to=1)
    with pytest.raises(BadManifest, match="must be efficientnet_lite or dinov2 or dinov2_with_registers or vit"):
        with_backbone(bundle, replace(bundle.sources()["unet"]), tmp_path / "bundle")
    made = with_backbone(bundle, replace(source, kind="dinov2"), tmp_path / "mislabelled")
    with pytest.raises(ModelLoadError, match=r"of kind dinov2, its config\.json says efficientnet_lite"):
        load_backbone_component(made)


def test_a_configuration_that_does_not_fit_its_weights_is_refused(
    bundle: Bundle, tmp_path: Path, published: LoadedBackbone
) -> None:
    source = save_backbone(published.backbone, tmp_path / "saved", licence="none", up_to=1)
    made = with_backbone(bundle, source, tmp_path / "bundle")
    config = made.path / "backbone" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "levels": 2}))
    agree(made.path)
    with pytest.raises(ModelLoadError, match=r"EfficientNet-Lite0 up to level 2: .* weights missing"):
        load_backbone_component(open_bundle(made.path))


def test_pickled_weights_beside_a_backbone_are_refused(
    bundle: Bundle, tmp_path: Path, published: LoadedBackbone
) -> None:
    source = save_backbone(published.backbone, tmp_path / "saved", licence="none", up_to=1)
    (source.folder / "weights.pth").write_bytes(b"")
    with pytest.raises(ForeignFormat, match="pickled weights"):
        with_backbone(bundle, source, tmp_path / "bundle")


def test_a_weight_beyond_float16_is_refused(tmp_path: Path, write_vit: WriteVit) -> None:
    backbone = load_backbone(str(write_vit("dinov2")), licence="none").backbone
    with torch.no_grad():
        next(backbone.parameters()).fill_(1e6)
    with pytest.raises(ValueError, match="float16 holds at most 65504"):
        save_backbone(backbone, tmp_path / "saved", licence="none")
