"""A COCO file becomes a data folder whose masks are those of COCO's own tools; what cannot be a mask is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from typer.testing import CliRunner

from training.cli.data import app
from training.data import dataset as data
from training.data.annotations.coco_files import read_coco
from training.data.annotations.import_truth import BoxUse, ImportedTruth, import_truth
from training.data.dataset import DataError, read_mask

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
"""pycocotools' `decode`, which the product does not call, is behind NumPy 2.4."""
WIDTH, HEIGHT = 40, 30
TRUTH = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
TRUTH[10:14, 20:25] = True
TRUTH[3, 3] = TRUTH[12, 22] = True
TRUTH[11, 21] = False
"""A region with a hole, and a single pixel apart."""
POLYGON = [5.0, 5.0, 15.0, 6.0, 10.0, 20.0]
SCRATCH, DENT = {"id": 1, "name": "scratch"}, {"id": 2, "name": "dent"}


def rle(mask: NDArray[np.bool_], *, compressed: bool = True) -> dict[str, Any]:
    """The mask as COCO's own tools write it."""
    if not compressed:
        flat = mask.T.ravel()
        ends = np.flatnonzero(np.diff(flat.astype(np.int8))) + 1
        lengths = np.diff([0, *ends, flat.size]).tolist()
        return {"size": list(mask.shape), "counts": [0, *lengths] if flat[0] else lengths}
    encoded = coco_masks.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode()}


def annotation(image: int = 1, category: int = 1, **fields: Any) -> dict[str, Any]:
    return {"id": 7, "image_id": image, "category_id": category, "iscrowd": 0, **fields}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "b.png", "c.jpg"):
        pixels = np.random.Generator(np.random.Philox(ord(name[0]))).integers(0, 256, (HEIGHT, WIDTH, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
    return folder


def written(folder: Path, annotations: list[dict[str, Any]], **fields: Any) -> Path:
    """A COCO file of the photos."""
    images = [
        {"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT}
        for number, name in enumerate(("a.png", "b.png", "c.jpg"), start=1)
    ]
    content = {"images": images, "categories": [SCRATCH, DENT], "annotations": annotations, **fields}
    path = folder / "instances.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def imported(path: Path, photos: Path, boxes: BoxUse = BoxUse.LABEL) -> ImportedTruth:
    return import_truth(read_coco(path), photos, path.parent / "out", boxes)


@pytest.mark.parametrize("compressed", [True, False], ids=["compressed", "lists of lengths"])
def test_a_truth_goes_through_coco_and_back_to_the_pixel(photos: Path, tmp_path: Path, compressed: bool) -> None:
    inverse = np.zeros_like(TRUTH)
    inverse[0, 0] = inverse[20:25, :5] = True  # its run lengths begin with 0
    content = [
        annotation(segmentation=rle(TRUTH, compressed=compressed)),
        annotation(2, segmentation=rle(inverse, compressed=compressed)),
    ]
    done = imported(written(tmp_path, content), photos)
    assert (dict(done.images), done.masks) == ({"scratch": 2, "good": 1}, 2)
    masks = tmp_path / "out" / "ground_truth" / "scratch"
    assert (read_mask(masks / "a_mask.png") == TRUTH).all()
    assert (read_mask(masks / "b_mask.png") == inverse).all()
    found = data.test_images(tmp_path / "out")
    assert [(one.path.name, one.defect) for one in found] == [
        ("c.jpg", "good"),
        ("a.png", "scratch"),
        ("b.png", "scratch"),
    ]
    assert (tmp_path / "out/test/good/c.jpg").read_bytes() == (photos / "c.jpg").read_bytes()


@pytest.mark.parametrize(
    "segmentation",
    [
        [POLYGON],
        [POLYGON, [20.5, 20.5, 39.9, 21.0, 38.0, 29.9, 25.0, 28.0]],
        [[-1.0, -1.0, 12.0, -0.5, 8.0, 9.0]],
        rle(TRUTH),
    ],
    ids=["a polygon", "two polygons", "a little outside", "run lengths"],
)
def test_a_mask_is_the_one_that_cocos_own_tools_make(photos: Path, tmp_path: Path, segmentation: Any) -> None:
    path = written(tmp_path, [annotation(segmentation=segmentation)])
    coco = COCO(str(path))
    imported(path, photos)
    mask = read_mask(tmp_path / "out/ground_truth/scratch/a_mask.png")
    assert mask.any()
    if isinstance(segmentation, dict) or min(min(one) for one in segmentation) >= 0:
        assert (mask == coco.annToMask(coco.anns[7]).astype(bool)).all()


def test_an_image_of_two_kinds_belongs_to_the_larger_and_its_mask_has_both(photos: Path, tmp_path: Path) -> None:
    small, large = np.zeros_like(TRUTH), np.zeros_like(TRUTH)
    small[0, :3], large[20:25, 20:30] = True, True
    content = [annotation(segmentation=rle(small)), annotation(category=2, segmentation=rle(large), id=8)]
    done = imported(written(tmp_path, content), photos)
    assert done.images["dent"] == 1
    assert (read_mask(tmp_path / "out/ground_truth/dent/a_mask.png") == small | large).all()


def test_crowds_count_as_their_mask(photos: Path, tmp_path: Path) -> None:
    imported(written(tmp_path, [annotation(iscrowd=1, segmentation=rle(TRUTH, compressed=False))]), photos)
    assert (read_mask(tmp_path / "out/ground_truth/scratch/a_mask.png") == TRUTH).all()


def test_a_box_alone_labels_its_image_and_fills_a_mask_only_where_that_is_asked_for(
    photos: Path, tmp_path: Path
) -> None:
    path = written(tmp_path, [annotation(bbox=[10, 5, 6, 4], segmentation=[])])
    assert imported(path, photos).masks == 0
    assert [one.mask for one in data.test_images(tmp_path / "out") if one.defect == "scratch"] == [None]
    filled = import_truth(read_coco(path), photos, tmp_path / "filled", BoxUse.FILL)
    assert filled.masks == 1
    expected = np.zeros_like(TRUTH)
    expected[5:9, 10:16] = True
    assert (read_mask(tmp_path / "filled/ground_truth/scratch/a_mask.png") == expected).all()


A = {"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}
HOLE = [[2.0, 2, 30, 2, 30, 25, 2, 25], [10.0, 10, 20, 10, 20, 20, 10, 20]]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"segmentation": HOLE}, "one of its polygons lies inside another.*brush"),
        ({"segmentation": [[1, 1, 5, 5]]}, r"a polygon has 2 point\(s\), and needs 3"),
        ({"segmentation": [[1, 1, 5, 5, 3, 8, 2]]}, "a polygon has 7 numbers"),
        ({"segmentation": [[1, 1, 900, 1, 9, 9]]}, r"the point 900\.0, 1\.0 lies outside .* 40×30"),
        ({"segmentation": [[0, 0, 1e12, 0, 1e12, 10]]}, "lies outside"),
        ({"segmentation": {"size": [WIDTH, HEIGHT], "counts": [1200]}}, "its mask is 30×40, its image 40×30"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": [5, 5]}}, "its run lengths are not those of an image"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": ""}}, "its run lengths are not those of an image"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": "zzz"}}, "its run lengths are not those of an image"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": [1200]}}, "it marks no pixel"),
        ({"keypoints": [3, 4, 2], "num_keypoints": 1}, "it has keypoints alone: mark the defect's area"),
        ({}, "neither segmentation nor bbox"),
        ({"bbox": [5, 5, 8, 4, 30]}, "it is a turned box, which COCO has no form for"),
        ({"bbox": [5, 5, 8, 4], "attributes": {"rotation": 30.0}}, "it is a turned box"),
        ({"category": 9, "bbox": [5, 5, 8, 4]}, r"of category 9; `categories` has 1 \(scratch\), 2 \(dent\)"),
        ({"image": 9, "bbox": [5, 5, 8, 4]}, "of image 9, which `images` does not list"),
    ],
    ids=[
        "a hole", "a line", "odd numbers", "outside", "far outside", "of another size", "run lengths too short",
        "no run lengths", "run lengths that are none", "no pixel", "keypoints", "nothing", "a box of five numbers",
        "a box turned by an attribute", "category unknown", "image unknown",
    ],
)  # fmt: skip
def test_what_cannot_be_a_mask_is_refused_by_its_annotation(
    photos: Path, tmp_path: Path, given: dict[str, Any], said: str
) -> None:
    path = written(tmp_path, [annotation(**given)])
    with pytest.raises(DataError, match=rf"^annotation 7 of .*instances\.json.*{said}"):
        imported(path, photos)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "COCO's .*results.* are; give the file with `images`"),
        ({"images": [], "categories": []}, "annotations: Field required"),
        ({"images": [{"id": 1, "file_name": "a.png"}], "categories": [], "annotations": []}, r"images\.0\.width"),
        ({"images": [], "categories": [], "annotations": []}, "name no image"),
        ({"images": [A, A], "categories": [], "annotations": []}, "two images of one id"),
        ("{", "Invalid JSON"),
    ],
    ids=["results", "without annotations", "an image without its size", "nothing", "one id", "no JSON"],
)
def test_a_file_that_is_no_coco_file_says_what_it_lacks(
    photos: Path, tmp_path: Path, content: object, said: str
) -> None:
    path = tmp_path / "instances.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match=said):
        imported(path, photos)


def test_the_command_says_what_it_wrote_and_what_took_no_part(photos: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(photos / "unnamed.png")
    path = written(tmp_path, [annotation(segmentation=rle(TRUTH))])
    words = ["import", "coco", str(path), "--images", str(photos), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert f"     2  {tmp_path}/out/test/good" in done.stdout
    assert f"     1  {tmp_path}/out/test/scratch" in done.stdout
    assert "no annotation is of dent" in done.stderr
    assert f"1 images of {photos} are not named" in done.stderr
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 1
    assert "exists already" in again.stderr
    unknown = CliRunner().invoke(app, [*words, "--boxes", "maybe"])
    assert "give label or fill" in unknown.stderr
