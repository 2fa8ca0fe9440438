"""The pictures of an inspection: drawn by the worker at once, or by the API when somebody asks for one.

Of a part that passes hardly anybody looks at pictures, and to draw and store them costs as much as to inspect it. Where
its product draws them on demand, the worker stores a `Drawing` alone. What is drawn of it is stored too: it is drawn
once. The reconstruction is the models' work and not in it: see `service.queue.picture_requests`.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeGuard

import numpy as np
from numpy.typing import NDArray

from glad.image_codec import Pixels, downscale, to_png
from glad.images.rendering import heat_layer, heatmap, mask, overlay, reduced

OVERLAY_SIDE_PX = 1024
"""The longer side of the picture under the overlay: sharp enough to recognise the part, small enough to send."""

PREVIEW_SIDE_PX = 1600
"""The longer side of `preview.jpg`: a part on a large screen."""
THUMBNAIL_SIDE_PX = 200

DrawnName = Literal["heatmap.png", "overlay.png", "mask.png", "map.npy"]
DRAWN_NAMES: tuple[DrawnName, ...] = ("heatmap.png", "overlay.png", "mask.png", "map.npy")
"""The artifacts that a drawing gives."""


def is_drawn(name: str) -> TypeGuard[DrawnName]:
    """Return whether a drawing gives the artifact of this name."""
    return name in DRAWN_NAMES


@dataclass(frozen=True, eq=False)
class Drawing:
    """What an inspection's pictures are drawn from, beside its image."""

    map: NDArray[np.float32]
    """(H, W), in the original's aspect."""
    top: float
    """The map value of the hottest colour: `VerdictThresholds.heatmap_top` of the bundle."""
    threshold: float
    """The map value from which a pixel is defective, as it was in force."""

    @cached_property
    def shown(self) -> NDArray[np.float32]:
        """The map as pictures show it: at most `glad.images.rendering.LONGEST_PX` long."""
        return reduced(self.map)

    def to_bytes(self) -> bytes:
        """Return the file that is stored: half the map's bytes, because its values are rounded to float16.

        A value beyond float16's range becomes its largest one.
        """
        largest = float(np.finfo(np.float16).max)
        rounded = np.clip(self.map, -largest, largest).astype(np.float16)
        target = io.BytesIO()
        np.savez(target, map=rounded, top=np.float64(self.top), threshold=np.float64(self.threshold))
        return target.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Drawing:
        """Return the drawing in a stored file.

        Raises:
            ValueError: if it is none.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as stored:
                values = stored["map"].astype(np.float32)
                return cls(values, float(stored["top"]), float(stored["threshold"]))
        except (KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"not a drawing: {error}") from error

    def draw_heat(self) -> bytes:
        """Return the file of `heat.png`."""
        return to_png(heat_layer(heatmap(self.shown, self.top), mask(self.shown, self.threshold)))

    def draw(self, name: DrawnName, original: Pixels | None = None) -> bytes:
        """Return one artifact's file.

        The map is whole. The scale of the heat is fixed by
        the bundle's calibration, so that two pictures of a product can be compared.

        Args:
            name: of the artifact.
            original: the part, upright, (H, W, 3), of the original or its `overlay_ground`; only the overlay needs it.

        Raises:
            ValueError: for an overlay without the original.
        """
        match name:
            case "heatmap.png":
                return to_png(heatmap(self.shown, self.top))
            case "mask.png":
                return to_png(mask(self.shown, self.threshold))
            case "map.npy":
                return to_npy(self.map)
            case "overlay.png":
                if original is None:
                    raise ValueError("an overlay is drawn on the original image: give it")
                return to_png(overlay(overlay_ground(original), self.shown, self.top, threshold=self.threshold))


def overlay_ground(original: Pixels) -> Pixels:
    """Return the image (H, W, 3), made smaller if it is longer than `OVERLAY_SIDE_PX`."""
    return downscale(original, OVERLAY_SIDE_PX)


def to_npy(values: NDArray[np.float32]) -> bytes:
    """Return an array as the bytes of a .npy file."""
    target = io.BytesIO()
    np.save(target, values, allow_pickle=False)
    return target.getvalue()
