"""A bundle is whole and unaltered, or it is not opened."""

from __future__ import annotations

import json
import math
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest

from model_store.bundle import Bundle, copy_bundle, open_bundle, write_bundle
from model_store.errors import (
    BadManifest,
    BundleError,
    BundleExists,
    ForeignFormat,
    HashMismatch,
    MissingFile,
    SymlinkFound,
    UnknownFile,
)
from model_store.manifest import MANIFEST_NAME
from tests.support.bundles import agree, new_version, parts_of

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = "features/model.safetensors"


def test_a_sound_bundle_opens_with_the_hash_of_its_manifest(sound_bundle: Path) -> None:
    bundle = open_bundle(sound_bundle)
    assert (bundle.manifest.product, bundle.manifest.version) == ("toy", "1")
    assert sorted(bundle.manifest.files) == sorted(
        path.relative_to(sound_bundle).as_posix()
        for path in sound_bundle.rglob("*")
        if path.is_file() and path.name != MANIFEST_NAME
    )


@pytest.mark.parametrize("file", [WEIGHTS, "unet/config.json", "autoencoder/diffusion_pytorch_model.safetensors"])
def test_one_altered_byte_is_refused(bundle_folder: Path, file: str) -> None:
    path = bundle_folder / file
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    with pytest.raises(HashMismatch) as caught:
        open_bundle(bundle_folder)
    assert caught.value.path == path


def test_a_truncated_file_is_refused_and_both_sizes_are_named(bundle_folder: Path) -> None:
    path = bundle_folder / WEIGHTS
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(HashMismatch, match=f"expected {size} bytes; found {size - 1} bytes"):
        open_bundle(bundle_folder)


def test_a_missing_file_is_refused(bundle_folder: Path) -> None:
    (bundle_folder / WEIGHTS).unlink()
    with pytest.raises(MissingFile, match=WEIGHTS):
        open_bundle(bundle_folder)


@pytest.mark.parametrize("file", ["notes.txt", "unet/model.onnx", "features/.hidden", "more/x.json"])
def test_a_file_that_the_manifest_does_not_name_is_refused(bundle_folder: Path, file: str) -> None:
    (bundle_folder / file).parent.mkdir(exist_ok=True)
    (bundle_folder / file).write_text("{}")
    with pytest.raises(UnknownFile):
        open_bundle(bundle_folder)


@pytest.mark.parametrize("name", [WEIGHTS, "unet", MANIFEST_NAME])
def test_a_symlink_is_refused_even_to_the_very_same_bytes(bundle_folder: Path, tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.move(bundle_folder / name, elsewhere)
    (bundle_folder / name).symlink_to(elsewhere)
    with pytest.raises(SymlinkFound, match=str(elsewhere)):
        open_bundle(bundle_folder)


def test_a_pickle_under_the_name_of_safetensors_is_refused(bundle_folder: Path) -> None:
    (bundle_folder / WEIGHTS).write_bytes(pickle.dumps({"weight": [1.0, 2.0]}))
    agree(bundle_folder)
    with pytest.raises(ForeignFormat, match="pickle"):
        open_bundle(bundle_folder)


def test_a_pickle_beside_the_weights_is_refused_even_where_the_manifest_names_it(bundle_folder: Path) -> None:
    (bundle_folder / "features/pytorch_model.bin").write_bytes(pickle.dumps({}))
    agree(bundle_folder)
    with pytest.raises(ForeignFormat, match=r"pytorch_model\.bin"):
        open_bundle(bundle_folder)


def test_a_source_that_holds_a_pickle_is_not_published(bundle_folder: Path, tmp_path: Path) -> None:
    bundle = open_bundle(bundle_folder)
    (bundle_folder / "unet/optimizer.pt").write_bytes(pickle.dumps({}))
    with pytest.raises(ForeignFormat, match=r"optimizer\.pt"):
        write_bundle(tmp_path / "out", parts_of(bundle.manifest), bundle.sources())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", ["[1]", "not json", '{"auto_map": {"AutoModel": "evil.Model"}}'])
def test_a_configuration_that_is_no_plain_object_or_loads_code_is_refused(bundle_folder: Path, content: str) -> None:
    (bundle_folder / "unet/config.json").write_text(content)
    agree(bundle_folder)
    with pytest.raises(ForeignFormat, match=r"unet/config\.json"):
        open_bundle(bundle_folder)


def test_weights_of_another_precision_than_declared_are_refused(bundle_folder: Path) -> None:
    manifest = bundle_folder / MANIFEST_NAME
    content = json.loads(manifest.read_bytes())
    content["components"]["unet"]["dtype"] = "float32"
    manifest.write_text(json.dumps(content))
    with pytest.raises(ForeignFormat, match="F32"):
        open_bundle(bundle_folder)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": 2}', "\x00"])
def test_a_manifest_that_is_none_is_refused(bundle_folder: Path, content: str) -> None:
    (bundle_folder / MANIFEST_NAME).write_text(content)
    with pytest.raises(BadManifest, match="format"):
        open_bundle(bundle_folder)


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match=r"manifest\.json"):
        open_bundle(tmp_path)


def test_every_refusal_says_file_expectation_finding_and_fix(bundle_folder: Path) -> None:
    (bundle_folder / WEIGHTS).unlink()
    with pytest.raises(BundleError) as caught:
        open_bundle(bundle_folder)
    error = caught.value
    assert all((error.path, error.expected, error.found, error.fix))
    assert str(error.path) in str(error)
    copied = pickle.loads(pickle.dumps(error))
    assert (type(copied), str(copied)) == (MissingFile, str(error))


def test_a_copy_is_the_same_bundle_byte_for_byte(sound_bundle: Path, tmp_path: Path) -> None:
    copied = copy_bundle(sound_bundle, tmp_path / "copy")
    assert copied.hash == open_bundle(sound_bundle).hash == open_bundle(tmp_path / "copy").hash


def test_publishing_the_same_twice_changes_nothing(sound_bundle: Path, tmp_path: Path) -> None:
    first = copy_bundle(sound_bundle, tmp_path / "toy" / "1")
    written_at = (first.path / MANIFEST_NAME).stat().st_mtime_ns
    assert copy_bundle(sound_bundle, tmp_path / "toy" / "1") == first
    assert (first.path / MANIFEST_NAME).stat().st_mtime_ns == written_at


def test_publishing_other_content_under_a_taken_version_is_refused(sound_bundle: Path, tmp_path: Path) -> None:
    first = copy_bundle(sound_bundle, tmp_path / "toy" / "1")
    with pytest.raises(BundleExists, match="new version"):
        new_version(sound_bundle, tmp_path / "toy" / "1", title="another")
    assert open_bundle(first.path).hash == first.hash


def test_publishing_over_a_broken_bundle_says_to_remove_it(sound_bundle: Path, bundle_folder: Path) -> None:
    (bundle_folder / WEIGHTS).unlink()
    with pytest.raises(BundleExists, match="Remove that folder"):
        copy_bundle(sound_bundle, bundle_folder)


def test_a_value_that_json_cannot_hold_is_refused_before_anything_is_written(
    sound_bundle: Path, tmp_path: Path
) -> None:
    manifest = open_bundle(sound_bundle).manifest
    never = manifest.settings.trigger.model_copy(update={"delta": math.inf})
    with pytest.raises(BadManifest):
        new_version(sound_bundle, tmp_path / "2", settings=manifest.settings.model_copy(update={"trigger": never}))
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_not_allowed_is_refused(sound_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BadManifest, match="not allowed"):
        new_version(sound_bundle, tmp_path / "out", product="../escape")


def test_the_same_weights_with_a_new_calibration_keep_their_content_hashes(sound_bundle: Path, tmp_path: Path) -> None:
    old = open_bundle(sound_bundle)
    calibration = old.manifest.thresholds.model_copy(update={"fail": 7.0})
    new = new_version(sound_bundle, tmp_path / "toy" / "2", calibration=calibration)
    assert new.hash != old.hash
    for name, component in new.manifest.components.items():
        assert component.content_hash == old.manifest.components[name].content_hash


def test_a_failed_publication_leaves_nothing_behind(bundle_folder: Path, tmp_path: Path) -> None:
    bundle = open_bundle(bundle_folder)
    lost = {**bundle.sources(), "unet": replace(bundle.sources()["unet"], folder=tmp_path / "nowhere")}
    with pytest.raises(MissingFile):
        write_bundle(tmp_path / "out" / "1", parts_of(bundle.manifest), lost)
    assert not (tmp_path / "out").exists()


KILLED_AT_EVERY_FSYNC = """
    import os, signal, sys
    from pathlib import Path
    from model_store.bundle import copy_bundle, open_bundle
    from model_store.store import Store

    source, folder = Path(sys.argv[1]), Path(sys.argv[2])

    def publish_and_die(root, fsyncs):
        done, fsync = 0, os.fsync
        def dying(descriptor):
            nonlocal done
            done += 1
            if done == fsyncs:
                os.kill(os.getpid(), signal.SIGKILL)
            fsync(descriptor)
        os.fsync = dying
        copy_bundle(source, root / "toy" / "1")
        os._exit(0)

    for fsyncs in range(1, 50):
        root = folder / str(fsyncs)
        child = os.fork()
        if child == 0:
            publish_and_die(root, fsyncs)
        status = os.waitpid(child, 0)[1]
        visible = [ref.version for ref in Store(root).versions("toy")]
        assert Store(root).problems() == ()
        if (root / "toy" / "1").exists():
            assert visible == ["1"] and open_bundle(root / "toy" / "1")
        else:
            assert visible == []
            assert Store(root).publish(source).version == "1"
        if os.WIFEXITED(status):
            print(fsyncs - 1)
            break
"""


def test_a_publisher_killed_at_any_moment_leaves_a_whole_bundle_or_none(sound_bundle: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", dedent(KILLED_AT_EVERY_FSYNC), str(sound_bundle), str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # The parents of the new root and product folder; six files, three component folders, the manifest, the bundle's
    # folder; the product's folder again after the rename.
    assert done.stdout.strip() == "14"


def race(publishers: int, publish: Callable[[int], Bundle]) -> list[Bundle | BundleExists]:
    def attempt(number: int) -> Bundle | BundleExists:
        try:
            return publish(number)
        except BundleExists as refused:
            return refused

    with ThreadPoolExecutor(publishers) as pool:
        return list(pool.map(attempt, range(publishers)))


def test_two_publishers_of_the_same_bundle_at_once_both_succeed(sound_bundle: Path, tmp_path: Path) -> None:
    results = race(8, lambda _: copy_bundle(sound_bundle, tmp_path / "toy" / "1"))
    assert {result.hash for result in results if isinstance(result, Bundle)} == {open_bundle(sound_bundle).hash}
    assert len(results) == 8
    assert [path.name for path in (tmp_path / "toy").iterdir()] == ["1"]


def test_of_many_publishers_of_one_version_exactly_one_wins(sound_bundle: Path, tmp_path: Path) -> None:
    target = tmp_path / "toy" / "1"
    results = race(8, lambda number: new_version(sound_bundle, target, title=f"number {number}"))
    winners = [result for result in results if isinstance(result, Bundle)]
    assert len(winners) == 1
    assert open_bundle(target).hash == winners[0].hash
    assert [path.name for path in target.parent.iterdir()] == ["1"]
