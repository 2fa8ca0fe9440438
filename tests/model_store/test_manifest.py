"""The manifest: what it accepts, and that its bytes stay what they are."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from glad.settings.method import MethodSettings
from model_store.errors import NotCalibrated
from model_store.manifest import (
    MANIFEST_NAME,
    Component,
    Form,
    Manifest,
    bundle_hash,
    calibration_digest,
    check_name,
    form_of,
)
from model_store.store import SHIPPED_BUNDLES
from tests.support.gates import a_gate


@pytest.fixture
def content(sound_bundle: Path) -> dict[str, Any]:
    manifest = Manifest.model_validate_json((sound_bundle / MANIFEST_NAME).read_bytes())
    return manifest.model_dump(mode="json")


def test_a_manifest_read_and_written_again_keeps_its_bytes_and_hash(sound_bundle: Path) -> None:
    written = (sound_bundle / MANIFEST_NAME).read_bytes()
    again = Manifest.model_validate_json(written).to_bytes()
    assert again == written
    assert bundle_hash(again) == bundle_hash(written)


@pytest.mark.parametrize(
    "name", ["", "Upper", "a/b", "..", "a..b", ".hidden", "-x", "a" * 65, "a\n", "ä", "_product.json"]
)
def test_a_name_that_is_not_safe_in_a_path_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not allowed"):
        check_name(name)


@pytest.mark.parametrize("name", ["a", "bracket-2", "v1.0_rc", "0", "a" * 64])
def test_a_safe_name_is_kept(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "path", ["../unet/config.json", "unet/../x", "/etc/passwd", "unet/a/b", "config.json", "features/x", "unet/"]
)
def test_a_file_outside_its_component_is_refused(content: dict[str, Any], path: str) -> None:
    files = content["components"]["unet"]["files"]
    files[path] = files.pop("unet/config.json")
    with pytest.raises(ValidationError, match="is not allowed in component unet"):
        Manifest.model_validate(content)


def test_a_manifest_without_a_component_is_refused(content: dict[str, Any]) -> None:
    del content["components"]["features"]
    with pytest.raises(ValidationError, match=r"features missing"):
        Manifest.model_validate(content)


def test_a_time_without_a_zone_is_refused(content: dict[str, Any]) -> None:
    content["provenance"]["created_at"] = "2026-01-01T00:00:00"
    with pytest.raises(ValidationError, match="timezone"):
        Manifest.model_validate(content)


def test_a_review_threshold_above_fail_is_refused(content: dict[str, Any]) -> None:
    content["calibration"]["review"] = content["calibration"]["fail"] + 1
    with pytest.raises(ValidationError, match="lies above"):
        Manifest.model_validate(content)


def test_equal_weights_have_equal_content_hashes_under_any_component_path(sound_bundle: Path) -> None:
    unet = Manifest.model_validate_json((sound_bundle / MANIFEST_NAME).read_bytes()).components["unet"]
    moved = unet.model_copy(
        update={"files": {f"other/{path.split('/')[1]}": entry for path, entry in unet.files.items()}}
    )
    assert moved.content_hash == unet.content_hash


def conditional(content: dict[str, Any]) -> dict[str, Any]:
    """The same manifest with a text-conditioned UNet and its condition."""
    entry = {"sha256": "00" * 32, "bytes": 1}
    condition = {
        "kind": "text_condition",
        "dtype": "float32",
        "files": {"condition/config.json": entry, "condition/model.safetensors": entry},
        "licence": "none",
    }
    unet = {**content["components"]["unet"], "kind": "unet2d_condition"}
    return {**content, "components": {**content["components"], "unet": unet, "condition": condition}}


@pytest.mark.parametrize(
    ("manifest", "hash_", "form"),
    [
        (Path(__file__).with_name("nano_manifest.json"), "77e56c2db518", Form.PIXEL),  # shipped before, as version 3
        (SHIPPED_BUNDLES / "bracket" / "7" / MANIFEST_NAME, "68ade2fdf3c4", Form.FEATURE),
    ],
)
def test_a_bundle_that_was_shipped_has_the_hash_it_was_published_under(manifest: Path, hash_: str, form: Form) -> None:
    written = manifest.read_bytes()
    assert bundle_hash(written).startswith(hash_)
    read = Manifest.model_validate_json(written)
    assert read.form is form
    # Version 3 is from before thresholds knew the settings that they were found under.
    assert (read.thresholds.calibrated_for is None) == (form is Form.PIXEL)


def test_a_manifest_without_a_gate_is_written_as_before_there_were_gates(content: dict[str, Any]) -> None:
    ungated = Manifest.model_validate(content)
    assert ungated.gate is None
    assert "gate" not in json.loads(ungated.to_bytes())
    gated = Manifest.model_validate(content | {"gate": a_gate()})
    assert Manifest.model_validate_json(gated.to_bytes()) == gated


@pytest.mark.parametrize("view", ["no base64!", "AAAA"])
def test_a_gate_without_a_whole_view_is_refused(content: dict[str, Any], view: str) -> None:
    with pytest.raises(ValidationError, match="glad gate"):
        Manifest.model_validate(content | {"gate": a_gate().model_dump() | {"view": view}})


def test_a_text_conditioned_unet_comes_with_its_condition_and_may_be_guided(content: dict[str, Any]) -> None:
    told = conditional(content)
    told["settings"]["guidance"] = 9.0
    assert "condition/model.safetensors" in Manifest.model_validate(told).files


def test_a_text_conditioned_unet_without_a_condition_is_refused(content: dict[str, Any]) -> None:
    told = conditional(content)
    del told["components"]["condition"]
    with pytest.raises(ValidationError, match="unet2d_condition and needs component condition: add"):
        Manifest.model_validate(told)


def test_a_condition_for_a_unet_that_takes_none_is_refused(content: dict[str, Any]) -> None:
    told = conditional(content)
    told["components"]["unet"]["kind"] = "unet2d"
    with pytest.raises(ValidationError, match="takes no condition: remove component condition"):
        Manifest.model_validate(told)


def test_guidance_of_a_unet_that_takes_no_condition_is_refused(content: dict[str, Any]) -> None:
    content["settings"]["guidance"] = 9.0
    with pytest.raises(ValidationError, match=r"guidance is 9\.0; it needs .* this one is unet2d: set guidance to 1"):
        Manifest.model_validate(content)


def test_a_component_of_another_ones_kind_is_refused(content: dict[str, Any]) -> None:
    content["components"]["features"]["kind"] = "unet2d"
    with pytest.raises(ValidationError, match="component features is of kind unet2d; it must be vit"):
        Manifest.model_validate(content)


def test_a_bundle_without_thresholds_says_how_to_find_them(content: dict[str, Any]) -> None:
    draft = Manifest.model_validate({**content, "calibration": None})
    assert Manifest.model_validate_json(draft.to_bytes()) == draft
    with pytest.raises(NotCalibrated, match=r"'toy', version '1' .*glad calibrate BUNDLE --data DIR"):
        _ = draft.thresholds


def test_a_calibration_without_groups_is_written_as_before_there_were_any(content: dict[str, Any]) -> None:
    written = Manifest.model_validate(content).to_bytes()
    assert json.loads(written)["calibration"].keys().isdisjoint({"groups", "kind"})
    known = {"groups": 12, "kind": "leave_group_out"}
    found = Manifest.model_validate({**content, "calibration": {**content["calibration"], **known}})
    assert json.loads(found.to_bytes())["calibration"].items() >= known.items()
    assert Manifest.model_validate_json(found.to_bytes()) == found


def test_settings_under_which_every_image_walks_are_written_as_before_any_could_be_clear(
    content: dict[str, Any],
) -> None:
    without = {name: value for name, value in content["settings"].items() if name != "doubtful"}
    written = Manifest.model_validate({**content, "settings": without}).to_bytes()
    assert "doubtful" not in json.loads(written)["settings"]
    trigger = {**without["trigger"], "comparator": "latents", "calibrated_for": None}
    changed = {**without, "trigger": trigger, "guidance": 1.0, "doubtful": {"low": 0.5, "high": 2.0}}
    uncalibrated = {**content["calibration"], "calibrated_for": None}
    found = Manifest.model_validate({**content, "settings": changed, "calibration": uncalibrated})
    assert json.loads(found.to_bytes())["settings"]["doubtful"] == {"low": 0.5, "high": 2.0}
    assert Manifest.model_validate_json(found.to_bytes()) == found
    every = found.settings.where_all_walk
    assert calibration_digest(found.settings, found.components) != calibration_digest(every, found.components)


def calibrated_here(content: dict[str, Any]) -> dict[str, Any]:
    manifest = Manifest.model_validate(content)
    digest = calibration_digest(manifest.settings, manifest.components)
    return {**content, "calibration": {**content["calibration"], "calibrated_for": digest}}


def test_thresholds_are_kept_where_they_were_calibrated(content: dict[str, Any]) -> None:
    written = Manifest.model_validate(calibrated_here(content)).to_bytes()
    assert Manifest.model_validate_json(written).thresholds.calibrated_for is not None


@pytest.mark.parametrize(
    "change",
    [
        {"noise_seed": 7},
        {"guidance": 1.0, "t_min": 200},
        {"framing": {"kind": "stretch"}},
        {"framing": {"kind": "tiles", "side": 64, "overlap": 16}},
        {"zones": {"ignore": [{"points": [[0, 0], [0, 1], [1, 1]]}]}},
    ],
)
def test_thresholds_of_other_settings_are_refused(content: dict[str, Any], change: dict[str, Any]) -> None:
    calibrated = calibrated_here(content)
    with pytest.raises(ValidationError, match=r"under other settings or weights .*`glad calibrate --settings FILE`"):
        Manifest.model_validate({**calibrated, "settings": {**calibrated["settings"], **change}})


def test_thresholds_of_other_weights_are_refused(content: dict[str, Any]) -> None:
    calibrated = calibrated_here(content)
    calibrated["components"]["unet"]["files"]["unet/config.json"]["sha256"] = "ab" * 32
    with pytest.raises(ValidationError, match="calibrated under other settings or weights"):
        Manifest.model_validate(calibrated)


def test_every_framing_and_no_spelled_out_default_makes_a_digest_of_its_own(content: dict[str, Any]) -> None:
    components = Manifest.model_validate(content).components

    def digest(**settings: Any) -> str:
        return calibration_digest(MethodSettings.model_validate({"trigger": {"delta": 0.3}, **settings}), components)

    framings = [{"kind": "letterbox"}, {"kind": "stretch"}, {"kind": "stretch", "via": 256}]
    framings.append({"kind": "tiles", "side": 64, "overlap": 16})
    assert len({digest(framing=framing) for framing in framings}) == 4
    assert digest() == digest(noise_seed=0, steps=25, framing={"kind": "letterbox"}, fusion={"tau": 0.1})


def test_the_digest_is_the_one_that_published_bundles_carry() -> None:
    # Made by hand from the definition: SHA-256 of the canonical JSON below. A change breaks every calibrated bundle.
    files = {"unet/config.json": {"sha256": "00" * 32, "bytes": 1}}
    component = Component.model_validate({"kind": "unet2d", "dtype": "float16", "files": files, "licence": "none"})
    settings = MethodSettings.model_validate({"start": 500, "trigger": {"delta": 0.3}})
    text = (
        f'{{"components":{{"unet":"{component.content_hash}"}},"settings":{{"start":500,"trigger":{{"delta":0.3}}}}}}'
    )
    assert calibration_digest(settings, {"unet": component}) == hashlib.sha256(text.encode()).hexdigest()


def test_the_components_decide_the_form() -> None:
    pixel = ["autoencoder", "unet", "features"]
    assert form_of(pixel) == form_of([*pixel, "condition"]) == form_of([*pixel, "backbone"]) == Form.PIXEL


def test_components_that_make_no_form_are_refused_with_what_is_missing() -> None:
    told = r"component\(s\) autoencoder, features missing: a bundle of form pixel has autoencoder, unet, features"
    with pytest.raises(ValueError, match=told):
        form_of(["unet", "backbone"])
