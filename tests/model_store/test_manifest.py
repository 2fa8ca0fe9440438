"""The manifest: what it accepts, and that its bytes stay what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from model_store.bundle import MANIFEST_NAME
from model_store.manifest import Manifest, bundle_hash, check_name


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
