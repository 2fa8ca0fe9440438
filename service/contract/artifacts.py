"""The files of an inspection, by name."""

from __future__ import annotations

from typing import Literal, get_args

ArtifactName = Literal["heatmap.png", "overlay.png", "reconstruction.png", "mask.png", "map.npy", "image"]
ARTIFACT_NAMES: tuple[ArtifactName, ...] = get_args(ArtifactName)
IMAGE: ArtifactName = "image"


def artifact_links(inspection_id: str, names: tuple[ArtifactName, ...]) -> dict[ArtifactName, str]:
    """name -> path on this service, in the order of the contract."""
    return {name: f"/v1/inspections/{inspection_id}/{name}" for name in ARTIFACT_NAMES if name in names}
