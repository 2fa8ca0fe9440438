"""`glad inspect`: verdicts and pictures without a server, judged as the service would."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from glad_inspect.cli import inspect
from model_store.product_state import ThresholdOverrides
from model_store.store import Store
from tests.support.gates import a_gate, a_part
from tests.support.tiny_bundle import make_tiny_bundle

Glad = Callable[..., Any]


@pytest.fixture
def glad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Glad:
    """`glad inspect`, called in an empty folder whose store has the product `toy`."""
    monkeypatch.delenv("GLAD_STORE", raising=False)
    monkeypatch.setenv("GLAD_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    make_tiny_bundle(tmp_path / "data" / "store", thresholds=(1e-9, 1e9, 1.0))
    app = typer.Typer()
    app.command()(inspect)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    pixels = np.random.Generator(np.random.Philox(1)).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def _size(path: Path) -> tuple[int, int]:
    with Image.open(path) as opened:
        return opened.size


def test_a_product_and_its_folder_are_both_a_bundle_to_inspect_with(glad: Glad, photo: Path, tmp_path: Path) -> None:
    by_name, by_folder = glad("toy", photo), glad(tmp_path / "data/store/toy/1", photo)
    assert by_name.exit_code == by_folder.exit_code == 0, by_name.output
    assert by_name.output == by_folder.output
    assert by_name.output.splitlines()[1].startswith("review")
    assert _size(tmp_path / "inspected/001_photo.png")[0] > 4 * 90


def test_the_masks_of_a_data_set_are_left_out_and_told(glad: Glad, photo: Path, tmp_path: Path) -> None:
    for folder in ("test/hole", "ground_truth/hole"):
        (tmp_path / "parts" / folder).mkdir(parents=True)
        photo.with_name("copy.jpg").write_bytes(photo.read_bytes())
        photo.with_name("copy.jpg").rename(tmp_path / "parts" / folder / "000.jpg")
    done = glad("toy", "parts", "--no-pictures", "--json", "-")
    assert done.exit_code == 0, done.output
    assert [one["file"] for one in json.loads(done.stdout)] == ["parts/test/hole/000.jpg"]
    assert "parts: 1 mask in ground_truth left out" in done.stderr
    named = glad("toy", "parts/ground_truth", "--no-pictures")  # a folder that is named is meant
    assert "parts/ground_truth/hole/000.jpg" in named.output
    (tmp_path / "parts/test/hole/000.jpg").unlink()
    assert "parts holds no images but masks in ground_truth" in " ".join(glad("toy", "parts").output.split())


def test_a_folder_that_only_has_the_products_name_is_not_taken_for_a_bundle(glad: Glad, photo: Path) -> None:
    Path("toy").mkdir()
    assert glad("toy", photo).exit_code == 0


def test_a_product_is_judged_by_the_thresholds_in_force(glad: Glad, photo: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "data/store")
    at = datetime(2026, 1, 1, tzinfo=UTC)
    store.override("toy", "1", ThresholdOverrides(review=1e-10, fail=1e-9), by="ann", at=at)
    assert glad("toy", photo).output.splitlines()[1].startswith("fail")
    by_folder = glad(tmp_path / "data/store/toy/1", photo)
    assert by_folder.output.splitlines()[1].startswith("review")  # a folder stands for itself, as calibrated


def test_a_bad_file_is_told_and_the_others_are_inspected(glad: Glad, photo: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"not an image")
    done = glad("toy", bad, photo, "--overview", "all.png")
    assert done.exit_code == 1
    assert f"error   {bad}" in done.output
    assert (tmp_path / "inspected/002_photo.png").is_file()
    # One image: four pictures of 256 pixels with gaps of 8, below the titles, 20 pixels, and its verdict, 18 pixels.
    assert _size(tmp_path / "all.png") == (8 + 4 * 264, 20 + 8 + 18 + 264)


@pytest.mark.parametrize("letter", ["n", "ü"], ids=["ASCII", "two bytes each"])
def test_a_very_long_name_costs_neither_verdict_nor_picture(glad: Glad, photo: Path, letter: str) -> None:
    """Of 255 bytes, the longest that a file system takes, with what is put before and behind it 259."""
    long = photo.rename(photo.with_name(letter * (251 // len(letter.encode())) + ".jpg"))
    done = glad("toy", long, long)
    assert done.exit_code == 0, done.output
    assert [line.split()[0] for line in done.output.splitlines()[1:]] == ["review", "review"]
    names = sorted(path.name for path in Path("inspected").iterdir())
    assert [name[:5] for name in names] == [f"001_{letter}", f"002_{letter}"]
    assert all(len(name.encode()) >= 200 for name in names)


def test_a_picture_that_cannot_be_written_does_not_cost_the_verdict(glad: Glad, photo: Path) -> None:
    Path("inspected/001_photo.png").mkdir(parents=True)
    done = glad("toy", photo)
    assert done.exit_code == 1
    assert done.output.splitlines()[1].startswith("review")
    assert f"error   {photo}: inspected, but without its picture: " in done.stderr
    assert glad("toy", photo, "--json", "results.json").exit_code == 1
    (result,) = json.loads(Path("results.json").read_text(encoding="utf-8"))
    assert (result["verdict"], result["error"][:9]) == ("review", "inspected")


def test_a_name_that_is_not_utf8_is_inspected_and_written_down(glad: Glad, photo: Path) -> None:
    odd = photo.rename(photo.with_name(os.fsdecode(b"h\xe4lfte.jpg")))
    done = glad("toy", odd.name, "--json", "results.json")
    assert done.exit_code == 0, done.output
    (result,) = json.loads(Path("results.json").read_text(encoding="utf-8"))
    assert (result["file"], result["verdict"]) == (r"h\xe4lfte.jpg", "review")


def test_an_unknown_product_is_told_in_a_sentence(glad: Glad, photo: Path) -> None:
    done = glad("unheard-of", photo)
    assert done.exit_code == 1
    assert "unheard-of" in done.output
    assert "Traceback" not in done.output


def test_a_bundle_that_is_not_calibrated_gives_no_verdict(glad: Glad, photo: Path, tmp_path: Path) -> None:
    draft = make_tiny_bundle(tmp_path, version="draft", thresholds=None)
    done = glad(draft, photo)
    assert done.exit_code == 1
    assert "run `glad calibrate BUNDLE --data DIR`" in done.output
    assert not Path("inspected").exists()


def test_an_unfit_image_is_for_review_with_the_reason_unless_the_gate_is_off(glad: Glad, tmp_path: Path) -> None:
    store = tmp_path / "data" / "store"
    make_tiny_bundle(store, product="gated", gate=a_gate())
    Image.fromarray(a_part(level=20)).save(tmp_path / "dark.png")
    stopped = glad("gated", "dark.png")
    assert stopped.exit_code == 0, stopped.output
    assert "review  not inspected: too dark: brightness" in stopped.output
    assert "score" not in stopped.output
    Store(store).switch_gate("gated", on=False, by="ann")
    assert "score" in glad("gated", "dark.png").output
