"""The report of a training in its bundle: named by its bytes, brought along, and nothing that an inspection needs."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model_store.bundle import copy_bundle, open_bundle, write_bundle
from model_store.cli.bundle import app
from model_store.errors import BadManifest, HashMismatch, SymlinkFound, UnknownFile
from model_store.manifest import MANIFEST_NAME, Manifest
from model_store.store import Store
from tests.support.bundles import parts_of

PAGE = "report/report.html"


@pytest.fixture
def reported(sound_bundle: Path, tmp_path: Path) -> Path:
    """A bundle with a report of two files."""
    files = tmp_path / "report.html", tmp_path / "good-1.jpg"
    for file in files:
        file.write_text(f"content of {file.name}", encoding="utf-8")
    bundle = open_bundle(sound_bundle)
    return write_bundle(tmp_path / "made" / "toy" / "1", parts_of(bundle.manifest), bundle.sources(), files).path


def test_the_manifest_names_each_file_of_the_report_by_its_bytes(reported: Path) -> None:
    named = open_bundle(reported).manifest.report
    assert sorted(named) == ["report/good-1.jpg", PAGE]
    assert named[PAGE].sha256 == hashlib.sha256(b"content of report.html").hexdigest()
    assert named[PAGE].bytes == len(b"content of report.html")


def test_a_published_bundle_brings_its_report_along(reported: Path, tmp_path: Path) -> None:
    ref = Store(tmp_path / "store").publish(reported)
    assert (ref.path / PAGE).read_text(encoding="utf-8") == "content of report.html"
    assert ref.hash == open_bundle(reported).hash


def test_a_bundle_whose_report_was_taken_away_is_as_sound_and_the_same_one(reported: Path, tmp_path: Path) -> None:
    whole = open_bundle(reported).hash
    (reported / PAGE).unlink()
    assert open_bundle(reported).hash == whole
    shutil.rmtree(reported / "report")
    assert copy_bundle(reported, tmp_path / "copy").hash == whole
    assert not (tmp_path / "copy" / "report").exists()


def test_a_report_that_is_another_than_the_manifest_says_is_refused(reported: Path) -> None:
    (reported / PAGE).write_text("content of report.HTML", encoding="utf-8")  # of the same size
    with pytest.raises(HashMismatch, match=r"report\.html"):
        open_bundle(reported)


def test_nothing_else_may_lie_beside_the_report_and_it_may_be_no_link(reported: Path, tmp_path: Path) -> None:
    (reported / "report" / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UnknownFile, match=r"report/notes\.txt"):
        open_bundle(reported)
    (reported / "report" / "notes.txt").unlink()
    shutil.move(reported / PAGE, tmp_path / "elsewhere.html")
    (reported / PAGE).symlink_to(tmp_path / "elsewhere.html")
    with pytest.raises(SymlinkFound, match="elsewhere"):
        open_bundle(reported)


def test_a_bundle_without_a_report_may_not_have_a_folder_of_one(bundle_folder: Path) -> None:
    (bundle_folder / "report").mkdir()
    with pytest.raises(UnknownFile, match="report"):
        open_bundle(bundle_folder)


@pytest.mark.parametrize("path", ["report.html", "report/../unet/config.json", "other/report.html", "report/a/b.jpg"])
def test_a_manifest_that_names_a_report_elsewhere_is_refused(reported: Path, path: str) -> None:
    manifest = reported / MANIFEST_NAME
    manifest.write_text(manifest.read_text(encoding="utf-8").replace(PAGE, path), encoding="utf-8")
    with pytest.raises(BadManifest, match="is not allowed in the report"):
        open_bundle(reported)


def test_manifests_of_before_there_were_reports_keep_their_bytes_and_with_them_their_hash(sound_bundle: Path) -> None:
    content = (sound_bundle / MANIFEST_NAME).read_bytes()
    assert b'"report"' not in content
    assert Manifest.model_validate_json(content).to_bytes() == content


def test_show_says_where_the_report_is_and_verify_reads_it(
    reported: Path, sound_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLAD_DATA_DIR", str(tmp_path / "data"))

    def told(*words: object) -> str:
        done = CliRunner().invoke(app, [str(word) for word in words])
        assert done.exit_code == 0, done.output
        return done.output.replace("\n", "")

    assert str(reported / PAGE) in told("show", reported)
    needed = len(open_bundle(reported).manifest.files)
    assert f"{needed + 2} files" in told("verify", reported)
    shutil.rmtree(reported / "report")
    assert "not brought along" in told("show", reported)
    assert f"{needed} files" in told("verify", reported)
    assert f"none of its training; of what is known: glad report {sound_bundle}" in told("show", sound_bundle)
