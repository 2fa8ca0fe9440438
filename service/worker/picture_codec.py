"""Image files to model inputs before the device, maps to pictures after it. Pure functions: no device.

Pillow and NumPy release the interpreter's lock in their heavy parts, so these run beside the device loop.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from glad.image_codec import DecodedImage, Pixels, decode_image, to_png
from glad.images.rendering import DefectRegion, defect_regions, hottest_place
from glad.images.tiling import FramedImage, ModelInput, frame
from glad.quality_gate.limits import GateMeasures, QualityGate, Unfit, check_limits
from glad.quality_gate.measure import gate_measures, measure_quality
from service.contract import DRAWING, RECONSTRUCTION, ArtifactName, HottestPlace, StoredName
from service.storage.pictures import DRAWN_NAMES, Drawing, overlay_ground
from service.worker.bundle_cache import LoadedBundle


class Decode(Protocol):
    """What `decode_image` does, wherever it is done."""

    def __call__(self, data: bytes, *, max_pixels: int, intact: bool) -> DecodedImage:
        """Return the decoded file."""


@dataclass(frozen=True, eq=False)
class PreparedInspection:
    """A decoded image and its framing: ready for its lanes."""

    bundle: LoadedBundle
    framed: FramedImage
    overlay_ground: Pixels
    """The upright original, at most `service.storage.pictures.OVERLAY_SIDE_PX` a side."""
    decode_ms: float
    single: ModelInput | None
    """What the models take of an image of one tile, cut already; of one with many each is cut when it has a lane."""
    unfit: tuple[Unfit, ...] = ()
    """Why the quality gate stops it; () if it is fit or no gate was asked."""
    measures: GateMeasures | None = None
    """What the gate measured; None if no gate was asked."""


@dataclass(frozen=True, eq=False)
class RenderedPictures:
    """The files and defect regions of one inspection."""

    regions: tuple[DefectRegion, ...]
    hottest: HottestPlace
    files: dict[StoredName, bytes]
    """Name -> content, of what is stored."""
    artifacts: tuple[ArtifactName, ...]
    """What clients may ask for: some of it may be drawn when they do."""


def prepare_inspection(
    data: bytes,
    bundle: LoadedBundle,
    max_pixels: int,
    gate: QualityGate | None = None,
    *,
    decode: Decode = decode_image,
) -> PreparedInspection:
    """Decode and frame an image file, and measure it for the quality gate.

    Args:
        max_pixels: a larger image is refused before it is decoded.
        gate: limits that the image must keep to be inspected; None: it is not measured.
        decode: decodes the file, here or in another process.

    Raises:
        ImageError: if the file does not decode.
        NothingCounts: if the bundle's zones leave nothing to inspect.
        PlaneTooLarge: if the image has too many tiles.
    """
    began = time.perf_counter()
    original = decode(data, max_pixels=max_pixels, intact=False).pixels  # the API has said what it takes
    framed = frame(original, bundle.settings, bundle.latent_shape)
    measures = None if gate is None else gate_measures(gate, measure_quality(original, bundle.settings))
    unfit = () if gate is None or measures is None else check_limits(gate, measures)
    tiles = framed.tiles
    single = framed.model_input(tiles[0]) if len(tiles) == 1 and not unfit else None
    return PreparedInspection(
        bundle=bundle,
        framed=framed,
        overlay_ground=overlay_ground(original),
        decode_ms=(time.perf_counter() - began) * 1e3,
        single=single,
        unfit=unfit,
        measures=measures,
    )


def render_pictures(
    image: PreparedInspection,
    anomaly_map: NDArray[np.float32],
    reconstruction: Pixels | None,
    pixel_threshold: float,
    *,
    at_once: bool,
) -> RenderedPictures:
    """Return regions and files, all in the original's aspect, of an image that was inspected.

    Args:
        image: as it was before its lanes.
        anomaly_map: of the placement's plane.
        reconstruction: of the plane too; None: it was not made.
        pixel_threshold: map value from which a pixel is defective.
        at_once: all pictures; else a drawing alone, and a reconstruction that was made anyway.
    """
    placement, top = image.framed.layout.placement, image.bundle.manifest.thresholds.heatmap_top
    drawing = Drawing(np.ascontiguousarray(placement.restore(anomaly_map)), top, pixel_threshold)
    files: dict[StoredName, bytes] = {} if at_once else {DRAWING: drawing.to_bytes()}
    if reconstruction is not None:
        files[RECONSTRUCTION] = draw_reconstruction(image, reconstruction)
    for name in DRAWN_NAMES if at_once else ():
        files[name] = drawing.draw(name, image.overlay_ground)
    x, y, peak = hottest_place(drawing.map, placement)
    return RenderedPictures(
        regions=tuple(defect_regions(drawing.map, pixel_threshold, placement)),
        hottest=HottestPlace(x=x, y=y, peak=peak),
        files=files,
        artifacts=(*DRAWN_NAMES, RECONSTRUCTION),
    )


def draw_reconstruction(image: PreparedInspection, reconstruction: Pixels) -> bytes:
    """Return the picture of a reconstruction of the plane, in the original's aspect."""
    return to_png(np.ascontiguousarray(image.framed.layout.placement.restore(reconstruction)))
