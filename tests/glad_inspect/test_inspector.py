"""The public door: five lines judge an image, as the service judges it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import glad_inspect as glad
from glad.image_codec import ImageError, decode_image, to_png
from glad_inspect.inspector import read_pixels
from model_store.errors import NoSuchBundle, StoreError
from model_store.manifest import Verdict
from tests.support.gates import a_gate, a_part
from tests.support.tiny_bundle import make_tiny_bundle

PIXELS = np.random.Generator(np.random.Philox(1)).integers(0, 256, (60, 90, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of the product `toy`, whose parts are all for review, and of `gated`, which has a quality gate."""
    folder = tmp_path_factory.mktemp("door") / "store"
    make_tiny_bundle(folder, thresholds=(1e-9, 1e9, 1e-3))
    make_tiny_bundle(folder, product="gated", gate=a_gate())
    return folder


@pytest.fixture(scope="module")
def inspector(store: Path) -> glad.Inspector:
    return glad.load("toy", store=store, device="cpu")


def test_a_result_tells_verdict_score_regions_and_quality(inspector: glad.Inspector, tmp_path: Path) -> None:
    path = tmp_path / "part.png"
    path.write_bytes(to_png(PIXELS))
    result = inspector(path)
    assert (result.verdict, result.quality) == (Verdict.REVIEW, glad.ImageQuality(passed=True))
    assert result.score is not None
    assert result.score > 0
    assert result.calibrated_score == pytest.approx(result.score / (result.score + 1e9))
    for region in result.regions:
        x, y, width, height = region.box
        assert 0 <= x < x + width <= 90
        assert 0 <= y < y + height <= 60
    assert result.regions[0].peak == max(region.peak for region in result.regions)


def test_pictures_and_map_have_the_originals_size(inspector: glad.Inspector, tmp_path: Path) -> None:
    result = inspector(PIXELS)
    assert result.anomaly_map is not None
    assert result.anomaly_map.shape == (60, 90)
    assert result.anomaly_map.dtype == np.float32
    for picture in (result.overlay, result.heatmap, result.mask, result.reconstruction):
        assert picture is not None
        assert picture.size == (90, 60)
    assert result.overlay is not None
    result.overlay.save(tmp_path / "overlay.png")
    assert decode_image((tmp_path / "overlay.png").read_bytes()).pixels.shape == (60, 90, 3)


def _written(folder: Path) -> Path:
    path = folder / "part.bmp"
    path.write_bytes(_stored("BMP"))
    return path


def _stored(kind: str, pixels: Any = PIXELS) -> bytes:
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, format=kind)
    return target.getvalue()


@pytest.mark.parametrize(
    "form",
    [
        lambda folder: _stored("PNG"),
        lambda folder: PIXELS,
        lambda folder: Image.fromarray(PIXELS),
        lambda folder: Image.fromarray(PIXELS).convert("RGBA"),
        _written,
        lambda folder: str(_written(folder)),
    ],
    ids=["bytes", "array", "PIL", "PIL with alpha", "path", "text"],
)
def test_an_image_may_come_in_any_form(form: Callable[[Path], Any], inspector: glad.Inspector, tmp_path: Path) -> None:
    assert np.array_equal(read_pixels(form(tmp_path)), PIXELS)
    assert inspector(form(tmp_path)).score == inspector(PIXELS).score


def test_grey_arrays_and_rotated_pictures_mean_what_they_do_in_files() -> None:
    grey = PIXELS[:, :, 0]
    assert np.array_equal(read_pixels(grey), np.stack([grey] * 3, axis=2))
    turned = Image.fromarray(PIXELS)
    turned.getexif()[0x0112] = 6  # to be shown turned by 90° clockwise
    assert np.array_equal(read_pixels(turned), np.rot90(PIXELS, k=-1))
    sixteen = Image.fromarray(grey.astype(np.uint16) * 257)
    assert np.array_equal(read_pixels(sixteen), read_pixels(grey))


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (PIXELS.astype(np.float32) / 255, ValueError, r"float32 \(60, 90, 3\): give uint8"),
        (PIXELS.transpose(2, 0, 1), ValueError, r"uint8 \(3, 60, 90\)"),
        (np.zeros((0, 4, 3), np.uint8), ValueError, "no pixels"),
        (Image.new("F", (4, 4)), ValueError, "mode F"),
        (b"no image", ImageError, "Allowed are JPEG"),
        (17, TypeError, "an image is int"),
        ("missing.png", FileNotFoundError, "missing.png"),
    ],
)
def test_what_is_no_image_is_refused_with_what_was_given(given: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        read_pixels(given)


def test_many_images_come_in_their_order_and_alone_each_is_the_same(inspector: glad.Inspector) -> None:
    images = [np.roll(PIXELS, by, axis=1) for by in range(5)]
    together = [result.score for result in inspector.map(images, batch_size=2)]
    assert together == [inspector(image).score for image in images]
    assert len(set(together)) == 5
    with pytest.raises(ValueError, match="batch_size is 0"):
        next(inspector.map(images, batch_size=0))


def test_an_unfit_image_is_for_review_without_a_score_also_among_others(store: Path) -> None:
    gated = glad.load("gated", store=store, device="cpu")
    dark, fit, again = gated.map([a_part(level=20), a_part(), a_part(level=20)])
    assert (dark.verdict, dark.score, dark.regions, dark.overlay, dark.anomaly_map) == (
        Verdict.REVIEW,
        None,
        (),
        None,
        None,
    )
    assert [str(reason.check) for reason in dark.quality.reasons] == ["too_dark"]
    assert dark.quality == again.quality
    assert fit.quality.passed
    assert fit.score is not None
    assert dark.to_dict()["quality"]["reasons"][0]["check"] == "too_dark"


def test_a_result_speaks_the_words_of_the_rest_contract(inspector: glad.Inspector) -> None:
    from service.contract import Result

    told = json.loads(inspector(PIXELS).to_json())
    contract = set(Result.model_fields)
    assert set(told) - contract == {"pixels_sha256"}  # of the pixels: a file may not have been at hand
    assert told["verdict"] == "review"
    assert (told["width"], told["height"], told["bundle"]["version"]) == (90, 60, "1")
    assert told["regions"] == [
        {"box": list(one.box), "area_px": one.area_px, "peak": one.peak} for one in inspector(PIXELS).regions
    ]


def test_a_folder_and_a_product_are_told_apart(store: Path, tmp_path: Path) -> None:
    by_folder = glad.load(store / "toy" / "1", device="cpu")
    assert by_folder(PIXELS).score == glad.load("toy", store=store, device="cpu")(PIXELS).score
    with pytest.raises(ValueError, match="leave version out"):
        glad.load(store / "toy" / "1", version="1")
    with pytest.raises(NoSuchBundle, match="is no bundle"):
        glad.load(tmp_path)
    with pytest.raises(StoreError, match="unheard"):
        glad.load("unheard", store=store)
    with pytest.raises(ValueError, match="GLAD_ENGINE is 'fast'"):
        glad.load("toy", store=store, engine="fast")


def test_importing_the_door_imports_no_torch_and_none_of_the_service() -> None:
    code = (
        "import sys, glad_inspect; "
        "print(sorted(m for m in sys.modules if m.split('.')[0] in {'torch', 'service', 'training', 'onnxruntime'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_packages_of_the_users_that_are_called_like_ours_do_not_matter(store: Path, tmp_path: Path) -> None:
    for name in ("service", "training", "bench"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('this is the user\\'s own')\n")
    (tmp_path / "part.png").write_bytes(to_png(PIXELS))
    code = f"import glad_inspect as glad; print(glad.load('toy', store={str(store)!r})('part.png').verdict)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout.strip() == "review", done.stderr
