"""Results as annotation tools read them: COCO, and tasks of Label Studio with predictions.

Regions are the connected areas of the mask at the original's size, so each box is that of its mask, to the pixel; the
boxes of `InspectionResult.regions` are found at the model's scale, and may be larger by a few pixels.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glad.brush_masks import encode_brush
from glad.images.rendering import RegionMask, region_masks

if TYPE_CHECKING:
    from glad_inspect.result import InspectionResult

CATEGORY = "defect"
"""Of every region: the method finds defects, and has no names for kinds of them."""
LABELLING = """\
<View>
  <Image name="image" value="$image"/>
  <BrushLabels name="mask" toName="image"><Label value="defect"/></BrushLabels>
  <Choices name="verdict" toName="image"><Choice value="pass"/><Choice value="review"/><Choice value="fail"/></Choices>
</View>
"""
"""A labelling interface of Label Studio that shows these tasks."""


@dataclass
class CocoExport:
    """A COCO file that grows image by image. Needs the extra [formats]."""

    _images: list[dict[str, Any]] = field(default_factory=list)
    _annotations: list[dict[str, Any]] = field(default_factory=list)
    _product: str = ""

    def add(self, file_name: str, result: InspectionResult) -> None:
        """Add an image: its verdict and score, and an annotation with box, mask and peak for each region."""
        from pycocotools import mask as coco_masks

        height, width = result.original.shape[:2]
        image_id = len(self._images) + 1
        self._product = f"{result.inspected_with.product} {result.inspected_with.version}"
        scores = {"score": result.score, "calibrated_score": result.calibrated_score}
        image = {"id": image_id, "file_name": file_name, "width": width, "height": height}
        self._images.append({**image, "verdict": str(result.verdict), **scores})
        for found in _regions(result):
            mask = np.asfortranarray(_whole(found, width, height), dtype=np.uint8)
            encoded = coco_masks.encode(mask)
            self._annotations.append(
                {
                    "id": len(self._annotations) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "iscrowd": 0,
                    "bbox": list(found.region.box),
                    "area": found.region.area_px,
                    "segmentation": {"size": [height, width], "counts": encoded["counts"].decode("ascii")},
                    "score": found.region.peak,
                }
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the file's content. A region's `score` is its peak, the highest value of the anomaly map inside."""
        return {
            "info": {"description": f"inspected by {self._product}" if self._product else "nothing was inspected"},
            "licenses": [],
            "categories": [{"id": 1, "name": CATEGORY, "supercategory": ""}],
            "images": self._images,
            "annotations": self._annotations,
        }


def label_studio_task(address: str, result: InspectionResult) -> dict[str, Any]:
    """Return a task of Label Studio with a prediction: the verdict, and a brush mask for each region.

    `LABELLING` is a labelling interface for it.

    Args:
        address: where Label Studio finds the image, such as `/data/local-files/?d=photos/part.png`.
    """
    height, width = result.original.shape[:2]
    size = {"original_width": width, "original_height": height, "image_rotation": 0}
    common = {"to_name": "image", **size}
    found: list[dict[str, Any]] = [
        {"id": "verdict", "type": "choices", "from_name": "verdict", "value": {"choices": [str(result.verdict)]}},
        *(
            {
                "id": _id(address, number),
                "type": "brushlabels",
                "from_name": "mask",
                "score": one.region.peak,
                "value": {
                    "format": "rle",
                    "rle": encode_brush(_whole(one, width, height)),
                    "brushlabels": [CATEGORY],
                },
            }
            for number, one in enumerate(_regions(result))
        ),
    ]
    of = result.inspected_with
    prediction: dict[str, Any] = {
        "model_version": f"{of.product}/{of.version}",
        "result": [{**one, **common} for one in found],
    }
    if result.calibrated_score is not None:
        prediction["score"] = result.calibrated_score
    return {"data": {"image": address}, "predictions": [prediction]}


def _regions(result: InspectionResult) -> list[RegionMask]:
    if result.anomaly_map is None:  # an unfit image has none
        return []
    return region_masks(result.anomaly_map, result.inspected_with.thresholds.pixel)


def _whole(found: RegionMask, width: int, height: int) -> NDArray[np.bool_]:
    """Return a region's mask at the image's size."""
    x, y, across, down = found.region.box
    mask = np.zeros((height, width), dtype=np.bool_)
    mask[y : y + down, x : x + across] = found.inside
    return mask


def _id(address: str, number: int) -> str:
    """Return an id that is the same whenever the same image is exported."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"{address}#{number}").hex[:10]
