"""An export of Label Studio becomes a data folder: percent, turned boxes, brushes; what cannot be a mask is named."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from glad.brush_masks import encode_brush
from tests.support.label_studio import label_studio_python
from training.cli.data import app
from training.data.annotations.import_truth import BoxUse, ImportedTruth, import_truth
from training.data.annotations.label_studio_files import read_label_studio
from training.data.dataset import DataError, read_mask

WIDTH, HEIGHT = 200, 100
TRUTH = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
TRUTH[10:40, 20:90] = True
TRUTH[20:30, 40:60] = False
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH] + 0.5
EXPORTED_BY_LABEL_STUDIO = """
import json, sys
import numpy as np
from label_studio_sdk.converter import Converter, brush
from label_studio_sdk.label_interface import LabelInterface

config = '''<View><Image name="image" value="$image"/>
<BrushLabels name="mask" toName="image"><Label value="scratch"/></BrushLabels>
<PolygonLabels name="shape" toName="image"><Label value="dent"/></PolygonLabels></View>'''
truth = np.load(sys.argv[1])
height, width = truth.shape
def region(kind, name, **value):
    return {"id": name, "type": kind, "from_name": name, "to_name": "image", "original_width": width,
            "original_height": height, "image_rotation": 0, "value": value}
rle = brush.mask2rle(truth.astype(np.uint8) * 255)
mask = region("brushlabels", "mask", format="rle", rle=rle, brushlabels=["scratch"])
corners = [[10, 10], [50, 10], [50, 60], [10, 60]]
shape = region("polygonlabels", "shape", points=corners, closed=True, polygonlabels=["dent"])
tasks = [
    {"id": number, "data": {"image": f"/data/upload/1/0a1b2c3d-{name}.png"}, "predictions": [],
     "annotations": [{"id": number, "was_cancelled": False, "ground_truth": False, "result": result}]}
    for number, (name, result) in enumerate((("a", [mask]), ("b", [shape]), ("c", [])), start=1)
]
for task in tasks:
    assert LabelInterface(config).validate_annotation(task["annotations"][0])
json.dump(tasks, open(sys.argv[2] + "/tasks.json", "w"))
Converter(config, sys.argv[2]).convert_to_json(sys.argv[2] + "/tasks.json", sys.argv[2] + "/export", is_dir=False)
"""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a", "b", "c"):
        Image.new("L", (WIDTH, HEIGHT), 90).save(folder / f"{name}.png")
    return folder


def region(kind: str, **value: Any) -> dict[str, Any]:
    return {
        "id": "r1",
        "type": kind,
        "from_name": "x",
        "to_name": "image",
        "original_width": WIDTH,
        "original_height": HEIGHT,
        "image_rotation": 0,
        "value": value,
    }


def brush(**more: Any) -> dict[str, Any]:
    return region("brushlabels", format="rle", rle=encode_brush(TRUTH), brushlabels=["scratch"]) | more


def task(results: list[dict[str, Any]], image: str = "/data/upload/1/0a1b2c3d-a.png", **fields: Any) -> dict[str, Any]:
    return {"id": 5, "data": {"image": image}, "annotations": [{"result": results}], **fields}


def imported(tmp_path: Path, *tasks: Any, boxes: BoxUse = BoxUse.LABEL) -> ImportedTruth:
    path = tmp_path / "export.json"
    path.write_text(json.dumps(tasks), encoding="utf-8")
    return import_truth(read_label_studio(path), tmp_path / "photos", tmp_path / "out", boxes)


def mask_of(tmp_path: Path, kind: str = "scratch") -> Any:
    return read_mask(tmp_path / "out" / "ground_truth" / kind / "a_mask.png")


def test_an_export_that_label_studios_own_package_writes_is_read_to_the_pixel(photos: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "truth.npy", TRUTH)
    command: list[str | Path] = [
        label_studio_python(),
        "-c",
        EXPORTED_BY_LABEL_STUDIO,
        tmp_path / "truth.npy",
        tmp_path,
    ]
    made = subprocess.run(command, check=False, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    done = import_truth(read_label_studio(tmp_path / "export" / "result.json"), photos, tmp_path / "out")
    assert dict(done.images) == {"scratch": 1, "dent": 1, "good": 1}
    assert (mask_of(tmp_path) == TRUTH).all()
    expected = np.zeros_like(TRUTH)
    expected[10:60, 20:100] = True  # 10 ... 60 % of the height, 10 ... 50 % of the width
    assert (read_mask(tmp_path / "out/ground_truth/dent/b_mask.png") == expected).all()


@pytest.mark.usefixtures("photos")
def test_a_turned_rectangle_turns_in_pixels_around_its_upper_left_corner(tmp_path: Path) -> None:
    """In percent a turn would be skewed: one per cent of the width is two pixels here, of the height one."""
    turned = region("rectanglelabels", x=50, y=20, width=20, height=10, rotation=30, rectanglelabels=["scratch"])
    imported(tmp_path, task([turned]), boxes=BoxUse.FILL)
    angle = math.radians(30)
    across = (COLUMNS - 100) * math.cos(angle) + (ROWS - 20) * math.sin(angle)
    down = -(COLUMNS - 100) * math.sin(angle) + (ROWS - 20) * math.cos(angle)
    inside = np.minimum.reduce([across, 40 - across, down, 10 - down])  # how far, in pixels
    mask = mask_of(tmp_path)
    assert mask[inside > 1].all()
    assert not mask[inside < -1].any()


@pytest.mark.usefixtures("photos")
def test_an_ellipse_has_its_radii_in_percent_of_width_and_height(tmp_path: Path) -> None:
    imported(tmp_path, task([region("ellipselabels", x=50, y=50, radiusX=10, radiusY=10, ellipselabels=["scratch"])]))
    distance = np.hypot((COLUMNS - 100) / 20, (ROWS - 50) / 10)
    mask = mask_of(tmp_path)
    assert mask[distance < 0.9].all()
    assert not mask[distance > 1.1].any()


@pytest.mark.usefixtures("photos")
def test_a_label_apart_from_its_region_is_found_by_their_id(tmp_path: Path) -> None:
    value = {"format": "rle", "rle": encode_brush(TRUTH)}
    imported(tmp_path, task([region("brush", **value), region("labels", **value, labels=["scratch"])]))
    assert (mask_of(tmp_path) == TRUTH).all()


@pytest.mark.usefixtures("photos")
def test_only_what_somebody_has_looked_at_is_taken_and_the_rest_is_counted(tmp_path: Path) -> None:
    verdict = region("choices", choices=["fail"])
    done = imported(
        tmp_path,
        task([brush(), verdict]),
        task([], "/data/local-files/?d=photos/b.png"),
        {"id": 6, "data": {"image": "c.png"}, "annotations": [], "predictions": [{"result": [brush()]}]},
        {"id": 7, "data": {"image": "c.png"}, "annotations": [{"result": [brush()], "was_cancelled": True}]},
    )
    assert dict(done.images) == {"scratch": 1, "good": 1}
    assert done.notes == (
        "1 results of type choices mark no place",
        "1 tasks without an annotation are left out",
        "1 tasks without an annotation are left out, predictions too",
        f"1 images of {tmp_path / 'photos'} are not named in the annotations",
    )


@pytest.mark.usefixtures("photos")
def test_of_several_annotators_the_one_who_is_marked_as_ground_truth_counts(tmp_path: Path) -> None:
    two: list[dict[str, Any]] = [{"result": []}, {"result": [brush()]}]
    with pytest.raises(DataError, match=r"task 5 .* has 2 annotations.*mark one with the star"):
        imported(tmp_path, task([]) | {"annotations": two})
    two[1]["ground_truth"] = True
    imported(tmp_path, task([]) | {"annotations": two})
    assert (mask_of(tmp_path) == TRUTH).all()


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize(
    ("result", "said"),
    [
        (region("keypointlabels", x=5, y=5, width=1, keypointlabels=["tip"]), "type keypointlabels marks no area"),
        (region("vectorlabels", vertices=[]), "type vectorlabels marks no area"),
        (brush(image_rotation=90), "turned by 90° in the editor: turn the file itself"),
        (brush(original_width=None), "lacks original_width"),
        (brush(original_width=100), "has 80000 values of 8 bits; an image of 100×100 has 40000"),
        (region("brushlabels", format="rle", brushlabels=["scratch"]), "a brush cannot be read .it lacks 'rle'"),
        (region("brushlabels", rle=encode_brush(TRUTH & False), brushlabels=["scratch"]), "a brush marks no pixel"),
        (region("brushlabels", rle=encode_brush(TRUTH)), "a brush has no label"),
        (region("brushlabels", rle=encode_brush(TRUTH), brushlabels=["a", "b"]), "a brush has a, b; it needs one"),
        (region("polygonlabels", points=[[1, 1], [5, 5]], polygonlabels=["scratch"]), "has 2 point"),
        (region("polygonlabels", points=[[1, 1], [500, 5], [7, 7]], polygonlabels=["scratch"]), "1000.0, 5.0 lies out"),
        (region("rectanglelabels", x=5, y="?", width=1, height=1, rectanglelabels=["scratch"]), "cannot be read"),
    ],
    ids=[
        "keypoints", "vectors", "turned in the editor", "no size", "another size", "no run lengths", "no pixel",
        "no label", "two labels", "a line", "outside", "no number",
    ],
)  # fmt: skip
def test_what_cannot_be_a_mask_is_refused_by_its_task(tmp_path: Path, result: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=rf"^task 5 of .*export\.json: .*{said}"):
        imported(tmp_path, task([result]))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([{"id": 1, "image": "a.png", "mask": []}], r"JSON-MIN has not all that is needed.*0\.data: Field required"),
        ({"images": []}, "Input should be a valid (array|list)"),
        ([{"data": {"image": "a.png", "note": 3}, "annotations": [{}]}], r"annotations\.0\.result: Field required"),
    ],
    ids=["JSON-MIN", "COCO", "an annotation without a result"],
)
def test_another_format_is_named(tmp_path: Path, content: object, said: str) -> None:
    path = tmp_path / "export.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match=rf"is no export of Label Studio in the format JSON.*{said}"):
        read_label_studio(path)


@pytest.mark.usefixtures("photos")
def test_a_task_needs_one_image(tmp_path: Path) -> None:
    two = {"data": {"left": "a.png", "right": "b.png"}, "annotations": [{"result": []}]}
    with pytest.raises(DataError, match=r"has 2 images in its `data` \(left, right\), and needs one"):
        imported(tmp_path, two)


@pytest.mark.parametrize(
    "address",
    [
        "a.png", "/data/upload/12/0a1b2c3d-a.png", "/data/local-files/?d=line%203/a.png", "s3://bucket/photos/a.png",
        "https://example.com/photos/a.png?signature=x",
    ],
)  # fmt: skip
@pytest.mark.usefixtures("photos")
def test_an_image_is_found_whatever_its_address_in_label_studio(tmp_path: Path, address: str) -> None:
    assert imported(tmp_path, task([brush()], address)).masks == 1


def test_the_command_imports_and_says_what_comes_next(photos: Path, tmp_path: Path) -> None:
    export, out = tmp_path / "export.json", tmp_path / "out"
    export.write_text(json.dumps([task([brush()])]), encoding="utf-8")
    words = ["import", "label-studio", str(export), "--images", str(photos), "--out", str(out)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert f"     1  masks in {out}/ground_truth" in done.stdout
    assert f"put good images that nothing is trained on into {out}/test/good" in done.stdout
