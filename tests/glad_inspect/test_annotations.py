"""Results for annotation tools: opened by pycocotools and by Label Studio's own package, equal to the pixel."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO
from typer.testing import CliRunner

import glad_inspect as glad
from glad.brush_masks import decode_brush, encode_brush
from glad_inspect import CocoExport, label_studio_task
from glad_inspect.annotations import LABELLING
from glad_inspect.cli import inspect
from tests.support.gates import a_gate
from tests.support.label_studio import label_studio_python
from tests.support.tiny_bundle import make_tiny_bundle

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
"""pycocotools' `decode`, which the product does not call, is behind NumPy 2.4."""
WIDTH, HEIGHT = 90, 60
PIXELS = np.random.Generator(np.random.Philox(1)).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
OPENED_BY_LABEL_STUDIO = """
import json, sys
import numpy as np
from label_studio_sdk.converter import brush
from label_studio_sdk.label_interface import LabelInterface

tasks, labelling = json.load(open(sys.argv[1])), open(sys.argv[2]).read()
interface = LabelInterface(labelling)
interface.validate()
(prediction,) = tasks[0]["predictions"]
problems = interface.validate_prediction(prediction, return_errors=True)
assert problems == [], problems
masks = [one["value"]["rle"] for one in prediction["result"] if one["type"] == "brushlabels"]
shape = prediction["result"][0]["original_height"], prediction["result"][0]["original_width"], 4
np.save(sys.argv[3], np.array([np.reshape(brush.decode_rle(one), shape)[:, :, 3] > 0 for one in masks]))
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of `toy`, whose pixel threshold cuts the noise into many regions, and of `gated`, which refuses it."""
    folder = tmp_path_factory.mktemp("annotations") / "store"
    make_tiny_bundle(folder, thresholds=(1e-9, 1e9, 1.0))
    make_tiny_bundle(folder, product="gated", gate=a_gate())
    plane = glad.load("toy", store=folder, device="cpu")(PIXELS).anomaly_map
    assert plane is not None
    make_tiny_bundle(folder, version="2", thresholds=(1e-9, 1e9, float(np.quantile(plane, 0.95))))
    return folder


@pytest.fixture(scope="module")
def result(store: Path) -> glad.InspectionResult:
    found = glad.load("toy", version="2", store=store, device="cpu")(PIXELS)
    assert len(found.regions) > 1, "one region would not tell their order"
    return found


@pytest.fixture(scope="module")
def unfit(store: Path) -> glad.InspectionResult:
    found = glad.load("gated", store=store, device="cpu")(np.zeros_like(PIXELS))
    assert not found.quality.passed
    return found


def _mask(result: glad.InspectionResult) -> NDArray[np.bool_]:
    assert result.mask is not None
    return np.asarray(result.mask) > 0


def _coco(path: Path, *results: glad.InspectionResult) -> COCO:
    export = CocoExport()
    for number, one in enumerate(results):
        export.add(f"photos/{number}.png", one)
    path.write_text(json.dumps(export.to_dict()), encoding="utf-8")
    return COCO(str(path))


def test_pycocotools_finds_in_a_coco_export_the_pixels_of_the_mask(
    result: glad.InspectionResult, tmp_path: Path
) -> None:
    coco = _coco(tmp_path / "results.json", result)
    annotations = coco.loadAnns(coco.getAnnIds(imgIds=[1]))
    masks = [coco.annToMask(one).astype(bool) for one in annotations]
    assert (np.logical_or.reduce(masks) == _mask(result)).all()
    assert sum(mask.sum() for mask in masks) == _mask(result).sum(), "no pixel belongs to two regions"
    for one, mask in zip(annotations, masks, strict=True):
        rows, columns = np.nonzero(mask)
        left, top = columns.min(), rows.min()
        assert one["bbox"] == [left, top, columns.max() + 1 - left, rows.max() + 1 - top]
        assert one["area"] == mask.sum()
        assert result.anomaly_map is not None
        assert one["score"] == pytest.approx(result.anomaly_map[mask].max())


def test_the_annotations_of_a_coco_export_are_cocos_results_too(result: glad.InspectionResult, tmp_path: Path) -> None:
    coco = _coco(tmp_path / "results.json", result)
    loaded = coco.loadRes(coco.dataset["annotations"])
    assert loaded.getImgIds() == [1]
    assert [one["score"] for one in loaded.dataset["annotations"]] == [one["score"] for one in coco.anns.values()]


def test_each_image_of_a_coco_export_has_its_verdict_and_an_unfit_one_no_region(
    result: glad.InspectionResult, unfit: glad.InspectionResult, tmp_path: Path
) -> None:
    coco = _coco(tmp_path / "results.json", unfit, result)
    first, second = coco.loadImgs([1, 2])
    assert (first["verdict"], first["score"], coco.getAnnIds(imgIds=[1])) == ("review", None, [])
    assert (second["file_name"], second["width"], second["height"]) == ("photos/1.png", WIDTH, HEIGHT)
    assert second["score"] == result.score
    assert len(coco.getAnnIds(imgIds=[2])) > 1


def test_label_studios_own_package_takes_a_task_and_finds_the_pixels_of_the_mask(
    result: glad.InspectionResult, tmp_path: Path
) -> None:
    python = label_studio_python()
    tasks, labelling, masks = tmp_path / "tasks.json", tmp_path / "labelling.xml", tmp_path / "masks.npy"
    tasks.write_text(json.dumps([label_studio_task("photos/0.png", result)]), encoding="utf-8")
    labelling.write_text(LABELLING, encoding="utf-8")
    command: list[str | Path] = [python, "-c", OPENED_BY_LABEL_STUDIO, tasks, labelling, masks]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    opened = np.load(masks)
    assert len(opened) > 1
    assert (np.logical_or.reduce(opened) == _mask(result)).all()


def test_a_task_of_label_studio_has_the_verdict_and_an_unfit_image_no_score(
    result: glad.InspectionResult, unfit: glad.InspectionResult
) -> None:
    (prediction,) = label_studio_task("a.png", result)["predictions"]
    verdict, *regions = prediction["result"]
    assert verdict["value"] == {"choices": ["review"]}
    assert prediction["score"] == result.calibrated_score
    masks = [decode_brush(one["value"]["rle"], WIDTH, HEIGHT) for one in regions]
    assert (np.logical_or.reduce(masks) == _mask(result)).all()
    (without,) = label_studio_task("a.png", unfit)["predictions"]
    assert ("score" in without, len(without["result"])) == (False, 1)


def test_an_export_is_the_same_whenever_it_is_made(result: glad.InspectionResult) -> None:
    first, again = (json.dumps(label_studio_task("a.png", result)) for _ in range(2))
    assert first == again, "else each import into Label Studio would make new regions"


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (37, 41)], ids=["a pixel", "a row", "odd sides"])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_brush_mask_comes_back_as_it_was(shape: tuple[int, int], share: float) -> None:
    mask = np.random.Generator(np.random.Philox(2)).random(shape) < share
    assert (decode_brush(encode_brush(mask), shape[1], shape[0]) == mask).all()


def test_a_run_longer_than_any_width_holds_is_split() -> None:
    """The longest of a run is 2^16 values, of four to a pixel: 16,384 pixels."""
    mask = np.zeros((200, 300), dtype=np.bool_)
    mask[:100] = True
    assert (decode_brush(encode_brush(mask), 300, 200) == mask).all()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda rle: rle[:-4], "go beyond"),
        (lambda rle: rle[:3], "less than its head"),
        (lambda rle: [0, 0, 0, 8, *rle[4:]], "has 8 values"),
    ],
    ids=["cut off", "cut off in its head", "of another size"],
)
def test_a_damaged_brush_mask_is_an_error(spoil: Callable[[list[int]], list[int]], said: str) -> None:
    mask = np.random.Generator(np.random.Philox(2)).random((20, 30)) < 0.5
    with pytest.raises(ValueError, match=said):
        decode_brush(spoil(encode_brush(mask)), 30, 20)


def test_the_command_writes_both_files_with_every_image_that_was_inspected(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for name in ("a", "b"):
        Image.fromarray(PIXELS).save(f"photos/{name}.png")
    Path("photos/bad.png").write_bytes(b"not an image")
    app = typer.Typer()
    app.command()(inspect)
    words: list[Any] = ["toy", "photos", "--store", store, "--no-pictures", "--coco", "out/coco.json"]
    words += ["--label-studio", "out/tasks.json", "--address-prefix", "/data/local-files/?d="]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 1, "one image is none"
    coco = COCO("out/coco.json")
    assert [one["file_name"] for one in coco.dataset["images"]] == ["photos/a.png", "photos/b.png"]
    tasks = json.loads(Path("out/tasks.json").read_text(encoding="utf-8"))
    assert [one["data"]["image"] for one in tasks] == [
        "/data/local-files/?d=photos/a.png",
        "/data/local-files/?d=photos/b.png",
    ]
