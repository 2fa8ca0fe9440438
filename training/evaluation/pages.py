"""Self-contained HTML pages: templates and embedded pictures."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def render(template: str, **values: Any) -> str:
    """One of `training/evaluation/templates`, filled and escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def embedded(kind: str, content: bytes) -> str:
    """A picture, as png or jpeg, as the address by which a page holds it itself."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
