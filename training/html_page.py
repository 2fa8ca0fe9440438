"""Pages that are one file: Jinja2 templates of `training/templates`, pictures inlined, no script from anywhere."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

TEMPLATES = Path(__file__).parent / "templates"
JPEG_QUALITY = 90


def render_template(template: str, **values: Any) -> str:
    """Return one of `training/templates`, filled; in a page of HTML every value is escaped."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=".html" in template,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def data_url(kind: str, content: bytes) -> str:
    """Return the data URL by which a page holds a picture itself.

    Args:
        kind: png or jpeg.
        content: the bytes of the picture's file.
    """
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def as_jpeg(pixels: NDArray[np.uint8], *, quality: int = JPEG_QUALITY, longest: int | None = None) -> bytes:
    """Return a picture (H, W, 3) as the bytes of a JPEG file.

    Args:
        pixels: of the picture.
        quality: of the JPEG.
        longest: a picture that is longer is made smaller; None: none is.
    """
    buffer, image = BytesIO(), Image.fromarray(pixels)
    if longest is not None:
        image.thumbnail((longest, longest))
    image.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def as_png(figure: Figure) -> bytes:
    """Return the figure as the bytes of a PNG file."""
    buffer = BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()
