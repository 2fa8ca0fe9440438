"""A seeded camera over a machined bracket: good parts, six defects in three severities, and exact masks."""

from training.sample_product.dataset import write_dataset
from training.sample_product.flaws import DEFECTS, SEVERITIES
from training.sample_product.geometry import SIDE
from training.sample_product.renderer import RENDERER_VERSION, Lamp, RenderedPart, contact_sheet, render, render_empty

__all__ = [
    "DEFECTS",
    "RENDERER_VERSION",
    "SEVERITIES",
    "SIDE",
    "Lamp",
    "RenderedPart",
    "contact_sheet",
    "render",
    "render_empty",
    "write_dataset",
]
